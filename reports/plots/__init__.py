"""Registers the figures of a report by name. To add one: write its file, add its line; page and tests find it."""

from __future__ import annotations

from loadahead.reports.plots.axis_overlap_stalls import axis_overlap_stalls
from loadahead.reports.plots.axis_time_memory import axis_time_memory
from loadahead.reports.plots.base import Drawing, Layout, Missing, Plot
from loadahead.reports.plots.front import front
from loadahead.reports.plots.gantt import gantt
from loadahead.reports.plots.heat_map import heat_map
from loadahead.reports.plots.link_use import link_use
from loadahead.reports.plots.memory import memory
from loadahead.reports.plots.order import order
from loadahead.reports.plots.time_parts import time_parts
from loadahead.reports.plots.tuned_boundaries import tuned_boundaries
from loadahead.reports.plots.tuned_frontier import tuned_frontier
from loadahead.reports.plots.unit_times import units

# The page shows them in this order.
PLOTS: dict[str, Plot] = {
    "tuned_frontier": tuned_frontier,
    "tuned_boundaries": tuned_boundaries,
    "memory": memory,
    "time_parts": time_parts,
    "gantt": gantt,
    "link_use": link_use,
    "front": front,
    "axis_time_memory": axis_time_memory,
    "axis_overlap_stalls": axis_overlap_stalls,
    "heat_map": heat_map,
}

# Notebooks show these as well, of what is no run: of a plan alone, and of costs alone.
FIGURES: dict[str, Plot] = {**PLOTS, "order": order, "units": units}

__all__ = ["FIGURES", "PLOTS", "Drawing", "Layout", "Missing", "Plot"]
