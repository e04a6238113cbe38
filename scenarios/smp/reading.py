"""Reads the options of a file: JSON, or Python that is not run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from loadahead.scenarios.smp.options import is_options, names_of_options
from loadahead.scenarios.smp.python_files import options_in
from loadahead.scenarios.smp.values import shown
from loadahead.scenarios.text_files import read_at_most, require_text
from loadahead.sim.errors import InputError, one_line

JSON_SUFFIX, PYTHON_SUFFIX = ".json", ".py"
# Options are a page of text, and an estimator's script a few; a larger file takes long to parse.
LARGEST_FILE = 1_000_000
# Examples that are copied from a web page have this in place of spaces, which neither JSON nor Python takes.
_NO_BREAK_SPACE = "\u00a0"
_GIVE = "give SageMaker's options as JSON, or the Python file that has them"


def is_options_file(path: Path) -> bool:
    """Return whether a file has SageMaker's options rather than a scenario or a plan.

    A Python file is nothing else. A JSON file is one if its keys are; one that is no whole JSON text, if it names some.
    """
    if path.suffix == PYTHON_SUFFIX:
        return True
    try:
        data = read_at_most(path, LARGEST_FILE)
    except (OSError, ValueError):
        return False
    if len(data) > LARGEST_FILE:
        return False
    text = _decoded(data, "replace")
    if not text.lstrip().startswith("{"):
        return False
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return any(f'"{name}"' in text for name in names_of_options())
    return is_options(content)


def read_options(path: Path) -> Mapping[str, Any]:
    """Return the options of a file as they stand there; raise InputError in one line where it has none."""
    try:
        data = read_at_most(path, LARGEST_FILE)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}); {_GIVE}") from error
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: has {size} bytes; options are a file of at most {LARGEST_FILE}")
    require_text(path, data, _GIVE)
    try:
        text = _decoded(data)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; {_GIVE}") from error
    return options_in(text, str(path)) if path.suffix == PYTHON_SUFFIX else _json(text, path)


def _decoded(data: bytes, errors: str = "strict") -> str:
    return data.decode("utf-8-sig", errors).replace(_NO_BREAK_SPACE, " ")


def _json(text: str, path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=partial(_object, path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {error.lineno}: is not JSON ({one_line(error.msg, 80)}); {_GIVE}, whose name ends with "
            f"{PYTHON_SUFFIX}"
        ) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({one_line(error, 80)}); {_GIVE}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; {_GIVE}")
    return content


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise InputError for a key that it has twice with different values."""
    out: dict[str, Any] = {}
    for name, value in pairs:
        if name in out and out[name] != value:
            raise InputError(
                f"{path}: has the key {shown(name)} twice in one object, as {shown(out[name])} and {shown(value)}; "
                "leave the one to be taken"
            )
        out[name] = value
    return out
