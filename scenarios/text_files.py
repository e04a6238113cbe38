"""Reads files of text that people give, and tells what one is that is none."""

from __future__ import annotations

import errno
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from loadahead.sim.errors import InputError

NOTEBOOK_SUFFIX = ".ipynb"
_NOT_REGULAR = "not a regular file"


def read_at_most(path: Path, most: int | None) -> bytes:
    """Return a file's first bytes, one more than ``most`` if it has them (None: all of it); raise OSError otherwise.

    Only a regular file is read: a device may have no end, and a pipe may never begin.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, _NOT_REGULAR)
    with path.open("rb") as file:
        return file.read() if most is None else file.read(most + 1)


def require_text(path: Path, data: bytes, give: str) -> None:
    """Raise InputError in one line where a file is empty, UTF-16, or a notebook; ``give`` says what to do."""
    if path.suffix == NOTEBOOK_SUFFIX or _is_notebook(data):
        raise InputError(f"{path}: is a notebook; save it as a Python file (jupyter nbconvert --to script)")
    if not data.strip():
        raise InputError(f"{path}: is empty; {give}")
    # Every other byte of plain text is 0 there.
    zeros = [byte == 0 for byte in data[:4]]
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or zeros in ([True, False] * 2, [False, True] * 2):
        raise InputError(f"{path}: is text in UTF-16, as some editors write it; save it as UTF-8")


def _is_notebook(data: bytes) -> bool:
    return data.lstrip().startswith(b"{") and b'"nbformat"' in data and b'"cells"' in data
