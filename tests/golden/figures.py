"""A record of what the figures of one run show: their numbers and sentences, never pixels.

``python -m tests.golden.figures`` makes the files anew, which is right only where a change of figures is meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from loadahead.jobs import job_of, with_costs
from loadahead.prediction import keep_all, predict
from loadahead.reports.run_data import RunData
from loadahead.reports.views.gantt import gantt
from loadahead.reports.views.gantt_parts import Room
from loadahead.reports.views.link_use import link_use
from loadahead.reports.views.memory import memory_over_time
from loadahead.reports.views.time_parts import time_parts
from tests.golden.record import COSTS, MODULES
from tests.support.pictures_of_runs import stretched

FOLDER = Path(__file__).parent / "figures"
# Little is kept of each, so that people can read what changed.
VIEWS: dict[str, Callable[[RunData], Any]] = {
    "memory": lambda data: memory_over_time(data, most_ranks=2, most_points=12),
    "time_parts": lambda data: time_parts(data, most_ranks=4),
    "gantt": lambda data: gantt(data, Room(boxes=80, boxes_in_row=16, ranks=2, points=300, columns=20, arrows=1)),
    "link_use": lambda data: link_use(data, most_links=4, columns=20),
}


def _run(name: str, measured: float | None = None) -> RunData:
    costs = COSTS / f"{name}.json" if name in MODULES else None
    job, known = with_costs(job_of(name, costs=costs))
    predicted = predict(job, known)
    return RunData(
        plan=job.plan,
        costs=known,
        predicted=predicted,
        measured=None if measured is None else stretched(predicted, measured),
        keep_all=keep_all(job, known),
    )


def _with_measurement() -> RunData:
    """Return the demo beside a step that is 4 % longer, in which one operation ran late."""
    data = _run("demo", 1.04)
    assert data.measured is not None
    start, end = data.measured.start_ns.copy(), data.measured.end_ns.copy()
    last = int(start.argmax())
    start[last], end[last] = start[last] + 20_000_000, end[last] + 20_000_000
    return replace(data, measured=replace(data.measured, start_ns=start, end_ns=end))


RUNS: dict[str, Callable[[], RunData]] = {
    "two-rank": cache(lambda: _run("two-rank")),
    "shared-switch": cache(lambda: _run("shared-switch")),
    "demo-measured": cache(_with_measurement),
}


def plain(value: Any) -> Any:
    """Return a view as JSON holds it, its sentences too."""
    if is_dataclass(value) and not isinstance(value, type):
        out = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return out | ({"sentences": value.sentences} if hasattr(value, "sentences") else {})
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(of) for of in value]
    return round(value, 4) if isinstance(value, float) else value


def record(run: str, view: str) -> Any:
    """Return what a figure of a run shows."""
    return plain(VIEWS[view](RUNS[run]()))


def text(run: str) -> str:
    """Return the file of a run: a line for each part of each view."""
    views = []
    for view in VIEWS:
        parts = [f"{json.dumps(part)}: {json.dumps(value)}" for part, value in record(run, view).items()]
        views.append(f"{json.dumps(view)}: {{\n  " + ",\n  ".join(parts) + "\n}")
    return "{" + ",\n".join(views) + "}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for run in RUNS:
        (FOLDER / f"{run}.json").write_text(text(run))
