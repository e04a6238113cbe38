"""What `loadahead import-smp` prints: what each key became, where processes stand, and the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadahead.cli.tables import table_text
from loadahead.cli.texts import step_text
from loadahead.reports.tables import Grid
from loadahead.scenarios.smp.processes import Degrees, processes_on
from loadahead.scenarios.smp.values import shown

if TYPE_CHECKING:
    from loadahead.scenarios.smp.conversion import Conversion
    from loadahead.sim.placement import RankMap
    from loadahead.smp import ImportedOptions

# Processes of a rank map that are shown whole; of a larger one the first and the last host are.
MOST_PROCESSES = 32
# Longer values are cut off in the table; the file has them.
WIDEST_VALUE = 24


def imported_text(imported: ImportedOptions) -> str:
    """Return what options became, in words and as tables."""
    conversion, degrees = imported.conversion, imported.conversion.degrees
    options = conversion.options
    head = f"{options.source}: SageMaker's model parallel library {options.version} ({options.why_version})"
    ranks = table_text(ranks_grid(imported.ranks))
    step = step_text(imported.prediction)
    return "\n\n".join([head, table_text(keys_grid(conversion)), f"{divided_text(degrees)}\n\n{ranks}", step])


def divided_text(degrees: Degrees) -> str:
    """Return in words how the processes are divided."""
    in_all = "" if degrees.hosts == 1 else f", {degrees.processes} in all"
    return (
        f"{processes_on(degrees.per_host, degrees.hosts)}{in_all}: data parallel {degrees.data} x pipeline parallel "
        f"{degrees.pipeline} x tensor parallel {degrees.tensor}"
    )


def keys_grid(conversion: Conversion) -> Grid:
    """Return what became of each key."""
    rows = [(row.key, _cut(shown(row.value)), row.where()) for row in conversion.rows]
    return Grid(headers=("key", "value", "where it went"), rows=tuple(rows), text_columns=frozenset({0, 1, 2}))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST_VALUE else f"{text[: WIDEST_VALUE - 3]}..."


def ranks_grid(ranks: RankMap) -> Grid:
    """Return where each process stands and what it works on; of many hosts the first and the last."""
    names = ("rank", "host", "gpu", "switch", "d", "p", "t")
    rows = ranks.rows()
    shown_rows = [tuple(str(row[name]) for name in names) for row in rows]
    note = ""
    if len(rows) > MOST_PROCESSES and ranks.hosts > 2:
        first = [row for row, found in zip(shown_rows, rows, strict=True) if found["host"] == 0]
        last = [row for row, found in zip(shown_rows, rows, strict=True) if found["host"] == ranks.hosts - 1]
        note = f"Hosts 1 to {ranks.hosts - 2} are left out, with {len(rows) - len(first) - len(last)} processes."
        if ranks.hosts == 3:
            note = f"Host 1 is left out, with {len(rows) - len(first) - len(last)} processes."
        shown_rows = [*first, ("...",) * len(names), *last]
    headers = ("rank", "host", "GPU", "switch", "D", "P", "T")
    return Grid(headers=headers, rows=tuple(shown_rows), text_columns=frozenset(), note=note)
