"""Functions are compiled here by numba, and what it compiled is kept until a source changes.

numba looks only at the file of the function that it compiles, not at those of the functions which that one calls, and
would go on with what an edited function did before. So its files lie in a folder whose name is a digest of all sources
of ``loadahead.sim``: other sources, another folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_SOURCES = Path(__file__).parent
# A file of this name in the folder says that all that a run needs was compiled once.
_COMPLETE = "complete"


@cache
def sources_digest() -> str:
    """Return the digest of all sources of ``loadahead.sim``, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_SOURCES).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@cache
def folder() -> Path | None:
    """Return the folder that numba's files lie in: beside the sources, else in the user's cache; None for neither.

    ``NUMBA_CACHE_DIR`` takes the place of both.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    for home in [Path(given)] if given else [_SOURCES / "__pycache__", *_user_caches()]:
        path = home / f"compiled-{sources_digest()}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    return None


def _user_caches() -> list[Path]:
    try:
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loadahead"]
    except RuntimeError:  # a user without a home
        return []


def is_warm() -> bool:
    """Return whether everything that a run needs was compiled before and is kept."""
    found = folder()
    return found is not None and (found / _COMPLETE).exists()


def mark_warm() -> None:
    """Remember that everything was compiled; :func:`loadahead.sim.warm_up.warm_up` has seen to it."""
    found = folder()
    if found is not None:
        (found / _COMPLETE).touch()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, for its arguments' types, and keep the result."""
    import numba

    found = folder()
    if found is None:
        return numba.njit(function)
    # The setting is read here and now; other packages' functions keep what it was.
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(found)
    try:
        return numba.njit(cache=True)(function)
    finally:
        settings.CACHE_DIR = before


def inlined(function: Callable[..., Any]) -> Any:
    """Let compiled functions call a function as if its lines stood there; Python calls it as it is.

    So a rule has one home, and the engine in plain Python and the compiled ones go through it alike.
    """
    from numba.extending import register_jitable

    return register_jitable(forceinline=True)(function)
