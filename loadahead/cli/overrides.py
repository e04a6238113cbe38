"""``--set KEY=VALUE`` on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loadahead.sim.errors import InputError


def parse_overrides(texts: Iterable[str] | None) -> dict[str, Any]:
    """Return new values by the key's full path; each value is TOML, or else a text.

    InputError, naming the option, where a text is not KEY=VALUE. Of a key given twice the last value counts.
    """
    from loadahead.scenarios.loader import split_key, toml_value

    overrides: dict[str, Any] = {}
    for text in texts or ():
        path, equals, value = text.partition("=")
        try:
            key = ".".join(split_key(path)) if equals else ""
        except InputError:
            key = ""
        if not key:
            raise InputError(
                f"--set {text!r:.80}: it must be KEY=VALUE with the key's full path, e.g. offload.release_window=2"
            )
        overrides.pop(key, None)
        overrides[key] = toml_value(value.strip())
    return overrides
