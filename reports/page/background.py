"""Makes a page's sections behind its numbers: how far to trust them, on what machine they arose, what is missing."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping

from loadahead.reports.doubt.reliability import doubts
from loadahead.reports.page.markup import paragraphs, table
from loadahead.reports.page.outline import Section, section
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import Grid
from loadahead.sim.units import format_bytes

# What a run may lack, in words, and whether it is there.
_PARTS: tuple[tuple[str, Callable[[RunData], bool]], ...] = (
    ("the plan (waits in the Gantt chart have no stated cause)", lambda data: data.plan is not None),
    ("the predicted timeline", lambda data: data.predicted is not None),
    ("the measured timeline", lambda data: data.measured is not None),
    ("the costs", lambda data: data.costs is not None),
    ("the sweep", lambda data: bool(data.sweep)),
    ("horizons run one by one", lambda data: bool(data.horizons)),
    ("the result of the execution", lambda data: bool(data.result)),
)


def trust_section(data: RunData) -> Section:
    """Return how far the numbers can be trusted: timed steps and their spread, the link, and where costs come from."""
    return section("trust", "How far to trust this", paragraphs(doubts(data)))


def machine_section(data: RunData) -> Section:
    """Return the machine that a run was measured on, the engine, and the versions that made the page."""
    machine = None if data.measured is None else data.measured.header.get("machine")
    machine = data.result.get("machine") if machine is None else machine
    rows = []
    if isinstance(machine, Mapping):
        for key, value in machine.items():
            text = format_bytes(value) if key.endswith("_bytes") and type(value) is int else str(value)
            rows.append((key.removesuffix("_bytes").replace("_", " "), text))
    if data.measured is not None:
        rows.insert(0, ("run on", data.measured.source))
    if data.predicted is not None:
        rows.append(("simulated by", f"the {data.predicted.source} engine"))
    rows.append(
        (
            "this page",
            f"Loadahead {_version('loadahead')}, Python {platform.python_version()}, "
            f"NumPy {_version('numpy')}, Matplotlib {_version('matplotlib')}",
        )
    )
    title = "Machine and versions"
    grid = Grid(headers=("", ""), rows=tuple(rows), text_columns=frozenset({0, 1}))
    return section("machine", title, table(grid, title, sortable=False))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def missing_sentence(data: RunData) -> str:
    """Return which parts a run directory does not hold; empty where it has all."""
    without = [text for text, is_there in _PARTS if not is_there(data)]
    return f"This run has no: {'; '.join(without)}. What needs them is left out." if without else ""
