"""A timeline says when each operation ran; predicted and measured ones have the same columns.

The file is JSON lines (DESIGN, section 3): a header, one line per operation, then memory samples. Times are integer
nanoseconds, sizes integer bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Codes, Ints, Plan, SmallInts
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import StepMetrics, step_time
from loadahead.sim.units import counted, format_bytes, format_duration

if TYPE_CHECKING:
    import pandas as pd

FORMAT, VERSION = "loadahead-timeline", 1
MEASURED_SOURCES = ("cpu", "cuda")
SOURCES = ("simpy", "compiled", *MEASURED_SOURCES)
_HEADER_KEYS = ("format", "version", "source", "plan")
_OP_INTS = ("op", "rank", "stage", "unit", "microbatch", "start_ns", "end_ns")
# A timeline has these arrays, a row per operation.
COLUMNS = ("op", "rank", "queue", "kind", "stage", "unit", "microbatch", "start_ns", "end_ns")
_SAMPLE_INTS = ("rank", "t_ns", "device_bytes", "host_bytes")


@dataclass(frozen=True, slots=True, repr=False)
class MemorySamples(Shown):
    """Holds the ranks' memory over time; arrays have shape (samples,). A value holds until the rank's next sample."""

    rank: Ints
    t_ns: Ints
    device_bytes: Ints
    host_bytes: Ints

    def __len__(self) -> int:
        return len(self.rank)

    def _in_a_line(self) -> str:
        """Return how many samples there are, and of how many ranks."""
        return f": {counted(len(self), 'sample')} of {counted(len(np.unique(self.rank)), 'rank')}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per sample.

        Columns: ``rank``; ``t_ns``, from the step's begin; ``device_bytes`` and ``host_bytes``, which the rank holds
        from then until its next row.
        """
        import pandas as pd

        return pd.DataFrame({name: getattr(self, name) for name in _SAMPLE_INTS})


@dataclass(frozen=True, repr=False)
class Timeline(Shown):
    """Holds the times and memory of one step. Rows stand in the plan's list order; ``op`` holds the plan file's ids.

    Every array has shape (operations,); ``queue`` and ``kind`` hold the codes of :mod:`loadahead.sim.ir.kinds`.
    """

    source: str
    plan_name: str
    op: Ints
    rank: SmallInts
    queue: Codes
    kind: Codes
    stage: SmallInts
    unit: SmallInts
    microbatch: SmallInts
    start_ns: Ints
    end_ns: Ints
    memory: MemorySamples
    header: dict[str, Any] = field(default_factory=dict)
    # The plan that was simulated or run; files do not hold it.
    plan: Plan | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.op)

    def _in_a_line(self) -> str:
        """Return the plan's name, where the times are from, the step's time and the peak of the fullest rank."""
        how = "measured on" if self.is_measured else "predicted by"
        begin = f" of {self.plan_name!r} {how} {self.source}: {counted(len(self), 'operation')}"
        samples = self.memory.device_bytes
        peak = f", at most {format_bytes(int(samples.max()))} on a device" if len(samples) else ""
        return f"{begin} in {format_duration(self.step_time_ns)}{peak}"

    @property
    def is_measured(self) -> bool:
        """Return whether the step was run on real tensors; else it was predicted."""
        return self.source in MEASURED_SOURCES

    @property
    def step_time_ns(self) -> int:
        """Return the time from the first start to the last end, in ns; 0 for an empty plan."""
        return step_time(int(self.start_ns.min()), int(self.end_ns.max())) if len(self) else 0

    @property
    def metrics(self) -> StepMetrics:
        """Return the step's time and every rank's peaks, stalls and overlap; raise InputError when they are missing."""
        summary = self.header.get("summary")
        try:
            return StepMetrics.from_dict(summary)  # type: ignore[arg-type]
        except (KeyError, TypeError) as error:
            raise InputError(f"the timeline of plan {self.plan_name!r} holds no whole summary of its step") from error

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per operation, in the plan's order. ``memory.to_pandas()`` has the memory over time.

        Columns: ``op``, its id in the plan's file; ``rank``; ``queue`` and ``kind``, in words; ``stage``, ``unit`` and
        ``microbatch``, -1 where it has none; ``start_ns`` and ``end_ns``, from the step's begin.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "op": self.op,
                "rank": self.rank,
                "queue": [Queue(code).label for code in self.queue.tolist()],
                "kind": [Kind(code).name for code in self.kind.tolist()],
                "stage": self.stage,
                "unit": self.unit,
                "microbatch": self.microbatch,
                "start_ns": self.start_ns,
                "end_ns": self.end_ns,
            }
        )

    @classmethod
    def of_plan(
        cls, plan: Plan, source: str, start_ns: Ints, end_ns: Ints, memory: MemorySamples, **header: Any
    ) -> Timeline:
        """Return the timeline of a plan's rows with these times in ns, each of shape (operations,)."""
        ops = plan.ops
        ids = np.arange(len(plan), dtype=np.int64) if plan.op_ids is None else plan.op_ids
        return cls(
            source,
            plan.name,
            ids,
            ops.rank,
            ops.queue,
            ops.kind,
            ops.stage,
            ops.unit,
            ops.microbatch,
            start_ns,
            end_ns,
            memory,
            header,
            plan,
        )


