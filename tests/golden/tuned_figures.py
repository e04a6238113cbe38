"""A record of what the figures of tuned plans show; ``python -m tests.golden.tuned_figures`` makes it anew.

That is right only where a change of what figures show is meant. The plans are given, so that no search changes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadahead.reports.run_data import RunData
from loadahead.reports.views.tuned_boundaries import tuned_boundaries
from loadahead.reports.views.tuned_frontier import tuned_frontier
from tests.golden.figures import plain
from tests.support import tuned_runs

RECORD = Path(__file__).with_name("figures") / "tuned.json"
RUNS: dict[str, Callable[[], RunData]] = {
    "one rank": tuned_runs.small,
    "four ranks": tuned_runs.many,
    "nothing leaves": tuned_runs.nothing_leaves,
    "budget not met": tuned_runs.not_met,
}


def record() -> dict[str, Any]:
    """Return what each figure of each run shows, and what was said of the plan."""
    found = {}
    for name, run in RUNS.items():
        data = run()
        assert data.tuning is not None
        views = {"frontier": tuned_frontier(data), "boundaries": tuned_boundaries(data)}
        found[name] = {view: plain(shown) for view, shown in views.items()} | {"says": list(data.tuning.sentences)}
    out: dict[str, Any] = json.loads(json.dumps(found))
    return out


if __name__ == "__main__":
    RECORD.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
