"""Decisions say, per boundary, whether it stays on the GPU or leaves, and where its RELEASE and its ACQUIRE stand.

Places are *slots*: slot k lies directly before the task at place k of the rank's compute queue, counted in tasks (a
RECOMPUTE and its BACKWARD are one), and slot ``tasks`` before the OPTIMIZER_STEP. Within a slot RELEASE comes before
ACQUIRE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged

# What is done with the activations inside a unit: RECOMPUTE makes them again, or they stay from FORWARD to BACKWARD.
RECOMPUTE, KEEP = "recompute", "keep"
MODES = (RECOMPUTE, KEEP)
# The slot of a boundary that stays.
STAYS = -1
_LARGEST = 2**31 - 1
_KEYS = ("stage", "unit", "microbatch", "release", "acquire")


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Holds the decisions on some boundaries, each named by stage, unit and microbatch; all of shape (boundaries,).

    ``release`` and ``acquire`` hold slots, both -1 where the boundary stays. ``recompute`` says whether the unit's
    activations are made again for that microbatch.
    """

    stage: Ints
    unit: Ints
    microbatch: Ints
    recompute: npt.NDArray[np.bool_]
    release: Ints
    acquire: Ints

    def __len__(self) -> int:
        return len(self.stage)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decisions):
            return NotImplemented
        return all(map(np.array_equal, self._columns(), other._columns()))

    __hash__ = None  # type: ignore[assignment]

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.stage, self.unit, self.microbatch, self.recompute, self.release, self.acquire

    @classmethod
    def of(cls, plan: Plan) -> Decisions:
        """Return what a plan decides on each boundary, see :func:`decisions_of`."""
        if not isinstance(plan, Plan):
            raise InputError(f"the plan is of type {type(plan).__name__}; it must be a plan")
        return decisions_of(plan)

    @property
    def offloaded(self) -> int:
        """Return how many boundaries leave the GPU."""
        return int((self.acquire >= 0).sum())

    @property
    def kept(self) -> int:
        """Return how many boundaries stay."""
        return len(self) - self.offloaded

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], source: str = "decisions") -> Self:
        """Return the decisions of rows as a plan file has them; raise InputError where one is malformed.

        Each has ``stage``, ``unit``, ``microbatch``, ``release`` and ``acquire``, and may have ``mode``.
        """
        given: object = rows
        is_scalar = isinstance(given, np.ndarray) and given.ndim == 0  # which calls itself iterable
        if isinstance(given, str | bytes | Mapping) or is_scalar or not isinstance(given, Iterable):
            raise InputError(f"{source}: is of type {type(rows).__name__}; it must be a list of objects")
        read = [_read_row(row, f"{source}[{number}]") for number, row in enumerate(rows)]
        columns = np.asarray([row[:5] for row in read], dtype=np.int64).reshape(len(read), 5).T
        stage, unit, microbatch, release, acquire = columns
        recompute = np.asarray([row[5] for row in read], dtype=np.bool_)
        return cls(stage, unit, microbatch, recompute, release, acquire).checked(source)

    def checked(self, source: str = "decisions") -> Self:
        """Return the decisions themselves; raise InputError unless each is whole and there once."""
        columns: tuple[object, ...] = self._columns()
        kinds = ("iu", "iu", "iu", "b", "iu", "iu")
        for column, kind in zip(columns, kinds, strict=True):
            if not isinstance(column, np.ndarray) or column.ndim != 1 or column.dtype.kind not in kind:
                raise InputError(
                    f"{source}: are no columns of integers, and of booleans for recompute; make decisions of rows"
                )
        if len({len(column) for column in self._columns()}) > 1:
            raise InputError(f"{source}: have columns of different lengths; make decisions of rows")
        half = np.flatnonzero((self.release < 0) != (self.acquire < 0))
        if len(half):
            at = int(half[0])
            raise InputError(f"{source}[{at}]: {_half(int(self.release[at]), int(self.acquire[at]))}")
        names = np.stack([self.stage, self.unit, self.microbatch], axis=1)
        twice = _twice(names)
        if twice is not None:
            name = ".".join(map(str, names[twice].tolist()))
            raise InputError(f"{source}[{twice}]: boundary {name} is there twice; decide on it once")
        return self

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the decisions as a plan file has them (DESIGN, section 3)."""
        for stage, unit, microbatch, recompute, release, acquire in zip(
            *(column.tolist() for column in self._columns()), strict=True
        ):
            yield {
                "stage": stage,
                "unit": unit,
                "microbatch": microbatch,
                "mode": RECOMPUTE if recompute else KEEP,
                "release": release,
                "acquire": acquire,
            }


def _half(release: int, acquire: int) -> str:
    return f"release is {release} and acquire {acquire}; give both slots, or {STAYS} twice for a boundary that stays"


def _read_row(row: object, where: str) -> tuple[int, int, int, int, int, bool]:
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is {row!r:.60}; it must be an object with {', '.join(_KEYS)}")
    odd = [key for key in row if key not in (*_KEYS, "mode")]
    if odd:
        raise InputError(f"{where}: key {odd[0]!r:.40} is unknown; the keys are {', '.join((*_KEYS, 'mode'))}")
    values = []
    for key in _KEYS:
        value, lowest = row.get(key), STAYS if key in ("release", "acquire") else 0
        if isinstance(value, np.integer):
            value = int(value)
        if type(value) is not int or not lowest <= value <= _LARGEST:
            raise InputError(f"{where}: {key} is {value!r:.40}; it must be an integer from {lowest} to {_LARGEST}")
        values.append(value)
    mode = row.get("mode", RECOMPUTE)
    if not isinstance(mode, str) or mode not in MODES:
        raise InputError(f"{where}: mode is {mode!r:.40}; it must be one of {', '.join(MODES)}")
    stage, unit, microbatch, release, acquire = values
    if (release == STAYS) != (acquire == STAYS):
        raise InputError(f"{where}: {_half(release, acquire)}")
    return stage, unit, microbatch, release, acquire, mode == RECOMPUTE


def _twice(names: Ints) -> int | None:
    """Return the first row that was there before; None where all differ."""
    order = np.lexsort(names.T)
    again = (names[order[1:]] == names[order[:-1]]).all(axis=1)
    return int(order[1:][again].min()) if again.any() else None


class DecisionsDisagree(InputError):
    """A file's decisions are not what its operations do. ``plan`` is that of the operations."""

    plan: Plan