def _lines(timeline: Timeline) -> Iterator[str]:
    head = {"format": FORMAT, "version": VERSION, "source": timeline.source, "plan": timeline.plan_name}
    yield json.dumps(head | timeline.header)
    columns = [getattr(timeline, name).tolist() for name in _OP_INTS]
    queues = [Queue(code).label for code in timeline.queue.tolist()]
    kinds = [Kind(code).name for code in timeline.kind.tolist()]
    for op, rank, stage, unit, microbatch, start, end, queue, kind in zip(*columns, queues, kinds, strict=True):
        yield json.dumps(
            {
                "op": op,
                "rank": rank,
                "queue": queue,
                "kind": kind,
                "stage": stage,
                "unit": unit,
                "microbatch": microbatch,
                "start_ns": start,
                "end_ns": end,
            }
        )
    samples = [getattr(timeline.memory, name).tolist() for name in _SAMPLE_INTS]
    for row in zip(*samples, strict=True):
        yield json.dumps(dict(zip(_SAMPLE_INTS, row, strict=True)))


def write_timeline(timeline: Timeline, path: str | Path) -> None:
    """Write the timeline as a file of JSON lines."""
    with open(path, "w", encoding="utf-8") as out:
        for line in _lines(timeline):
            out.write(line + "\n")


def _int(row: dict[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if type(value) is not int or abs(value) > 2**62:
        raise InputError(f"{where}: {key} is {value!r}; it must be an integer")
    return value


def _label(row: dict[str, Any], key: str, allowed: dict[str, int], where: str) -> int:
    value = row.get(key)
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{where}: {key} is {value!r}; it must be one of {', '.join(allowed)}")
    return allowed[value]


def _header(row: dict[str, Any], where: str) -> dict[str, Any]:
    version = row.get("version")
    if row.get("format") != FORMAT or type(version) is not int or version != VERSION:
        raise InputError(
            f"{where}: format is {row.get('format')!r}, version {version!r}; "
            f'it must be "{FORMAT}", version {VERSION} (a timeline file)'
        )
    if row.get("source") not in SOURCES:
        raise InputError(f"{where}: source is {row.get('source')!r}; it must be one of {', '.join(SOURCES)}")
    if not isinstance(row.get("plan"), str):
        raise InputError(f"{where}: plan is {row.get('plan')!r}; it must be the plan's name")
    return row


def _rows(lines: Iterable[str], path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{where}: is not JSON (truncated file?); one JSON object per line is needed") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: holds {line.strip()[:40]!r}; one JSON object per line is needed")
        yield where, row


def read_timeline(path: str | Path) -> Timeline:
    """Read a file of JSON lines as a timeline; raise InputError with one line when it is malformed."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a timeline ({error.__class__.__name__})") from error
    if not lines:
        raise InputError(f"{path}: is empty; a timeline starts with a header line")
    rows = _rows(lines, path)
    where, first = next(rows)
    head = _header(first, where)
    queues, kinds = {q.label: int(q) for q in Queue}, {k.name: int(k) for k in Kind}
    ops: list[tuple[int, ...]] = []
    memory: list[tuple[int, ...]] = []
    for where, row in rows:
        if "op" in row:
            ints = tuple(_int(row, key, where) for key in _OP_INTS)
            ops.append((*ints, _label(row, "queue", queues, where), _label(row, "kind", kinds, where)))
        else:
            memory.append(tuple(_int(row, key, where) for key in _SAMPLE_INTS))
    columns = np.asarray(ops, dtype=np.int64).reshape(len(ops), len(_OP_INTS) + 2).T
    op, rank, stage, unit, microbatch, start, end, queue, kind = columns
    small = np.int32
    return Timeline(
        head["source"],
        head["plan"],
        op,
        rank.astype(small),
        queue.astype(np.int8),
        kind.astype(np.int8),
        stage.astype(small),
        unit.astype(small),
        microbatch.astype(small),
        start,
        end,
        MemorySamples(*np.asarray(memory, dtype=np.int64).reshape(len(memory), len(_SAMPLE_INTS)).T),
        {key: value for key, value in head.items() if key not in _HEADER_KEYS},
    )
