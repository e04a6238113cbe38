"""pydantic's errors are told in one line: the key's path, the value, what is allowed and the nearest spelling."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[int | str, ...]

# Errors of this type have a text that shows the value already.
SAYS_VALUE = "says_value"


def _exactly_one(value: object) -> object:
    """Return the value if it is the integer 1; pydantic's ``Literal[1]`` would also take ``true`` and 1.0."""
    if type(value) is not int or value != 1:
        raise PydanticCustomError("version", "it must be 1")
    return value


Version1 = Annotated[Literal[1], BeforeValidator(_exactly_one)]


def schema_error_line(
    error: ValidationError,
    kind: str,
    keys: Callable[[Path], Sequence[str]] | None = None,
    hint: Callable[[Path], str | None] | None = None,
) -> str:
    """Return the line of the error that helps most.

    An unknown key comes before all else, as it is often the misspelling of a key that is missing.

    Args:
        kind: what the file is, e.g. ``"a plan file"``.
        keys: returns the keys that the object at a path may have.
        hint: returns what was meant by the unknown key at a path, in a sentence; None: the nearest of ``keys``.
    """
    details = error.errors(include_url=False)
    most_helpful = next((detail for detail in details if detail["type"] == "extra_forbidden"), details[0])
    return " ".join(_line(most_helpful, kind, keys, hint).split())


def _line(
    detail: ErrorDetails,
    kind: str,
    keys: Callable[[Path], Sequence[str]] | None,
    hint: Callable[[Path], str | None] | None,
) -> str:
    path = shown_path(detail["loc"])
    if detail["type"] == "missing":
        return f"{path}: is missing; it is required"
    if detail["type"] == "extra_forbidden":
        meant = hint(detail["loc"]) if hint else None
        if meant is not None:
            return f"{path}: is not a key of {kind}; {meant}"
        known = keys(detail["loc"][:-1]) if keys else ()
        return f"{path}: is not a key of {kind}{_nearest(str(detail['loc'][-1]), known)}"
    if detail["type"] == "json_invalid":
        return f"is not a whole JSON object ({detail['msg']})"
    message = detail["msg"].replace("Input should be", "it must be")
    if message.startswith("it must be a valid dictionary"):
        message = "it must be a table of keys"
    if detail["type"] == SAYS_VALUE or isinstance(detail["input"], dict):
        return f"{path}: {message}"
    return f"{path} = {shown_value(detail['input'])}: {message}"


def _nearest(key: str, known: Sequence[str]) -> str:
    if not known:
        return "; remove it or mend its spelling"
    close = difflib.get_close_matches(key, known, n=1)
    allowed = f"llowed: {', '.join(known)}"
    return f"; did you mean {close[0]}? A{allowed}" if close else f"; a{allowed}"


def shown_path(path: Path) -> str:
    """Return a path as text, e.g. ``ops.3.kind``; an empty path is "the file"."""
    return ".".join(str(part)[:60] for part in path if part != "[key]") or "the file"


def shown_value(value: Any) -> str:
    """Return the value as Python writes it, cut to 60 characters."""
    try:
        text = f"{value!r}"
    except ValueError:  # Python writes out no integer of thousands of digits
        return "a value with a number too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."
