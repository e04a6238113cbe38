"""An order is data: for each rank the list of the passes that it runs, and with them which stages it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from loadahead.sim.compiled import compiled
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints

# Each row is a pass: (kind, stage, microbatch). The planner cuts a pass into one task per unit.
Passes = npt.NDArray[np.int32]


class PassKind(IntEnum):
    """Names what a pass does with a stage; a backward pass that is split in two comes with split backward."""

    FORWARD = 0
    BACKWARD = 1

    @property
    def letter(self) -> str:
        """Return the letter by which files name it, as torch.distributed.pipelining does."""
        return self.name[0]


@dataclass(frozen=True, eq=False)
class Order:
    """Holds the passes of every rank, each an array of shape (passes, 3).

    A rank holds the stages whose passes it runs, one or more. Every stage runs each microbatch forward once and then
    backward once, on one rank; :meth:`checked` raises InputError where that is not so.
    """

    name: str
    passes: tuple[Passes, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], name: str = "order") -> Self:
        """Return the order of passes as they are written, e.g. ``[["0F0", "0B0"], ["1F0", "1B0"]]``, a list per rank.

        A pass is its stage, ``F`` or ``B``, and its microbatch. Raise InputError in one line where that is no order.
        """
        if not isinstance(name, str):
            raise InputError(f"the order's name is {name!r:.40}; it must be a text")
        _require_list(rows, f"order {name!r}", 'a list per rank, e.g. [["0F0", "0B0"]]')
        read = []
        for rank, row in enumerate(rows):
            _require_list(row, f"order {name!r}: rank {rank}", 'a list of its passes, e.g. ["0F0", "0B0"]')
            read.append([_read_pass(word, name, rank) for word in row])
        return cls(name, tuple(np.asarray(row, dtype=np.int32).reshape(-1, 3) for row in read)).checked()

    def same_passes(self, other: Order) -> bool:
        """Return whether another order has the same passes on the same ranks, whatever the two are called."""
        return self.ranks == other.ranks and all(map(np.array_equal, self.passes, other.passes))

    @property
    def ranks(self) -> int:
        """Return the number of ranks."""
        return len(self.passes)

    @cached_property
    def _all(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the (rank, kind, stage, microbatch) of all passes, one rank after the other."""
        kind, stage, microbatch = np.concatenate([*self.passes, np.zeros((0, 3), np.int32)]).astype(np.int64).T
        return np.repeat(np.arange(self.ranks), [len(own) for own in self.passes]), kind, stage, microbatch

    @cached_property
    def stages(self) -> int:
        """Return the number of stages."""
        return int(self._all[2].max(initial=-1)) + 1

    @cached_property
    def microbatches(self) -> int:
        """Return the number of microbatches."""
        return int(self._all[3].max(initial=-1)) + 1

    @cached_property
    def stage_rank(self) -> Ints:
        """Return the rank that holds each stage; shape (stages,)."""
        rank, _, stage, _ = self._all
        out = np.full(self.stages, -1, dtype=np.int64)
        out[stage] = rank
        return out

    def checked(self) -> Self:
        """Return the order itself; raise InputError in one line unless every stage runs whole, on one rank."""
        self._require_columns()
        rank, kind, stage, microbatch = self._all
        empty = [number for number, own in enumerate(self.passes) if not len(own)]
        if empty or not self.passes:
            raise InputError(f"order {self.name!r}: rank {(empty or [0])[0]} has no passes; each rank needs some")
        if len(rank) > _MOST_PASSES or self.stages * self.microbatches > len(rank):
            raise InputError(self._odd(kind, stage, microbatch))
        place = (kind * self.stages + stage) * self.microbatches + microbatch
        count = np.bincount(place, minlength=2 * self.stages * self.microbatches)
        if (count != 1).any():
            raise InputError(self._odd(kind, stage, microbatch))
        elsewhere = np.flatnonzero(self.stage_rank[stage] != rank)
        if len(elsewhere):
            at = int(elsewhere[0])
            raise InputError(
                f"order {self.name!r}: stage {stage[at]} has passes on rank {rank[at]} and on rank "
                f"{self.stage_rank[stage[at]]}; a stage belongs to one rank"
            )
        listed = np.empty(len(place), dtype=np.int64)
        listed[place] = np.arange(len(place))
        early = np.flatnonzero(listed[: len(place) // 2] > listed[len(place) // 2 :])
        if len(early):
            name = f"{early[0] // self.microbatches}{{}}{early[0] % self.microbatches}"
            raise InputError(
                f"order {self.name!r}: {name.format('B')} stands before {name.format('F')}; forward is first"
            )
        return self

    def _require_columns(self) -> None:
        """Raise InputError for passes that are no numbers of passes; :meth:`of` makes none of these."""
        passes: tuple[object, ...] = self.passes
        for rank, own in enumerate(passes):
            if not isinstance(own, np.ndarray) or own.ndim != 2 or own.shape[1] != 3 or own.dtype.kind not in "iu":
                raise InputError(
                    f"order {self.name!r}: the passes of rank {rank} are no integer array of shape (passes, 3); make "
                    "an order of the passes as they are written"
                )
            if len(own) and (own.min() < 0 or own.max() > _LARGEST_NUMBER or own[:, 0].max() > max(PassKind)):
                raise InputError(
                    f"order {self.name!r}: rank {rank} has a number that is none of a pass; kinds are 0 (F) and 1 (B), "
                    f"stages and microbatches 0 to {_LARGEST_NUMBER}"
                )

    def _odd(self, kind: Ints, stage: Ints, microbatch: Ints) -> str:
        """Return which pass is missing or there twice."""
        seen: set[tuple[int, int, int]] = set()
        for one in zip(kind.tolist(), stage.tolist(), microbatch.tolist(), strict=True):
            if one in seen:
                return f"order {self.name!r}: {_written(*one)} is there twice; a pass runs once"
            seen.add(one)
        wanted = (
            (kind, stage, microbatch)
            for stage in range(self.stages)
            for microbatch in range(self.microbatches)
            for kind in PassKind
        )
        missing = next(one for one in wanted if one not in seen)
        return (
            f"order {self.name!r}: {_written(*missing)} is missing; stages 0 to {self.stages - 1} each need F and B of "
            f"microbatches 0 to {self.microbatches - 1}"
        )

    def rows(self) -> list[list[str]]:
        """Return each rank's passes as they are written in files, e.g. ``["0F0", "0B0"]``."""
        return [[_written(*one) for one in own.tolist()] for own in self.passes]


# More passes than this are no order but a slip; a plan has at least as many tasks.
_MOST_PASSES = 2**26
_LARGEST_NUMBER = 2**20
_SPLIT = ("I", "W")


def _written(kind: int, stage: int, microbatch: int) -> str:
    return f"{stage}{PassKind(kind).letter}{microbatch}"


def _read_pass(text: object, name: str, rank: int) -> tuple[int, int, int]:
    """Return the (kind, stage, microbatch) of a pass as it is written; raise InputError where it is none."""
    word = str(text).strip()
    for kind in PassKind:
        stage, letter, microbatch = word.partition(kind.letter)
        if letter and _is_number(stage) and _is_number(microbatch):
            return int(kind), int(stage), int(microbatch)
    if any(_is_number(part) for letter in _SPLIT for part in [word.partition(letter)[0]] if letter in word):
        raise InputError(
            f"order {name!r}: rank {rank} has the pass {word!r:.40}, half of a backward pass; split backward is not "
            "built yet, write B for the whole of it"
        )
    raise InputError(
        f"order {name!r}: rank {rank} has {word!r:.40}, which is no pass; write stage, F or B, and microbatch, e.g. "
        f"1F0, with numbers up to {_LARGEST_NUMBER}"
    )


def _require_list(value: object, where: str, wanted: str) -> None:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InputError(f"{where}: is of type {type(value).__name__}; give {wanted}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 7 and int(text) <= _LARGEST_NUMBER


class PipelineOrder(Protocol):
    """Makes the passes of every rank for so many ranks, each holding the stage of its own number.

    ``active`` is the cap on microbatches in flight, at most ``microbatches``. Every microbatch must pass forward and
    then backward exactly once, and the ranks' sequences together must not wait for each other in a circle.
    """

    def __call__(self, ranks: int, microbatches: int, active: int) -> list[Passes]:
        """Return the passes of each rank, of shape (passes, 3)."""
        ...


@compiled
def eager_forward(stage, microbatches, in_flight):  # type: ignore[no-untyped-def]
    """Run forwards while fewer than ``in_flight`` microbatches wait for their backward, else a backward; both FIFO."""
    out = np.empty((2 * microbatches, 3), dtype=np.int32)
    forwards = at = 0
    for backwards in range(microbatches):
        while forwards < microbatches and forwards - backwards < in_flight:
            out[at, 0], out[at, 1], out[at, 2] = 0, stage, forwards
            forwards += 1
            at += 1
        out[at, 0], out[at, 1], out[at, 2] = 1, stage, backwards
        at += 1
    return out
