"""The plan is the whole step: each unit runs for each microbatch, once, on its stage's rank and in its place.

The model's first units may be frozen; they run FORWARD alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.ir.kinds import UNIT_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.verify.happens_before import Flags, HappensBefore
from loadahead.sim.verify.names import Names
from loadahead.sim.verify.naming import is_kind
from loadahead.sim.verify.violation import Violation, title

_NONE = -1
_RELEASE, _ACQUIRE = int(Kind.RELEASE), int(Kind.ACQUIRE)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Holds the position of each task, by the number of its unit and microbatch; -1 where there is none.

    Attributes:
        names: what operations and buffers name.
        code: each operation's ``unit * microbatches + microbatch``, -1 where it names none; shape (operations,).
        forward, recompute, backward, weight: shape (units * microbatches,); ``backward`` has the BACKWARD or the
            BACKWARD_INPUT, ``weight`` the BACKWARD_WEIGHT.
        unit_rank: the rank of each unit's stage; shape (units,).
    """

    names: Names
    code: Ints
    forward: Ints
    recompute: Ints
    backward: Ints
    weight: Ints
    unit_rank: Ints


def step_of(plan: Plan, names: Names) -> tuple[Step | None, list[Violation]]:
    """Return the step's tasks; None, and why, where one is missing, runs twice or is not to run."""
    if not 0 <= plan.frozen_units < names.units:
        text = (
            f"the plan says frozen_units = {plan.frozen_units} and has {names.units} units; 0 to {names.units - 1} "
            "may be frozen"
        )
        return None, [Violation("frozen-front", text, ())]
    code = np.where(names.of_op >= 0, names.of_op * names.microbatches + plan.ops.microbatch, _NONE)
    broken = [*_frozen(plan, names), *_missing(plan, names, code), *_twice(plan, code)]
    if broken:
        return None, broken
    runs = names.units * names.microbatches

    def table(*kinds: Kind) -> Ints:
        out, ops = np.full(runs, _NONE, dtype=np.int64), np.flatnonzero(is_kind(plan, *kinds))
        out[code[ops]] = ops
        return out

    # A stage is on the rank of its first task.
    stage_rank = np.empty(int(names.unit_names[-1, 0]) + 1, dtype=np.int64)
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))[::-1]
    stage_rank[plan.ops.stage[tasks]] = plan.ops.rank[tasks]
    backward = table(Kind.BACKWARD, Kind.BACKWARD_INPUT)
    tables = (table(Kind.FORWARD), table(Kind.RECOMPUTE), backward, table(Kind.BACKWARD_WEIGHT))
    return Step(names, code, *tables, stage_rank[names.unit_names[:, 0]]), []


def _frozen(plan: Plan, names: Names) -> Iterator[Violation]:
    """Yield what a frozen unit must not have: nothing is trained there, and its boundary is not needed again."""
    odd = (names.of_op >= 0) & (names.of_op < plan.frozen_units)
    odd &= is_kind(plan, *UNIT_KINDS[1:], Kind.OFFLOAD, Kind.PREFETCH)
    for op in np.flatnonzero(odd).tolist():
        text = (
            f"{title(plan, op)} is of a frozen unit, one of the first {plan.frozen_units}, which have a FORWARD alone"
        )
        yield Violation("frozen-front", text, (op,))


def _missing(plan: Plan, names: Names, code: Ints) -> Iterator[Violation]:
    """Yield a violation for each unit and kind of task that does not run for each microbatch.

    The head may say any number of microbatches: there is no table before there are as many tasks.
    """
    whole, halves = is_kind(plan, Kind.BACKWARD), is_kind(plan, Kind.BACKWARD_INPUT)
    wanted = (
        ("FORWARD", 0, is_kind(plan, Kind.FORWARD)),
        ("BACKWARD", plan.frozen_units, whole | halves),
        ("BACKWARD_WEIGHT", None, halves),
    )
    for kind, first, there in wanted:
        if first is None:
            yield from _halves_alone(plan, code, there)
            continue
        runs = (names.units - first) * names.microbatches
        ops = np.flatnonzero(there & (names.of_op >= first))
        if len(ops) >= runs:
            named = np.zeros(runs, dtype=np.bool_)
            named[code[ops] - first * names.microbatches] = True
            if named.all():
                continue
        yield from _gaps(plan, names, kind, first, np.unique(code[ops]))


def _gaps(plan: Plan, names: Names, kind: str, first: int, codes: Ints) -> Iterator[Violation]:
    starts = np.searchsorted(codes, np.arange(names.units + 1) * names.microbatches)
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    tasks = tasks[np.argsort(names.of_op[tasks], kind="stable")]
    begin = np.searchsorted(names.of_op[tasks], np.arange(names.units + 1))
    for unit in (first + np.flatnonzero(np.diff(starts)[first:] < names.microbatches)).tolist():
        own = codes[starts[unit] : starts[unit + 1]] - unit * names.microbatches
        differ = np.flatnonzero(own != np.arange(len(own)))
        gap = int(differ[0]) if len(differ) else len(own)
        near = tasks[begin[unit] : begin[unit + 1]]
        same = near[plan.ops.microbatch[near] == gap]
        op = int(same[0]) if len(same) else int(near[0])
        stage, number = names.unit_names[unit].tolist()
        text = (
            f"{kind} {stage}.{number}.{gap} is missing: {kind} of {names.name(unit)} is there for {len(own)} of "
            f"{names.microbatches} microbatches; {title(plan, op)} is of the same unit"
        )
        yield Violation("whole-step", text, (op,))


