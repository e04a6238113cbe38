"""pydantic's complaints as one line: the key's path, the value, what is allowed, the nearest spelling."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[int | str, ...]

# The type of a complaint whose text shows the value already.
SAYS_VALUE = "says_value"


def _exactly_one(value: object) -> object:
    """pydantic's ``Literal[1]`` takes ``true`` and 1.0, which equal 1."""
    if type(value) is not int or value != 1:
        raise PydanticCustomError("version", "it must be 1")
    return value


Version1 = Annotated[Literal[1], BeforeValidator(_exactly_one)]


def complaint(error: ValidationError, kind: str, keys: Callable[[Path], Sequence[str]] | None = None) -> str:
    """The complaint that helps most: an unknown key if there is one, as it is often a missing one misspelt.

    Args:
        kind: what the file is, e.g. ``"a plan file"``.
        keys: the keys that the object at a path may have.
    """
    found = error.errors(include_url=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    return " ".join(_line(first, kind, keys).split())


def _line(first: ErrorDetails, kind: str, keys: Callable[[Path], Sequence[str]] | None) -> str:
    path = shown_path(first["loc"])
    if first["type"] == "missing":
        return f"{path}: is missing; it is required"
    if first["type"] == "extra_forbidden":
        known = keys(first["loc"][:-1]) if keys else ()
        return f"{path}: is not a key of {kind}{_nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "json_invalid":
        return f"is not a whole JSON object ({first['msg']})"
    message = first["msg"].replace("Input should be", "it must be")
    if message.startswith("it must be a valid dictionary"):
        message = "it must be a table of keys"
    if first["type"] == SAYS_VALUE or isinstance(first["input"], dict):
        return f"{path}: {message}"
    return f"{path} = {shown_value(first['input'])}: {message}"


def _nearest(key: str, known: Sequence[str]) -> str:
    if not known:
        return "; remove it or mend its spelling"
    close = difflib.get_close_matches(key, known, n=1)
    allowed = f"llowed: {', '.join(known)}"
    return f"; did you mean {close[0]}? A{allowed}" if close else f"; a{allowed}"


def shown_path(path: Path) -> str:
    """``ops.3.kind``."""
    return ".".join(str(part)[:60] for part in path if part != "[key]") or "the file"


def shown_value(value: Any) -> str:
    """The value as it stands in a file, cut short."""
    text = f"{value!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."
