"""What runs first after an installation compiles for some seconds, once, and says so before.

So a bar's estimate is not spoilt by it, and nobody takes the wait for the work. It happens where planning begins, after
all that may be wrong with a scenario: a slip of the pen is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from loadahead.progress import Progress, ProgressCallback, silent

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Planning is deep below those who report, and compiles in one process of thousands.
_told: ContextVar[ProgressCallback] = ContextVar("told", default=silent)


def compile_first(progress: ProgressCallback | None = None) -> None:
    """Compile all that a run needs, and report it before; do nothing where it was compiled already.

    The report goes to the callback given, or else to that of :func:`telling`.
    """
    from loadahead.sim.compiled import is_warm

    if is_warm():
        return
    (progress or _told.get())(Progress(f"compiling the simulator, {_how_often()}: some 15 s"))
    from loadahead.sim.warm_up import warm_up

    warm_up()


def compile_tuning_first(progress: ProgressCallback | None = None) -> None:
    """Compile what tuning needs, and all that a run needs, in the same way."""
    from loadahead.sim.compiled import TUNING, is_warm

    compile_first(progress)
    if is_warm(TUNING):
        return
    (progress or _told.get())(Progress(f"compiling tuning, {_how_often()}: some 15 s"))
    from loadahead.sim.warm_up import warm_up_tuning

    warm_up_tuning()


def _how_often() -> str:
    from loadahead.sim.compiled import folder

    return "once for this version" if folder() is not None else "each time, as no folder can be written to keep it"


@contextmanager
def telling(progress: ProgressCallback) -> Iterator[None]:
    """Report to this callback when something has to be compiled inside."""
    token = _told.set(progress)
    try:
        yield
    finally:
        _told.reset(token)


def tells_of_compiling(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function of the library report to its argument ``progress``, where it is given, what has to be compiled."""

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        progress = kwargs.get("progress")
        with telling(progress if callable(progress) else _told.get()):
            return function(*args, **kwargs)

    return wrapper
