"""Holds the memory and the operations of some of a sweep's points, as far as a page shows them, in a file.

The file lies beside the sweep's tables. Times are integer nanoseconds from the step's start, sizes integer bytes.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import Version1, schema_error_line

# So much is kept, that a page with all of it stays below 3 MB: a test has a page with the most there can be.
MOST_POINTS, MOST_RANKS, MOST_SAMPLES, MOST_BOXES, MOST_BINS = 40, 2, 300, 400, 200

Time = Annotated[int, Field(ge=0)]
Amount = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=0, le=100)]
KindCode = Annotated[int, Field(ge=0, lt=len(Kind))]
QueueCode = Annotated[int, Field(ge=0, lt=len(Queue))]
Cause = Annotated[int, Field(ge=-1, lt=len(Kind))]
OrNone = Annotated[int, Field(ge=-1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def _require_columns(self, *names: str) -> None:
        """Raise pydantic's error where columns differ in length."""
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1:
            raise PydanticCustomError("columns", f"the columns must be of one length, and have {lengths}")


class MemoryCurve(_Frozen):
    """Holds a rank's device memory over time; a value holds until the next one's time.

    Of long curves some samples are left out, never the largest or the smallest of a stretch.
    """

    t_ns: Annotated[tuple[Time, ...], Field(max_length=MOST_SAMPLES)]
    device_bytes: Annotated[tuple[Amount, ...], Field(max_length=MOST_SAMPLES)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self._require_columns("t_ns", "device_bytes")
        if any(later < earlier for earlier, later in pairwise(self.t_ns)):
            raise PydanticCustomError("times", "t_ns must not fall: a value holds until the next one's time")
        return self


class Boxes(_Frozen):
    """Holds operations of one rank in the plan's order, as columns.

    Attributes:
        op: the operation's id in the plan.
        kind, queue: the codes of :class:`loadahead.sim.ir.kinds.Kind` and ``Queue``.
        stage, unit, microbatch: what it works on; -1 for none.
        start_ns, duration_ns: when it began, and how long it took.
        nbytes: what it moves; 0 for what moves nothing.
        wait_ns: how long it waited for another operation while its queue and its host were ready for it.
        cause: the code of the kind of operation that it waited for; -1 for none.
    """

    op: tuple[Amount, ...]
    kind: tuple[KindCode, ...]
    queue: tuple[QueueCode, ...]
    stage: tuple[OrNone, ...]
    unit: tuple[OrNone, ...]
    microbatch: tuple[OrNone, ...]
    start_ns: tuple[Time, ...]
    duration_ns: tuple[Time, ...]
    nbytes: tuple[Amount, ...]
    wait_ns: tuple[Time, ...]
    cause: tuple[Cause, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self._require_columns(*type(self).model_fields)
        if len(self.op) > MOST_BOXES:
            raise PydanticCustomError("boxes", f"there are {len(self.op)} operations; at most {MOST_BOXES} can be")
        return self

    def __len__(self) -> int:
        return len(self.op)


class RankExcerpt(_Frozen):
    """Holds what is shown of one rank.

    Attributes:
        why: whether it is shown as the rank that has most memory in use, or as the one that waits longest.
        peak_device_bytes: its peak of device memory.
        stalled_ns: how long its compute queue waits in all.
        memory: its device memory over the whole step.
        boxes: its operations that overlap the window, without those that take no time and did not wait.
        busy_percent: the share of its compute queue that is busy, over equal parts of the whole step.
    """

    rank: Annotated[int, Field(ge=0)]
    why: Literal["fullest", "waits longest", "another"]
    peak_device_bytes: Amount
    stalled_ns: Time
    memory: MemoryCurve
    boxes: Boxes
    busy_percent: Annotated[tuple[Percent, ...], Field(max_length=MOST_BINS)]


class StepExcerpt(_Frozen):
    """Holds what is shown of one step.

    Attributes:
        step_time_ns: how long the step takes.
        window_ns: start and end of the stretch whose operations are here.
        whole: whether that is the whole step.
        ranks: one or two of the ranks.
        of_ranks: how many ranks there are.
    """

    step_time_ns: Time
    window_ns: tuple[int, int]
    whole: bool
    ranks: Annotated[tuple[RankExcerpt, ...], Field(max_length=MOST_RANKS)]
    of_ranks: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        start, end = self.window_ns
        if end < start:
            raise PydanticCustomError("window", f"window_ns ends at {end}, before its start at {start}")
        ranks = [one.rank for one in self.ranks]
        if len(set(ranks)) < len(ranks) or any(rank >= self.of_ranks for rank in ranks):
            raise PydanticCustomError("ranks", f"the ranks {ranks} must differ, and be below of_ranks, {self.of_ranks}")
        return self


class SweptPoint(_Frozen):
    """Holds one point of the sweep.

    Attributes:
        row: its place in the sweep's table, from 0.
        axes: its axes' values, by column.
        why: why it is among those kept.
        step: its step.
    """

    row: Annotated[int, Field(ge=0)]
    axes: dict[str, Any]
    why: Literal["chosen", "neighbour", "front"]
    step: StepExcerpt


class Points(_Frozen):
    """Holds a sweep's points that are kept, and what the others can be made with.

    Attributes:
        source: the scenario's name or path as it was given; None where it was given in memory.
        overrides: new values by the key's full path.
        points: chosen points first, then their neighbours along each axis, then the front's.
        left_out: how many were left out so that their plans do not take long.
    """

    format: Literal["loadahead-points"] = "loadahead-points"
    version: Version1 = 1
    source: str | None
    overrides: dict[str, Any]
    points: Annotated[tuple[SweptPoint, ...], Field(max_length=MOST_POINTS)]
    left_out: Annotated[int, Field(ge=0)] = 0


def read_points(path: Path) -> Points:
    """Read the file of a sweep's points; raise InputError in one line where it is malformed."""
    try:
        return Points.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); sweep it again") from error
    except ValidationError as error:
        raise InputError(f"{path}: {schema_error_line(error, 'a file of points', _keys)}") from error


def _keys(path: KeyPath) -> list[str]:
    """Return the keys that the object at a path of the file may have."""
    names: dict[str, type[BaseModel]]
    names = {"step": StepExcerpt, "memory": MemoryCurve, "boxes": Boxes, "ranks": RankExcerpt, "points": SweptPoint}
    found = next((names[str(part)] for part in reversed(path) if str(part) in names), Points)
    return list(found.model_fields)
