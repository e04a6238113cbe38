"""A sweep's axes, from the short options and from ``--set-range``, in the order in which they change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadahead.cli.ranges import parse_ints, parse_names, parse_texts
from loadahead.sim.errors import InputError

# The planner's choices by their key in a scenario: the column each has in a sweep's table.
POLICY_COLUMNS = {
    "parallel.microbatches": "microbatches",
    "parallel.pipeline": "pipeline",
    "offload.horizon_unit": "horizon_unit",
    "parallel.active_microbatches": "active_microbatches",
    "offload.activation_loading_horizon": "horizon",
    "offload.release_window": "release_window",
}
_KEYS = {column: key for key, column in POLICY_COLUMNS.items()}
_NAMES = ("pipeline", "horizon_unit")
# Two names of one setting.
_ALIASES = {"parallel.partitions": "parallel.pipeline_parallel_degree"}
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a sweep.

    Attributes:
        key: of the scenario, its full path.
        column: its name in the table.
        values: as they stand in the table, all of one type.
        texts: the same as ``--set`` takes them.
    """

    key: str
    column: str
    values: tuple[int | float | str, ...]
    texts: tuple[str, ...]

    @property
    def is_policy(self) -> bool:
        """Whether only the planner has to know its value."""
        return self.key in POLICY_COLUMNS


def policy_axis(column: str, values: Sequence[int | str]) -> Axis:
    """An axis over one of the planner's choices."""
    return Axis(key=_KEYS[column], column=column, values=tuple(values), texts=tuple(map(str, values)))


def parse_axes(short: Mapping[str, str | None], ranges: Iterable[str] = ()) -> tuple[Axis, ...]:
    """The axes from the short options, by column, and from ``--set-range KEY=VALUES``; slowest first.

    Keys that are no choice of the planner's come first, in the order given, then microbatches, pipeline, horizon unit,
    active microbatches, horizon, release window. InputError, in one line, for what is malformed or given twice.
    """
    found: dict[str, tuple[str, Axis]] = {}
    for column, text in short.items():
        if text is not None:
            option = "--" + column.replace("_", "-")
            found[_KEYS[column]] = option, _policy_axis(option, column, text)
    for argument in ranges:
        option, axis = _set_range(argument)
        _refuse_overlap(option, axis.key, found)
        found[_ALIASES.get(axis.key, axis.key)] = option, axis
    order = list(POLICY_COLUMNS)
    return tuple(sorted((axis for _, axis in found.values()), key=lambda a: order.index(a.key) if a.is_policy else -1))


def _policy_axis(option: str, column: str, text: str) -> Axis:
    from loadahead.sim.planner import HORIZON_UNITS, order_names

    if column not in _NAMES:
        return policy_axis(column, parse_ints(option, text))
    return policy_axis(column, parse_names(option, text, order_names() if column == "pipeline" else [*HORIZON_UNITS]))


def _set_range(argument: str) -> tuple[str, Axis]:
    path, equals, text = argument.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise InputError(
            f"--set-range is {argument!r:.80}; it must be KEY=VALUES with the key's full path, e.g. "
            "offload.release_window=1:4"
        )
    key = ".".join(keys)
    option = f"--set-range {key}"
    if key in POLICY_COLUMNS:
        return option, _policy_axis(option, POLICY_COLUMNS[key], text)
    texts = parse_texts(option, text)
    return option, Axis(key=key, column=key, values=_cells(texts), texts=texts)


def _cells(texts: tuple[str, ...]) -> tuple[int | float | str, ...]:
    """What a table shows for each value: itself where all are scalars of one type, else its text."""
    from loadahead.scenarios.loader import toml_value

    values = [toml_value(text) for text in texts]
    types = {_column_type(value) for value in values}
    return tuple(values) if len(types) == 1 and None not in types else texts


def _column_type(value: Any) -> type | None:
    """The type of a scalar that JSON, CSV and Parquet can hold; None for all else."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and value not in _INT64:
        return None
    return type(value) if isinstance(value, bool | int | float | str) else None


def _refuse_overlap(option: str, key: str, found: Mapping[str, tuple[str, Axis]]) -> None:
    key = _ALIASES.get(key, key)
    for other, (known, _) in found.items():
        if other == key:
            raise InputError(f"{option}: this axis is given already by {known}; give it once")
        if other.startswith(f"{key}.") or key.startswith(f"{other}."):
            raise InputError(f"{option}: one of this key and that of {known} holds the other; sweep over one of them")
