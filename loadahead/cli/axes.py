"""A sweep's axes from the command line: the short options and ``--set-range``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loadahead.cli.ranges import parse_ints, parse_names, parse_texts
from loadahead.scenarios.loader import toml_value
from loadahead.sim.errors import InputError
from loadahead.sweeps.axes import KEY_OF_COLUMN, LOWEST, POLICY_COLUMNS, Axis, in_order, key_axis, names_of, policy_axis


def parse_axes(short: Mapping[str, str | None], ranges: Iterable[str] = ()) -> tuple[Axis, ...]:
    """Return the axes of the short options, by column, and of ``--set-range KEY=VALUES``, slowest first.

    InputError, in one line that names the option, for what is malformed or given twice.
    """
    axes: dict[str, tuple[str, Axis]] = {}
    for column, text in short.items():
        if text is not None:
            option = "--" + column.replace("_", "-")
            axes[KEY_OF_COLUMN[column]] = option, _policy_axis(option, column, text)
    return in_order([*axes.values(), *(_set_range(argument) for argument in ranges)])


def _policy_axis(option: str, column: str, text: str) -> Axis:
    if column in LOWEST:
        return policy_axis(column, parse_ints(option, text, LOWEST[column]))
    return policy_axis(column, parse_names(option, text, names_of(column)))


def _set_range(argument: str) -> tuple[str, Axis]:
    """Return the option as errors name it, and its axis."""
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
    return option, key_axis(key, [toml_value(text) for text in texts], texts)
