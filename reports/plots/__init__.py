"""The figures of a report by name. To add one: write its file, add its line here; the page and the tests find it."""

from __future__ import annotations

from reports.plots.base import Drawing, Missing, Plot
from reports.plots.gantt import gantt
from reports.plots.horizon_overlap_stalls import horizon_overlap_stalls
from reports.plots.horizon_time_memory import horizon_time_memory
from reports.plots.memory import memory

# In the order of the page.
PLOTS: dict[str, Plot] = {
    "gantt": gantt,
    "memory": memory,
    "horizon_time_memory": horizon_time_memory,
    "horizon_overlap_stalls": horizon_overlap_stalls,
}

__all__ = ["PLOTS", "Drawing", "Missing", "Plot"]
