"""What `loadahead import-smp` prints: what each key became, where processes stand, and the step."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from loadahead.cli.rank_map import rank_map_text
from loadahead.cli.tables import table_text
from loadahead.cli.texts import step_text
from loadahead.reports.tables import Grid
from loadahead.scenarios.smp.values import shown

if TYPE_CHECKING:
    from loadahead.scenarios.smp.conversion import Conversion
    from loadahead.smp import ImportedOptions

# Longer values are cut off in the table; the file has them. What became of a key is wrapped.
WIDEST_VALUE, WIDEST_TABLE, NARROWEST_COLUMN = 20, 100, 32
# Between columns and at their edges there are spaces.
_BETWEEN = 6


def imported_text(imported: ImportedOptions) -> str:
    """Return what options became, in words and as tables."""
    conversion, options = imported.conversion, imported.conversion.options
    head = f"{options.source}: SageMaker's model parallel library {options.version} ({options.why_version})"
    step = step_text(imported.prediction)
    return "\n\n".join([head, table_text(keys_grid(conversion)), rank_map_text(imported.ranks), step])


def keys_grid(conversion: Conversion) -> Grid:
    """Return what became of each key."""
    cells = [(row.key, _cut(shown(row.value)), row.where()) for row in conversion.rows]
    others = sum(max((len(row[column]) for row in cells), default=0) for column in (0, 1))
    width = max(NARROWEST_COLUMN, WIDEST_TABLE - _BETWEEN - others)
    rows = [(key, value, textwrap.fill(where, width, break_on_hyphens=False)) for key, value, where in cells]
    return Grid(headers=("key", "value", "where it went"), rows=tuple(rows), text_columns=frozenset({0, 1, 2}))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST_VALUE else f"{text[: WIDEST_VALUE - 3]}..."
