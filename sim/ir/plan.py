"""The plan (schedule IR) is held in columns.

A plan says what every rank does and in what order; it holds no times. Its operations and buffers are numpy
columns, and the lists that an operation carries (``after``, ``reads``, ``writes``, ``allocs``, ``frees``) are
ragged columns (:class:`Ragged`), so a plan of millions of operations costs no Python object per operation.
:class:`OpView` and :class:`BufferView` are light row views for people and tests.

Columns refer to operations and buffers by *position* (0-based, list order). The ids of a plan file may be
any distinct integers; ``op_ids`` and ``buffer_ids`` keep them, and the plans we make use the positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loadahead.sim.ir.kinds import QUEUES_PER_RANK, UNIT_KINDS, Kind, Queue, Role, Space
from loadahead.sim.shown import Shown
from loadahead.sim.units import counted

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int8]
# A plan file has at most 65,536 ranks, each with a few stages. A larger number is a label, which must cost no memory.
MOST_STAGES = 2**20


@dataclass(frozen=True, slots=True)
class Ragged:
    """Holds a column of integer lists: row ``i`` is ``values[starts[i]:starts[i + 1]]``.

    ``starts`` has shape (rows + 1,), ``values`` has shape (entries,).
    """

    starts: Ints
    values: SmallInts | Ints

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        """Return the column whose rows are these lists of positions."""
        starts = [0]
        values: list[int] = []
        for row in rows:
            values.extend(row)
            starts.append(len(values))
        return cls(np.asarray(starts, dtype=np.int64), np.asarray(values, dtype=np.int32))

    @classmethod
    def from_ids(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Return the column whose rows are these lists of ids, which may need 64 bits.

        :func:`loadahead.sim.ir.wellformed.positions` turns the ids into positions of 32 bits.
        """
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        return cls(starts.astype(np.int64), np.asarray([v for row in rows for v in row], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> SmallInts | Ints:
        return self.values[self.starts[row] : self.starts[row + 1]]

    def to_lists(self) -> list[list[int]]:
        """Return the rows as lists."""
        values, starts = self.values.tolist(), self.starts.tolist()
        return [values[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]

    def rows(self) -> Ints:
        """Return the row of each entry; shape (entries,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.starts))

    def with_entries(self, rows: Ints, values: Ints) -> Ragged:
        """Return the column with each value added at the end of its row, in the order given; shape (entries,)."""
        if not len(rows):
            return self
        all_rows = np.concatenate([self.rows(), rows])
        order = np.argsort(all_rows, kind="stable")
        together = np.concatenate([self.values, values.astype(self.values.dtype)])[order]
        counts = np.bincount(all_rows, minlength=len(self))
        return Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), together)


@dataclass(frozen=True, slots=True)
class Buffers:
    """Holds the buffers' columns, each of shape (buffers,)."""

    rank: SmallInts
    space: Codes
    nbytes: Ints
    role: Codes
    stage: SmallInts
    unit: SmallInts
    microbatch: SmallInts

    def __len__(self) -> int:
        return len(self.rank)


@dataclass(frozen=True, slots=True)
class Ops:
    """Holds the operations' columns in list order, each of shape (operations,); lists are :class:`Ragged`."""

    rank: SmallInts
    queue: Codes
    kind: Codes
    stage: SmallInts
    unit: SmallInts
    microbatch: SmallInts
    nbytes: Ints
    after: Ragged
    reads: Ragged
    writes: Ragged
    allocs: Ragged
    frees: Ragged

    def __len__(self) -> int:
        return len(self.rank)


@dataclass(frozen=True, slots=True)
class BufferView:
    """Shows one row of :class:`Buffers`."""

    index: int
    rank: int
    space: Space
    nbytes: int
    role: Role
    stage: int
    unit: int
    microbatch: int


@dataclass(frozen=True, slots=True)
class OpView:
    """Shows one row of :class:`Ops`; the lists hold positions."""

    index: int
    rank: int
    queue: Queue
    kind: Kind
    stage: int
    unit: int
    microbatch: int
    nbytes: int
    after: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    allocs: tuple[int, ...]
    frees: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return ``FORWARD stage.unit.microbatch``, or the kind alone where there is no microbatch, for messages."""
        if self.microbatch < 0:
            return self.kind.name
        return f"{self.kind.name} {self.stage}.{self.unit}.{self.microbatch}"


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """Holds what every rank does and in what order; the module's text says how columns refer to each other.

    The model's first ``frozen_units`` units have a FORWARD alone.
    """

    name: str
    ranks: int
    microbatches: int
    ops: Ops
    buffers: Buffers
    policy: dict[str, Any] = field(default_factory=dict)
    op_ids: Ints | None = None
    buffer_ids: Ints | None = None
    frozen_units: int = 0

    def __post_init__(self) -> None:
        """Close the columns: what is proven of a plan must stay true of it."""
        for part in (self.ops, self.buffers):
            for column in (getattr(part, slot) for slot in part.__slots__):
                for array in (column.starts, column.values) if isinstance(column, Ragged) else (column,):
                    array.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Let copies and pickles be made as plans are, with their columns closed."""
        return Plan, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return len(self.ops)

    def _in_a_line(self) -> str:
        """Return the plan's name and size, and how many boundaries it offloads."""
        offloads = int(np.count_nonzero(self.ops.kind == Kind.OFFLOAD))
        sizes = [counted(self.ranks, "rank"), f"{self.microbatches} microbatch{'es' * (self.microbatches != 1)}"]
        return f" {self.name!r}: {', '.join([*sizes, counted(len(self), 'operation'), counted(offloads, 'offload')])}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per operation, in the plan's order; a plan holds no times.

        Columns: ``op``, its id in the plan's file; ``rank``; ``queue`` and ``kind``, in words; ``stage``, ``unit`` and
        ``microbatch``, -1 where it has none; ``nbytes``, what it moves, in bytes.
        """
        import pandas as pd

        ops = self.ops
        queues, kinds = ([*words] for words in ((queue.label for queue in Queue), (kind.name for kind in Kind)))
        return pd.DataFrame(
            {
                "op": np.arange(len(self), dtype=np.int64) if self.op_ids is None else self.op_ids,
                "rank": ops.rank,
                "queue": np.asarray(queues, dtype=object)[ops.queue],
                "kind": np.asarray(kinds, dtype=object)[ops.kind],
                "stage": ops.stage,
                "unit": ops.unit,
                "microbatch": ops.microbatch,
                "nbytes": ops.nbytes,
            }
        )

    @property
    def sentence(self) -> str | None:
        """Return the sentence on what the plan offloads and why the rest stays; None where the plan has none."""
        found = self.policy.get("sentence")
        return found if isinstance(found, str) else None

    def op(self, index: int) -> OpView:
        """Return the operation at a position."""
        o = self.ops
        return OpView(
            index=index,
            rank=int(o.rank[index]),
            queue=Queue(int(o.queue[index])),
            kind=Kind(int(o.kind[index])),
            stage=int(o.stage[index]),
            unit=int(o.unit[index]),
            microbatch=int(o.microbatch[index]),
            nbytes=int(o.nbytes[index]),
            after=tuple(o.after[index].tolist()),
            reads=tuple(o.reads[index].tolist()),
            writes=tuple(o.writes[index].tolist()),
            allocs=tuple(o.allocs[index].tolist()),
            frees=tuple(o.frees[index].tolist()),
        )

    def __iter__(self) -> Iterator[OpView]:
        return (self.op(i) for i in range(len(self)))

    def buffer(self, index: int) -> BufferView:
        """Return the buffer at a position."""
        b = self.buffers
        return BufferView(
            index=index,
            rank=int(b.rank[index]),
            space=Space(int(b.space[index])),
            nbytes=int(b.nbytes[index]),
            role=Role(int(b.role[index])),
            stage=int(b.stage[index]),
            unit=int(b.unit[index]),
            microbatch=int(b.microbatch[index]),
        )

    def op_id(self, index: int) -> int:
        """Return the id that the plan file gives the operation at this position."""
        return index if self.op_ids is None else int(self.op_ids[index])

    def buffer_id(self, index: int) -> int:
        """Return the id that the plan file gives the buffer at this position."""
        return index if self.buffer_ids is None else int(self.buffer_ids[index])

    @cached_property
    def queue_index(self) -> Ints:
        """Return each operation's global queue number, ``rank * QUEUES_PER_RANK + queue``; shape (operations,)."""
        return self.ops.rank.astype(np.int64) * QUEUES_PER_RANK + self.ops.queue

    @cached_property
    def _by_queue(self) -> tuple[Ints, Ints]:
        """Return the positions of all operations queue by queue, in list order, and where each queue's begin."""
        counts = np.bincount(self.queue_index, minlength=self.ranks * QUEUES_PER_RANK)
        # numpy's stable sort of numbers of one or two bytes counts them, which is several times as quick.
        numbers = self.queue_index.astype(np.min_scalar_type(len(counts)))
        return np.argsort(numbers, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def queue_ops(self, rank: int, queue: Queue) -> Ints:
        """Return the positions of the operations on one queue, in order."""
        (order, starts), number = self._by_queue, rank * QUEUES_PER_RANK + int(queue)
        return order[starts[number] : starts[number + 1]]

    @cached_property
    def stage_rank(self) -> Ints:
        """Return the rank of each stage's first task, or else first operation, -1 without any; shape (stages,).

        A stranger's plan may number a stage as it likes; one numbered beyond :data:`MOST_STAGES` is left out.
        """
        is_task = self.ops.kind < len(UNIT_KINDS)
        is_stage = (self.ops.stage >= 0) & (self.ops.stage < MOST_STAGES)
        out = np.full(int(self.ops.stage[is_stage].max(initial=-1)) + 1, -1, dtype=np.int64)
        for some in (~is_task, is_task):
            rows = np.flatnonzero(some & is_stage)[::-1]
            out[self.ops.stage[rows]] = self.ops.rank[rows]
        return out

    @cached_property
    def receivers(self) -> Ints:
        """Return the rank that each SEND sends to, -1 where no stage is and for others; shape (operations,)."""
        up, down = self.ops.kind == Kind.SEND_ACTIVATION, self.ops.kind == Kind.SEND_GRADIENT
        target = self.ops.stage.astype(np.int64) + np.where(up, 1, -1)
        sends = np.flatnonzero((up | down) & (target >= 0) & (target < len(self.stage_rank)))
        out = np.full(len(self), -1, dtype=np.int64)
        out[sends] = self.stage_rank[target[sends]]
        out[out == self.ops.rank] = -1
        return out

    @cached_property
    def units(self) -> list[int]:
        """Return how many units each stage has by its tasks, 0 for a stage without; one entry per stage."""
        tasks = np.flatnonzero((self.ops.kind < len(UNIT_KINDS)) & (self.ops.stage >= 0))
        tasks = tasks[self.ops.stage[tasks] < len(self.stage_rank)]
        out = np.zeros(len(self.stage_rank), dtype=np.int64)
        np.maximum.at(out, self.ops.stage[tasks], self.ops.unit[tasks] + 1)
        counts: list[int] = out.tolist()
        return counts

    @cached_property
    def is_frozen(self) -> npt.NDArray[np.bool_]:
        """Return whether each operation names a unit of the frozen front; shape (operations,)."""
        out = np.zeros(len(self), dtype=np.bool_)
        if self.frozen_units:
            units = np.asarray(self.units, dtype=np.int64)
            named = (self.ops.stage >= 0) & (self.ops.stage < len(units)) & (self.ops.unit >= 0)
            first = np.cumsum(units) - units
            out[named] = first[self.ops.stage[named]] + self.ops.unit[named] < self.frozen_units
        return out

    @cached_property
    def previous_in_queue(self) -> Ints:
        """Return the position of the operation before each one on its queue, or -1; shape (operations,)."""
        order, _ = self._by_queue
        before = np.full(len(self), -1, dtype=np.int64)
        same = self.queue_index[order[1:]] == self.queue_index[order[:-1]]
        before[order[1:][same]] = order[:-1][same]
        return before

    @cached_property
    def place_in_queue(self) -> Ints:
        """Return how many operations stand before each one on its queue; shape (operations,)."""
        order, starts = self._by_queue
        place = np.empty(len(self), dtype=np.int64)
        place[order] = np.arange(len(self)) - starts[self.queue_index[order]]
        return place
