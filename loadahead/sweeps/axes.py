"""A sweep's axes: which keys of the scenario change, over which values, and in which order."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.fields import LARGEST_COUNT
from loadahead.scenarios.key_hints import full_keys
from loadahead.scenarios.loader import split_key
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import shown_value
from loadahead.sim.step_metrics import DECISIONS

# The planner's choices by their key in a scenario: the column each has in a sweep's table.
POLICY_COLUMNS = {
    "parallel.microbatches": "microbatches",
    "parallel.pipeline": "pipeline",
    "offload.horizon_unit": "horizon_unit",
    "parallel.active_microbatches": "active_microbatches",
    "offload.activation_loading_horizon": "horizon",
    "offload.release_window": "release_window",
    "offload.receive_ahead": "receive_ahead",
    "offload.decisions": DECISIONS,
}
KEY_OF_COLUMN = {column: key for key, column in POLICY_COLUMNS.items()}
# More values than this on one axis are a slip of the pen, not a sweep.
MOST_VALUES = 10_000
# Those that take whole numbers, with the lowest.
LOWEST = {"microbatches": 1, "active_microbatches": 1, "horizon": 1, "release_window": 1, "receive_ahead": 0}
# Two names of one setting.
_ALIASES = {"parallel.partitions": "parallel.pipeline_parallel_degree"}
# Python may refuse to write out an integer of more.
_MOST_BITS = 256
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a sweep.

    Attributes:
        key: the scenario's key, its full path.
        column: its name in the table.
        values: the values as they stand in the table, all of one type.
        settings: the same values as the scenario takes them.
    """

    key: str
    column: str
    values: tuple[int | float | str, ...]
    settings: tuple[Any, ...]

    @property
    def is_policy(self) -> bool:
        """Whether only the planner has to know its value."""
        return self.key in POLICY_COLUMNS


def names_of(column: str) -> list[str]:
    """Return the values that one of the planner's choices may have; none for one that takes whole numbers."""
    from loadahead.sim.planner import HORIZON_UNITS, MAKERS, order_names

    return {"pipeline": order_names(), "horizon_unit": [*HORIZON_UNITS], DECISIONS: [*MAKERS]}.get(column, [])


def policy_axis(column: str, values: Sequence[int | str], name: str | None = None) -> Axis:
    """Return an axis over one of the planner's choices; InputError, beginning with ``name``, for a wrong value."""
    name = name or column
    names = names_of(column)
    for value in values:
        if column in LOWEST and (type(value) is not int or not LOWEST[column] <= value <= LARGEST_COUNT):
            raise InputError(
                f"{name} has the value {shown_value(value)}; it must be a whole number of at least {LOWEST[column]} "
                f"and at most {LARGEST_COUNT}"
            )
        if column not in LOWEST and value not in names:
            raise InputError(f"{name} has the value {value!r:.40}; it must be one of {', '.join(names)}")
    chosen = tuple(dict.fromkeys(values))
    return Axis(key=KEY_OF_COLUMN[column], column=column, values=chosen, settings=chosen)


def key_axis(key: str, settings: Sequence[Any], shown: Sequence[str] | None = None) -> Axis:
    """Return an axis over any key of the scenario; ``shown`` holds the values' texts, for a table of mixed types."""
    texts = tuple(map(str, settings)) if shown is None else tuple(shown)
    types = {_column_type(value) for value in settings}
    cells = tuple(settings) if len(types) == 1 and None not in types else texts
    return Axis(key=key, column=key, values=cells, settings=tuple(settings))


def axes_of(values: Mapping[str, Iterable[Any]]) -> tuple[Axis, ...]:
    """Return the axes over these values, by the key's full path or by a policy's column, e.g. ``{"horizon": [1, 2]}``.

    InputError, in one line, for what is not a key, has no values or is given twice.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f'the axes are of type {type(values).__name__}; give a dictionary, e.g. {{"horizon": range(1, 9)}}'
        )
    axes: list[tuple[str, Axis]] = []
    for name, some in values.items():
        settings = _listed(name, some)
        if name in KEY_OF_COLUMN or name in POLICY_COLUMNS:
            axes.append((name, policy_axis(POLICY_COLUMNS.get(name, name), settings, name)))
        elif "." not in str(name):
            raise _unknown(str(name))
        else:
            axes.append((name, key_axis(".".join(split_key(name)), settings)))
    return in_order(axes)


def _unknown(name: str) -> InputError:
    """Return the error about an axis of a name that is no column and no key's full path."""
    columns = difflib.get_close_matches(name, KEY_OF_COLUMN, n=1)
    found = full_keys(name) or [KEY_OF_COLUMN[column] for column in columns]
    meant = [f"{POLICY_COLUMNS[key]} ({key})" if key in POLICY_COLUMNS else key for key in found if "." in key]
    hint = f"did you mean {' or '.join(meant)}? It" if meant else "it"
    return InputError(
        f"sweep axis {name!r:.60} is unknown; {hint} must be one of {', '.join(KEY_OF_COLUMN)} or a key's full path, "
        "e.g. hardware.d2h"
    )


def _listed(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"the values of {name} are {values!r:.40}; give a list of them, e.g. [1, 2, 4] or range(1, 9)")
    listed: list[Any] = []
    for value in values:
        # numpy's numbers count as Python's.
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        if getattr(value, "ndim", 0):
            raise InputError(f"{name} has an array among its values; give numbers or texts")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise InputError(f"{name} has a number of {value.bit_length()} bits among its values; give smaller ones")
        if value not in listed:
            listed.append(value)
        if len(listed) > MOST_VALUES:
            raise InputError(f"{name} has more than {MOST_VALUES} values; give fewer")
    if not listed:
        raise InputError(f"{name} has no values; give at least one")
    return listed


def in_order(named_axes: Iterable[tuple[str, Axis]]) -> tuple[Axis, ...]:
    """Return axes in the order in which they change, slowest first; each comes with its name, for errors.

    Keys that are no choice of the planner's come first, in the order given, then microbatches, pipeline, horizon unit,
    active microbatches, horizon, release window, receive ahead, what decides. InputError where two axes are of one key,
    or one holds the other.
    """
    seen: dict[str, tuple[str, Axis]] = {}
    for name, axis in named_axes:
        key = canonical(axis.key)
        _refuse_overlap(name, key, seen)
        seen[key] = name, axis
    order = list(POLICY_COLUMNS)
    return tuple(sorted((axis for _, axis in seen.values()), key=lambda a: order.index(a.key) if a.is_policy else -1))


def canonical(key: str) -> str:
    """Return the name that the schema has for a key."""
    return _ALIASES.get(key, key)


def _refuse_overlap(name: str, key: str, seen: Mapping[str, tuple[str, Axis]]) -> None:
    for other, (known, _) in seen.items():
        if other == key:
            raise InputError(f"{name}: this axis is given already by {known}; give it once")
        if other.startswith(f"{key}.") or key.startswith(f"{other}."):
            raise InputError(f"{name}: one of this key and that of {known} holds the other; sweep over one of them")


def _column_type(value: Any) -> type | None:
    """Return the type of a scalar that JSON, CSV and Parquet can hold; None for all else."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and value not in _INT64:
        return None
    return type(value) if isinstance(value, bool | int | float | str) else None


def plain(settings: Iterable[Any]) -> list[str]:
    """Return each setting as JSON, or else as text: what a journal keeps of an axis."""
    return [json.dumps(setting, default=str, sort_keys=True) for setting in settings]
