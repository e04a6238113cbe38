"""Operations and buffers name a stage, a unit and a microbatch; here the units are numbered through the whole model.

A stranger's plan may name what it likes: no name, however large, costs memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.sim.ir.kinds import UNIT_KINDS, Kind
from loadahead.sim.ir.plan import Buffers, Ints, Ops, Plan
from loadahead.sim.verify.happens_before import Flags
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.pairs import owner
from loadahead.sim.verify.violation import Violation, title


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Says which of the model's units each operation and each buffer names.

    Attributes:
        microbatches: how many microbatches the step has.
        unit_names: stage and unit of each of the model's units; shape (units, 2).
        of_op: the unit's number in the model, -1 where the operation names none; shape (operations,).
        of_buffer: the same of the buffers; shape (buffers,).
    """

    microbatches: int
    unit_names: Ints
    of_op: Ints
    of_buffer: Ints

    @property
    def units(self) -> int:
        """Return how many units the model has."""
        return len(self.unit_names)

    def name(self, unit: int) -> str:
        """Return a unit's name, e.g. ``unit 1.0``."""
        stage, number = self.unit_names[unit].tolist()
        return f"unit {stage}.{number}"


def names_of(plan: Plan) -> tuple[Names | None, list[Violation]]:
    """Return what the plan's rows name; None, and why, where a name is out of range or the tasks' names have gaps."""
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    if not len(tasks):
        return None, [Violation("whole-step", "the plan has no task: no unit runs for any microbatch", ())]
    broken = list(_odd_tasks(plan, tasks))
    units = None if broken else _units(plan, tasks, broken)
    if units is None:
        return None, broken
    first = np.cumsum(units) - units
    of_op, odd = _numbers(plan.ops, units, first, plan.microbatches)
    broken += _odd_operations(plan, odd, of_op)
    of_buffer, odd = _numbers(plan.buffers, units, first, plan.microbatches)
    broken += _odd_buffers(plan, odd)
    if broken:
        return None, broken
    stage = np.repeat(np.arange(len(units)), units)
    unit_names = np.stack([stage, np.arange(len(stage)) - first[stage]], axis=1)
    return Names(plan.microbatches, unit_names, of_op, of_buffer), []


_OPTIMIZER = "it is the whole rank's: -1 for each of stage, unit and microbatch"
_ALLOWED = "name a unit and a microbatch of the step, or none with -1 for each of stage, unit and microbatch"


def _odd_tasks(plan: Plan, tasks: Ints) -> Iterator[Violation]:
    ops = plan.ops
    stage, unit, microbatch = ops.stage[tasks], ops.unit[tasks], ops.microbatch[tasks]
    odd = (stage < 0) | (unit < 0) | (microbatch < 0) | (microbatch >= plan.microbatches)
    for op in tasks[odd].tolist():
        view = plan.op(op)
        where = f"stage {view.stage}, unit {view.unit}, microbatch {view.microbatch}"
        text = (
            f"{title(plan, op)} names {where}; a task names a stage and a unit from 0 on and one of microbatches 0 to "
            f"{plan.microbatches - 1}"
        )
        yield Violation("labels", text, (op,))


def _units(plan: Plan, tasks: Ints, broken: list[Violation]) -> Ints | None:
    """Return how many units each stage has by its tasks; None, with the violation, where a number is left out."""
    stage, unit = (column[tasks].astype(np.int64) for column in (plan.ops.stage, plan.ops.unit))
    gap = _first_gap(stage)
    if gap is not None:
        op = int(tasks[gap.behind])
        text = f"{title(plan, op)} names stage {plan.op(op).stage} and no task names stage {gap.number}; {_NO_GAPS}"
        broken.append(Violation("labels", text, (op,)))
        return None
    units = np.zeros(int(stage.max()) + 1, dtype=np.int64)
    np.maximum.at(units, stage, unit + 1)
    named = np.zeros(min(int(units.sum()), len(tasks) + 1), dtype=np.bool_)
    if len(named) <= len(tasks):
        named[(np.cumsum(units) - units)[stage] + unit] = True
        if named.all():
            return units
    order = np.lexsort((unit, stage))
    again = (np.diff(stage[order], prepend=-1) == 0) & (np.diff(unit[order], prepend=-1) == 0)
    short = np.flatnonzero(np.bincount(stage[order][~again], minlength=len(units)) < units)
    own = np.flatnonzero(stage == short[0])
    gap = _first_gap(unit[own])
    assert gap is not None, "there are fewer units than the highest says"
    op = int(tasks[own[gap.behind]])
    text = (
        f"{title(plan, op)} names unit {plan.op(op).unit} of stage {int(short[0])} and no task names unit {gap.number}"
    )
    broken.append(Violation("labels", f"{text}; {_NO_GAPS}", (op,)))
    return None


_NO_GAPS = "stages, and the units of a stage, are numbered from 0 on without gaps"


@dataclass(frozen=True, slots=True)
class _Gap:
    """Holds the lowest number that is left out, and where the next one that is there stands."""

    number: int
    behind: int


def _first_gap(numbers: Ints) -> _Gap | None:
    """Return the first gap in numbers that should be 0, 1, 2, ..., each at least once; None where there is none."""
    if int(numbers.max()) < len(numbers):
        there = np.zeros(int(numbers.max()) + 1, dtype=np.bool_)
        there[numbers] = True
        if there.all():
            return None
    values, first = np.unique(numbers, return_index=True)
    at = int(np.flatnonzero(values != np.arange(len(values)))[0])
    return _Gap(at, int(first[at]))


def _numbers(rows: Ops | Buffers, units: Ints, first: Ints, microbatches: int) -> tuple[Ints, Flags]:
    """Return the number of the unit that each row names, or -1, and whether it names what there is not."""
    stage, unit, microbatch = rows.stage, rows.unit, rows.microbatch
    nothing = (stage == -1) & (unit == -1) & (microbatch == -1)
    inside = (stage >= 0) & (stage < len(units)) & (unit >= 0) & (microbatch >= 0) & (microbatch < microbatches)
    known = np.where(inside, stage, 0)
    inside &= unit < units[known]
    out: Ints = np.where(inside, first[known] + unit, -1)
    return out, ~(inside | nothing)


def _odd_buffers(plan: Plan, odd: Flags) -> Iterator[Violation]:
    if not odd.any():
        return
    taken = owner(plan.ops.allocs, len(plan.buffers))
    for buffer in np.flatnonzero(odd).tolist():
        text = f"{buffer_name(plan, buffer)} names a unit or a microbatch that no task can have; {_ALLOWED}"
        yield Violation("labels", text, (int(taken[buffer]),) if taken[buffer] >= 0 else ())


def _odd_operations(plan: Plan, odd: Flags, of_op: Ints) -> Iterator[Violation]:
    for op in np.flatnonzero(odd).tolist():
        view = plan.op(op)
        where = f"stage {view.stage}, unit {view.unit}, microbatch {view.microbatch}"
        allowed = _OPTIMIZER if view.kind == Kind.OPTIMIZER_STEP else _ALLOWED
        yield Violation("labels", f"{title(plan, op)} names {where}; {allowed}", (op,))
    for op in np.flatnonzero((plan.ops.kind == Kind.OPTIMIZER_STEP) & (of_op >= 0)).tolist():
        yield Violation("labels", f"{title(plan, op)} names a unit; {_OPTIMIZER}", (op,))