def _halves_alone(plan: Plan, code: Ints, halves: Flags) -> Iterator[Violation]:
    """Yield each BACKWARD_INPUT without its BACKWARD_WEIGHT, and the other way round."""
    inputs, weights = np.flatnonzero(halves), np.flatnonzero(is_kind(plan, Kind.BACKWARD_WEIGHT))
    for ops, others, other in (
        (inputs, weights, "BACKWARD_WEIGHT"),
        (weights, inputs, "BACKWARD_INPUT"),
    ):
        for op in ops[~np.isin(code[ops], code[others])].tolist():
            yield Violation("whole-step", f"{title(plan, op)} has no {other} of its unit and microbatch", (op,))


def _twice(plan: Plan, code: Ints) -> Iterator[Violation]:
    """Yield each task that runs, and each transfer that is sent, a second time."""
    kinds = [(kind,) for kind in (*UNIT_KINDS, Kind.SEND_ACTIVATION, Kind.SEND_GRADIENT) if kind != Kind.BACKWARD]
    for group in [*kinds, (Kind.BACKWARD, Kind.BACKWARD_INPUT)]:
        ops = np.flatnonzero(is_kind(plan, *group) & (code >= 0))
        codes = code[ops]
        if not len(ops) or _differ(codes, len(plan)):
            continue
        order = np.argsort(codes, kind="stable")
        again = np.flatnonzero(codes[order][1:] == codes[order][:-1])
        for index in again.tolist():
            first, second = int(ops[order[index]]), int(ops[order[index + 1]])
            text = f"{title(plan, second)} runs the task of {title(plan, first)} again"
            yield Violation("task-once", text, (first, second))


def _differ(codes: Ints, room: int) -> bool:
    """Return whether no number is there twice; False, too, where counting them would need more room than this."""
    return int(codes.max()) < room and int(np.bincount(codes).max()) == 1


def one_rank_per_stage(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that all tasks of a stage are on one rank."""
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    odd = tasks[plan.ops.rank[tasks] != step.unit_rank[step.names.of_op[tasks]]].tolist()
    firsts = np.unique(plan.ops.stage[tasks], return_index=True)[1] if odd else np.empty(0, dtype=np.int64)
    for op in odd:
        stage = int(plan.ops.stage[op])
        first = int(tasks[firsts[stage]])
        text = f"{title(plan, op)} is on another rank than {title(plan, first)}; stage {stage} is on one rank"
        yield Violation("stage-rank", text, (first, op))


def backward_follows_forward(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that RECOMPUTE and BACKWARD wait for their FORWARD, and a BACKWARD_WEIGHT for its BACKWARD_INPUT."""
    pairs = ((step.forward, step.recompute), (step.forward, step.backward), (step.backward, step.weight))
    a, b = (np.concatenate(tables) for tables in zip(*pairs, strict=True))
    there = (a >= 0) & (b >= 0)
    a, b = a[there], b[there]
    for index in np.flatnonzero(~order.ordered(a, b)).tolist():
        pair = (int(a[index]), int(b[index]))
        message = f"{title(plan, pair[1])} does not wait for {title(plan, pair[0])}"
        yield Violation("backward-after-forward", message, pair)


@compiled
def _before(ops, previous, kind, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with what stands before each of ``ops`` on its queue, RELEASEs and then ACQUIREs left out, or -1."""
    for k in range(len(ops)):
        at = previous[ops[k]]
        while at >= 0 and kind[at] == _ACQUIRE:
            at = previous[at]
        while at >= 0 and kind[at] == _RELEASE:
            at = previous[at]
        out[k] = at


def stands_before(plan: Plan, ops: Ints) -> Ints:
    """Return what stands before each of the operations on its queue, or -1.

    RELEASEs and behind them ACQUIREs are left out, which are no tasks. Behind an ACQUIRE a RELEASE is not: what is held
    at once, with what the operation before the two has made, would then be counted nowhere.
    """
    out = np.empty(len(ops), dtype=np.int64)
    _before(ops, plan.previous_in_queue, plan.ops.kind, out)
    return out


def recompute_before_backward(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a RECOMPUTE stands directly before its BACKWARD: what it makes outlives no other operation."""
    recomputed = step.recompute >= 0
    recompute, backward = step.recompute[recomputed], step.backward[recomputed]
    before = stands_before(plan, backward)
    for index in np.flatnonzero(before != recompute).tolist():
        pair, between = (int(recompute[index]), int(backward[index])), int(before[index])
        text = f"{title(plan, pair[0])} does not stand directly before {title(plan, pair[1])}: "
        text += f"{title(plan, between)} does" if between >= 0 else "nothing does"
        yield Violation("recompute-place", f"{text}; only RELEASEs, and ACQUIREs behind them, may stand between", pair)


WHOLE_STEP: tuple[Callable[[Plan, Step, HappensBefore], Iterator[Violation]], ...] = (
    one_rank_per_stage,
    backward_follows_forward,
    recompute_before_backward,
)