def require_agreement(said: Decisions, plan: Plan, source: str) -> None:
    """Raise DecisionsDisagree, which names the boundary, unless decisions say what the plan's operations do.

    A boundary that they do not name stays. ``source`` begins the error's line.
    """
    done = decisions_of(plan)
    if said == done:
        return
    said.checked(source)
    actions = {_boundary(row): _action(row) for row in done.rows()}
    for number, row in enumerate(said.rows()):
        name, action = _boundary(row), actions.pop(_boundary(row), None)
        if action != _action(row):
            what = f"the operations say to {action}" if action else "the operations have no such boundary"
            raise _disagree(plan, f"{source}[{number}]: boundary {name} is to {_action(row)} and {what}")
    left = next(((name, action) for name, action in actions.items() if _LEAVES in action), None)
    if left is not None:
        raise _disagree(plan, f"{source}: boundary {left[0]} is not named, and the operations say to {left[1]}")


def _disagree(plan: Plan, what: str) -> DecisionsDisagree:
    error = DecisionsDisagree(f"{what}; {_MEND}")
    error.plan = plan
    return error


_LEAVES = "leave"
_MEND = "a file's decisions say what its operations do, correct one of the two or leave decisions out"


def _boundary(row: Mapping[str, Any]) -> str:
    return f"{row['stage']}.{row['unit']}.{row['microbatch']}"


def _action(row: Mapping[str, Any]) -> str:
    """Return in words what a row says, e.g. ``leave in slots 3 to 7 (recompute)``."""
    stays = row["release"] == row["acquire"] == STAYS
    where = "stay" if stays else f"{_LEAVES} in slots {row['release']} to {row['acquire']}"
    return f"{where} ({row['mode']})"


def decisions_of(plan: Plan) -> Decisions:
    """Return what a plan decides on each boundary, read off its operations, in the order of stage, unit, microbatch.

    On the boundaries of frozen units there is nothing to decide: their FORWARD frees them.
    """
    ops, names = plan.ops, _names(plan)
    forwards = np.flatnonzero((ops.kind == Kind.FORWARD) & ~plan.is_frozen)
    known, first = np.unique(names[forwards], return_index=True)
    forwards = forwards[first]
    slots = _slots(plan)
    release, acquire = (np.full(len(known), STAYS, dtype=np.int64) for _ in range(2))
    for out, kind, copied, column in (
        (release, Kind.OFFLOAD, ops.reads, ops.frees),
        (acquire, Kind.PREFETCH, ops.writes, ops.allocs),
    ):
        rows, slot = _slots_of(plan, kind, copied, column, slots)
        at, there = _find(known, names[rows])
        out[at[there]] = slot[there]
    stays = (release == STAYS) | (acquire == STAYS)
    release[stays] = acquire[stays] = STAYS
    stage, unit, microbatch = (column[forwards].astype(np.int64) for column in (ops.stage, ops.unit, ops.microbatch))
    return Decisions(stage, unit, microbatch, np.isin(known, names[ops.kind == Kind.RECOMPUTE]), release, acquire)


def _names(plan: Plan) -> Ints:
    """Return one number for each operation's (stage, unit, microbatch), in their order; shape (operations,)."""
    out = np.zeros(len(plan), dtype=np.int64)
    for column in (plan.ops.stage, plan.ops.unit, plan.ops.microbatch):
        values, code = np.unique(column, return_inverse=True)
        out = out * len(values) + code
    return out


def _find(known: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return where each wanted number stands among the known ones, which are sorted, and whether it does."""
    at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    return at, known[at] == wanted if len(known) else np.zeros(len(wanted), dtype=np.bool_)


def _slots(plan: Plan) -> Ints:
    """Return how many tasks stand before each operation of a compute queue; shape (operations,)."""
    ops, out = plan.ops, np.zeros(len(plan), dtype=np.int64)
    ends_task = np.isin(ops.kind, [Kind.FORWARD, Kind.BACKWARD, Kind.BACKWARD_INPUT])
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        out[own] = np.cumsum(ends_task[own]) - ends_task[own]
    return out


def _slots_of(plan: Plan, kind: Kind, copied: Ragged, column: Ragged, slots: Ints) -> tuple[Ints, Ints]:
    """Return the copies of a kind, and the slot in which the compute queue takes or frees the boundary of each."""
    rows, buffers = copied.rows(), copied.values
    own = (plan.ops.kind[rows] == kind) & (plan.buffers.space[buffers] == Space.DEVICE)
    own &= plan.buffers.role[buffers] == Role.BOUNDARY
    slot_of = np.full(len(plan.buffers), STAYS, dtype=np.int64)
    slot_of[column.values] = slots[column.rows()]
    return rows[own], slot_of[buffers[own]]
