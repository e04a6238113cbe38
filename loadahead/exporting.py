"""Exports for other tools: what is exported, and in which format."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.arguments import costs_given
from loadahead.jobs import job_of
from loadahead.plan_files import is_plan_file
from loadahead.prediction import predict
from loadahead.reports.exports.sides import Side, chosen, side_of, sides_of_run
from loadahead.reports.run_data import load_run
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.timeline import FORMAT, Timeline, read_timeline

if TYPE_CHECKING:
    from loadahead.arguments import Estimate
    from loadahead.runs import Run

    ExportSubject = Plan | Timeline | Run | str | Path

_KINDS = "a plan, a timeline or a run directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Says what has been written.

    Attributes:
        path: the file.
        format: ``perfetto``, ``chrome`` or ``memory-viz``.
        sides: ``predicted``, ``measured`` or both, in the order of showing.
        others: the sides that there are too and that the file has not, as a snapshot is of one.
        slices, flows, samples: how many boxes, arrows and values of counters a trace has; None in a snapshot.
        allocations: how many a snapshot has; None in a trace.
        notes: sentences about what is left out, and why.
    """

    path: Path
    format: str
    sides: tuple[str, ...]
    others: tuple[str, ...] = ()
    slices: int | None = None
    flows: int | None = None
    samples: int | None = None
    allocations: int | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self) | {
            "path": str(self.path),
            "sides": list(self.sides),
            "others": list(self.others),
            "notes": list(self.notes),
        }


def export_subject(
    subject: ExportSubject,
    to: str,
    path: Path,
    side: str | None = None,
    costs: Costs | Path | str | None = None,
) -> Exported:
    """Write the subject in a format, as :func:`loadahead.export` says it."""
    from loadahead.reports.exports import FORMATS, MEMORY_VIZ, TRACE_WRITERS
    from loadahead.reports.exports.tracks import trace_of
    from loadahead.reports.run_directory import require_writable

    if to not in FORMATS:
        raise InputError(f"the format is {to!r:.40}; it must be one of {', '.join(FORMATS)}", parameters=("to",))
    name = _name(subject)
    sides = chosen(_sides(subject, name, costs_given(costs)), side, name)
    if not any(len(one.timeline) for one in sides):
        raise InputError(f"{name}: has no operations, so that there is nothing to export")
    if to == MEMORY_VIZ:
        others = tuple(one.name for one in sides[1:])
        return replace(_snapshot(sides[0], name, path), others=others)
    trace = trace_of(sides, name)
    require_writable(path)
    TRACE_WRITERS[to](trace, path)
    return Exported(
        path=path,
        format=to,
        sides=tuple(one.name for one in sides),
        slices=trace.slice_count,
        flows=trace.flow_count,
        samples=trace.sample_count,
        notes=_notes(sides, name),
    )


def _snapshot(side: Side, name: str, path: Path) -> Exported:
    from loadahead.reports.exports.memory_viz import write_memory_viz
    from loadahead.reports.run_directory import require_writable

    if side.plan is None:
        raise InputError(
            f"{name}: says when operations ran and not what they allocate; give its plan or its run directory"
        )
    if side.costs is None:
        raise InputError(
            f"{name}: what weights and operations take stands in costs, which are not known; give a costs file",
            parameters=("costs",),
        )
    require_writable(path)
    count = write_memory_viz(side.plan, side.costs, side.timeline, path)
    return Exported(path=path, format="memory-viz", sides=(side.name,), allocations=count)


def _notes(sides: tuple[Side, ...], name: str) -> tuple[str, ...]:
    """Return sentences about what is not known of the sides, and therefore not in their trace."""
    if any(side.plan is None for side in sides):
        return (
            f"{name}: the plan is not known, so that the trace has no bytes of copies, no waits and no stalls; give "
            "the run directory or the plan for these",
        )
    if any(side.costs is None for side in sides):
        return (f"{name}: costs are not known, so that the trace has no shared links, and waits count the host's too",)
    return ()


def _name(subject: ExportSubject) -> str:
    if isinstance(subject, str | Path):
        return str(subject)
    if isinstance(subject, Timeline):
        return subject.plan_name
    return subject.name if isinstance(subject, Plan) else _run(subject).job.name


def _run(subject: Run) -> Run:
    """Return the run; raise InputError where the subject is none. Whoever has one has imported torch already."""
    from loadahead.runs import Run

    if not isinstance(subject, Run):
        raise InputError(
            f"what is to be exported is of type {type(subject).__name__}; it must be a plan, a timeline, a run or the "
            "path of a plan, a timeline or a run directory"
        )
    return subject


def _sides(subject: ExportSubject, name: str, costs: Costs | Estimate | None) -> tuple[Side, ...]:
    if isinstance(subject, Plan):
        return _of_plan(subject, name, costs)
    if isinstance(subject, str | Path):
        return _of_path(subject, name, costs)
    known = _no_estimate(costs, name)
    if isinstance(subject, Timeline):
        return (side_of(subject, known),)
    used = subject.costs if known is None else known
    return tuple(side_of(timeline, used, subject.job.plan) for timeline in (subject.predicted, subject.measured))


def _of_path(subject: str | Path, name: str, costs: Costs | Estimate | None) -> tuple[Side, ...]:
    path = Path(subject)
    if path.is_dir():
        sides = sides_of_run(load_run(path), _no_estimate(costs, name))
        if not sides:
            raise InputError(f"{path}: holds no timeline; give the directory of a demo, a run or a simulation")
        return sides
    if not path.is_file():
        raise InputError(f"{path}: is not there; give {_KINDS} (of a scenario, make a plan first)")
    if _is_timeline(path):
        return (side_of(read_timeline(path), _no_estimate(costs, name)),)
    if not is_plan_file(subject):
        raise InputError(f"{path}: is none of these; give {_KINDS} (of a scenario, make a plan first)")
    return _of_plan(subject, name, costs)


def _of_plan(subject: Plan | str | Path, name: str, costs: Costs | Estimate | None) -> tuple[Side, ...]:
    """Return the prediction of a plan, which holds no times of its own."""
    job = job_of(subject, costs=costs)
    if job.costs is None:
        raise InputError(
            f"{name}: a plan holds no times and its scenario gives no costs; calibrate it and give the costs",
            parameters=("costs",),
        )
    return (side_of(predict(job, job.costs), job.costs, job.plan),)


def _no_estimate(costs: Costs | Estimate | None, name: str) -> Costs | None:
    if isinstance(costs, str):
        raise InputError(
            f"{name}: has its times already, so that nothing is estimated; give the costs file of these, or none",
            parameters=("costs",),
        )
    return costs


def _is_timeline(path: Path) -> bool:
    """Return whether a file's first line is a timeline's header."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            head = json.loads(lines.readline())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT
