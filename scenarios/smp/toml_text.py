"""A scenario file of what options became, which says where each line comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from loadahead.scenarios.smp import v2
from loadahead.scenarios.smp.conversion import Conversion
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.values import shown
from loadahead.scenarios.smp.wanted import PIPELINE

BY_HAND = "set by hand"
# How the file's first line begins, after the sign of a comment.
MADE_OF = "Made of the options of SageMaker's model parallel library"
_ACTIVE, _BACKWARD_FIRST = "active_microbatches", "interleaved"


def scenario_toml(conversion: Conversion) -> str:
    """Return the text of a scenario file; loaded, it is equal to the scenario of the options."""
    document = tomlkit.document()
    options = conversion.options
    name = Path(options.source).name
    document.add(_comment(f"{MADE_OF} {options.version} in {name}."))
    for note in conversion.notes.said:
        document.add(_comment(f"Note: {note.text}."))
    for row in conversion.rows:
        if row.became is None:
            document.add(_comment(f"{row.key} = {shown(row.value)}: {row.where()}."))
    document.add(tomlkit.nl())
    tables = {name: dict(table) for name, table in conversion.tables.items() if isinstance(table, Mapping)}
    cap = _idle_cap(conversion)
    if cap is not None:
        del tables["parallel"][_ACTIVE]
    for name, value in conversion.tables.items():
        if name not in tables:
            document.add(name, value)
    for name, table in tables.items():
        document.add(tomlkit.nl())
        document.add(name, _table(name, table, conversion.origins, options))
        if name == "parallel" and cap is not None:
            document.add(_comment(f"{_ACTIVE} is left out: SageMaker's default, {cap}, holds no microbatch back here."))
    return tomlkit.dumps(document)


def _idle_cap(conversion: Conversion) -> int | None:
    """Return the cap on microbatches where it is SageMaker's default and the order has never more of them in flight.

    In a file it would stay when the degree changes that it follows from.
    """
    parallel = conversion.tables["parallel"]
    if f"parallel.{_ACTIVE}" not in conversion.notes.by_default or not isinstance(parallel, Mapping):
        return None
    cap, most = parallel[_ACTIVE], parallel["microbatches"]
    # Backward first has as many in flight as there are ranks, and the default is more than these.
    holds = type(most) is int and cap >= most
    return int(cap) if holds or parallel["pipeline"] == _BACKWARD_FIRST else None


def _table(name: str, keys: Mapping[str, Any], origins: Mapping[str, str], options: Options) -> Table:
    """Return a table whose keys have their origins as comments; tables inside it come last, as TOML wants them."""
    table = tomlkit.table()
    for key, value in sorted(keys.items(), key=lambda pair: isinstance(pair[1], Mapping)):
        item = tomlkit.item(value)
        if not isinstance(value, Mapping):
            item.comment(_printable(origins.get(f"{name}.{key}", _otherwise(name, key, options))))
        table.add(key, item)
    return table


def _otherwise(name: str, key: str, options: Options) -> str:
    """Return where a key comes from of which no row tells."""
    if (name, key) == ("offload", "horizon_unit"):
        return "v2 counts layers"
    if options.version == v2.NAME and name == "parallel" and key in ("microbatches", PIPELINE):
        return "v2 has no pipeline"
    return BY_HAND


def _comment(text: str) -> Any:
    return tomlkit.comment(_printable(text))


def _printable(text: str) -> str:
    """Return a text that TOML takes as a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
