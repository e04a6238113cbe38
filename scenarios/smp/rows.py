"""Tells what became of each key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.smp import launch
from loadahead.scenarios.smp.keys import UNUSED, Key
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.stand_ins import StandIns
from loadahead.scenarios.smp.values import NotKnown, shown
from loadahead.scenarios.smp.wanted import OLDER_PIPELINE, PIPELINE

BY_DEFAULT = "SageMaker's default"
_NOT_USED = "not used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Says what became of one key.

    Attributes:
        becomes: the scenario's key that it became, by its full path; empty where it changes no prediction.
        value_there: that key's value.
        note: why it changes none, or what else is to be known.
        by_default: whether the key is not given.
        unused: what is said where it changes no prediction, before the note.
    """

    key: str
    value: Any
    becomes: str = ""
    value_there: Any = None
    note: str = ""
    by_default: bool = False
    unused: str = UNUSED

    @property
    def became(self) -> str | None:
        """The scenario's key and its value; None where it changes no prediction."""
        return f"{self.becomes} = {shown(self.value_there)}" if self.becomes else None

    def where(self) -> str:
        """Return in words where the key went."""
        if self.became is None:
            return f"{self.unused}: {self.note}"
        return self.became + (" (default)" if self.by_default else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        value = self.value if _is_plain(self.value) else shown(self.value)
        note = self.where() if self.became is None else self.note
        if self.by_default:
            note = f"{BY_DEFAULT}; {note}" if note else BY_DEFAULT
        return {"key": self.key, "value": value, "became": self.became, "note": note}


def _is_plain(value: Any) -> bool:
    """Return whether JSON can hold the value as it is."""
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def rows_of(options: Options, tables: Mapping[str, Any], found: StandIns) -> tuple[Row, ...]:
    """Return a row for each key that is given, then for those that are used by default."""
    rows = [_row(options.keys[name], value, tables) for name, value in options.parameters.items()]
    for name, value in options.launch.items():
        if name == "instance_type" and not found.machine_is_instance:
            why = "none of the machines known" if found.instance_unknown else "the hardware is given otherwise"
            rows.append(Row(key=name, value=value, note=why, unused=_NOT_USED))
        elif isinstance(value, NotKnown) and name in launch.INSTANCES:
            rows.append(Row(key=name, value=value, note="only running the file would tell it", unused=_NOT_USED))
        else:
            rows.append(_row(launch.AROUND[name], value, tables))
    return (*rows, *_defaults(options, tables))


def _defaults(options: Options, tables: Mapping[str, Any]) -> list[Row]:
    """Return a row for each key that is used and not given."""
    out = []
    for name, key in options.keys.items():
        there = value_at(tables, key.path(key.default))
        is_other_name = name in (PIPELINE, OLDER_PIPELINE) and OLDER_PIPELINE in options.parameters
        if name in options.parameters or there is None or is_other_name or not key.shown_default():
            continue
        out.append(_row(key, there if key.default is None else key.default, tables, by_default=True))
    return out


def _row(key: Key, value: Any, tables: Mapping[str, Any], by_default: bool = False) -> Row:
    path = key.path(value)
    there = value_at(tables, path)
    return Row(key=key.name, value=value, becomes=path, value_there=there, note=key.why, by_default=by_default)


def value_at(tables: Mapping[str, Any], path: str) -> Any:
    """Return the value at a key's full path; None where there is none."""
    name, _, key = path.partition(".")
    table = tables.get(name)
    if not isinstance(table, Mapping):
        return None
    return table.get(OLDER_PIPELINE if key == PIPELINE and key not in table else key)
