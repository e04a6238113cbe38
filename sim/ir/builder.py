"""The builder appends operations and buffers to lists of integers, then freezes them into a plan's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Role, Space
from loadahead.sim.ir.plan import Buffers, Ops, Plan, Ragged


class _RaggedBuilder:
    """Grows a ragged column row by row."""

    def __init__(self) -> None:
        self.starts = [0]
        self.values: list[int] = []

    def append(self, row: Sequence[int]) -> None:
        """Add a row at the end."""
        self.values.extend(row)
        self.starts.append(len(self.values))

    def freeze(self) -> Ragged:
        """Return the column."""
        return Ragged(np.asarray(self.starts, dtype=np.int64), np.asarray(self.values, dtype=np.int32))


class PlanBuilder:
    """Grows a plan row by row."""

    def __init__(self) -> None:
        self._ops: list[int] = []  # rank, kind, stage, unit, microbatch, bytes; six entries a row
        self._buffers: list[int] = []  # rank, space, bytes, role, stage, unit, microbatch; seven entries a row
        self._after, self._reads, self._writes = _RaggedBuilder(), _RaggedBuilder(), _RaggedBuilder()
        self._allocs, self._frees = _RaggedBuilder(), _RaggedBuilder()

    def __len__(self) -> int:
        return len(self._ops) // 6

    def buffer(self, rank: int, space: Space, nbytes: int, role: Role, key: tuple[int, int, int]) -> int:
        """Append a buffer and return its position; ``key`` is (stage, unit, microbatch)."""
        self._buffers += (rank, space, nbytes, role, *key)
        return len(self._buffers) // 7 - 1

    def op(
        self,
        rank: int,
        kind: Kind,
        key: tuple[int, int, int] = (-1, -1, -1),
        *,
        after: Sequence[int] = (),
        reads: Sequence[int] = (),
        writes: Sequence[int] = (),
        allocs: Sequence[int] = (),
        frees: Sequence[int] = (),
        nbytes: int = 0,
    ) -> int:
        """Append an operation and return its position; ``key`` is (stage, unit, microbatch), -1 where none applies."""
        self._ops += (rank, kind, *key, nbytes)
        self._after.append(after)
        self._reads.append(reads)
        self._writes.append(writes)
        self._allocs.append(allocs)
        self._frees.append(frees)
        return len(self) - 1

    def freeze(
        self,
        name: str,
        ranks: int,
        microbatches: int,
        policy: dict[str, Any],
        frees: _OpBufferPairs = (),
        frozen_units: int = 0,
    ) -> Plan:
        """Return the plan; ``frees`` adds (operation, buffer) pairs that become known late, e.g. a slot's last use."""
        ops = np.asarray(self._ops, dtype=np.int64).reshape(-1, 6).T
        buffers = np.asarray(self._buffers, dtype=np.int64).reshape(-1, 7).T
        queue_of = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int8)
        small, code = np.int32, np.int8
        return Plan(
            name,
            ranks,
            microbatches,
            Ops(
                rank=ops[0].astype(small),
                queue=queue_of[ops[1]],
                kind=ops[1].astype(code),
                stage=ops[2].astype(small),
                unit=ops[3].astype(small),
                microbatch=ops[4].astype(small),
                nbytes=ops[5].copy(),
                after=self._after.freeze(),
                reads=self._reads.freeze(),
                writes=self._writes.freeze(),
                allocs=self._allocs.freeze(),
                frees=_with_pairs(self._frees.freeze(), frees),
            ),
            Buffers(
                rank=buffers[0].astype(small),
                space=buffers[1].astype(code),
                nbytes=buffers[2].copy(),
                role=buffers[3].astype(code),
                stage=buffers[4].astype(small),
                unit=buffers[5].astype(small),
                microbatch=buffers[6].astype(small),
            ),
            policy,
            frozen_units=frozen_units,
        )


_OpBufferPairs = Sequence[tuple[int, int]]


def _with_pairs(column: Ragged, pairs: _OpBufferPairs) -> Ragged:
    """Return the column with a value added at the end of each pair's row."""
    row, value = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    return column.with_entries(row, value)
