"""The table of the keys as the documentation has it; a test compares the two."""

from __future__ import annotations

from loadahead.scenarios.smp import launch
from loadahead.scenarios.smp.keys import Keys
from loadahead.scenarios.smp.options import VERSIONS


def key_tables() -> dict[str, str]:
    """Return the Markdown table of each version's keys and of those around them, by name."""
    return {name: _table(keys) for name, keys in (*VERSIONS.items(), ("launch", launch.AROUND))}


def _table(keys: Keys) -> str:
    rows = [
        f"| `{key.name}` | {key.allowed.text} | {key.shown_default()} | {key.says()} |".replace("  |", " |")
        for key in keys.values()
    ]
    return "\n".join(["| key | value | default | what becomes of it |", "|---|---|---|---|", *rows])
