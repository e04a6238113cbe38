"""A record of what the figures of small sweeps show; ``python -m tests.golden.sweep_figures`` makes it anew.

That is right only where a change of what figures show is meant.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any

from loadahead.reports.run_data import RunData
from loadahead.reports.views import axis, front, heat_map
from loadahead.reports.views.base import Missing
from tests.support.sweeps import simulated

RECORD = Path(__file__).with_name("figures") / "sweeps.json"
VIEWS = {"front": front.of, "axis": axis.of, "heat_map": heat_map.of}


def sweeps() -> dict[str, RunData]:
    """The sweeps whose figures are recorded."""
    grid = simulated(horizons=(1, 2, 4), counts=(2, 4))
    capacity = sorted(row.peak_device_bytes for row in grid.sweep)[3]
    tight = RunData(sweep=tuple(replace(row, capacity_bytes=capacity) for row in grid.sweep))
    nothing = RunData(sweep=tuple(replace(row, capacity_bytes=1) for row in grid.sweep))
    return {
        "horizons": simulated(horizons=(1, 2, 4), counts=(4,)),
        "grid": grid,
        "some do not fit": tight,
        "nothing fits": nothing,
        "variants": simulated(horizons=(1, 2), counts=(4,), units=("tasks", "layers")),
        "microbatches": simulated(horizons=(2,), counts=(1, 2, 4, 8)),
        "one point": simulated(horizons=(2,), counts=(4,)),
    }


def record() -> dict[str, Any]:
    """Return what each figure of each sweep shows, and says of it."""
    return {
        name: {figure: _shown(view(data)) for figure, view in VIEWS.items()}  # type: ignore[operator]
        for name, data in sweeps().items()
    }


def _shown(view: Any) -> Any:
    if isinstance(view, Missing):
        return {"missing": view.reason}
    return json.loads(json.dumps({"says": view.sentences, **asdict(view, dict_factory=_plain)}))


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Enum) else value for name, value in pairs}


if __name__ == "__main__":
    RECORD.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
