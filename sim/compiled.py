"""Functions are compiled here by numba, and what it compiled is kept until a source changes.

numba looks only at the file of the function that it compiles, not at those of the functions which that one calls, and
would go on with what an edited function did before. So its files lie in a folder whose name is a digest of all sources
of ``loadahead.sim``: other sources, another folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_SOURCES = Path(__file__).parent


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


# What is compiled by itself: all that a run needs, and what tuning needs beside it.
RUNS, TUNING = "complete", "tuning"


@cache
def _marker(part: str) -> Path | None:
    """Return the file that says that all of a part was compiled and is kept; None where nothing is kept.

    numba keeps what it compiled apart by what is in the marker's name.
    """
    import numba
    from llvmlite import binding

    machine = (str(_SOURCES), sys.implementation.cache_tag, numba.__version__, binding.get_host_cpu_name())
    found = folder()
    return None if found is None else found / f"{part}-{hashlib.sha256(repr(machine).encode()).hexdigest()[:16]}"


# The parts that this process has compiled, which counts where nothing is kept.
_warm_here: set[str] = set()


def is_warm(part: str = RUNS) -> bool:
    """Return whether nothing of a part has to be compiled any more."""
    import numba

    settings: Any = numba.config
    marker = _marker(part)
    return bool(part in _warm_here or settings.DISABLE_JIT or (marker is not None and marker.exists()))


def mark_warm(part: str = RUNS) -> None:
    """Remember that all of a part was compiled; :mod:`loadahead.sim.warm_up` has seen to it."""
    _warm_here.add(part)
    marker = _marker(part)
    if marker is not None:
        with suppress(OSError):  # a full disk: the next process compiles what is not there
            marker.touch()


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
        dispatcher = numba.njit(cache=True)(function)
    finally:
        settings.CACHE_DIR = before
    _forgive(dispatcher)
    return dispatcher


def _forgive(dispatcher: Any) -> None:
    """Let a function be compiled anew where what was kept of it is damaged, and run where nothing can be kept.

    numba itself ends in a traceback at a damaged file, at every start, and at a full disk.
    """
    kept = getattr(dispatcher, "_cache", None)
    if kept is None:
        return
    load, save = kept.load_overload, kept.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # whatever unpickling makes of other bytes
            with suppress(OSError):
                kept.flush()
            return None

    def save_overload(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    kept.load_overload, kept.save_overload = load_overload, save_overload


def inlined(function: Callable[..., Any]) -> Any:
    """Let compiled functions call a function as if its lines stood there; Python calls it as it is.

    So a rule has one home, and the engine in plain Python and the compiled ones go through it alike.
    """
    from numba.extending import register_jitable

    return register_jitable(forceinline=True)(function)
