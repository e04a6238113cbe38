"""Progress on stderr: a bar with the remaining time on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from loadahead.cli.output import note
from loadahead.progress import Progress, ProgressCallback

# Seconds between plain lines.
EVERY = 5.0


@contextmanager
def shown_progress() -> Iterator[ProgressCallback]:
    """Yield a callback for long work, whose reports are shown on stderr until the work is left."""
    with ExitStack() as stack:
        yield Bars(stack) if sys.stderr.isatty() else Lines()


class Lines:
    """Prints each piece of work as a line once, then how far it is every few seconds."""

    def __init__(self) -> None:
        self._what = ""
        self._began = self._shown = 0.0
        self._before = 0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.what != self._what or not progress.total:
            self._what, self._began, self._shown, self._before = progress.what, now, now, progress.done
            note(progress.what)
        elif now - self._shown >= EVERY and self._before < progress.done < progress.total:
            self._shown = now
            left = (now - self._began) / (progress.done - self._before) * (progress.total - progress.done)
            note(f"{progress.done} of {progress.total} done, {left:.0f} s left")


class Bars:
    """Draws a bar for each piece of work, with rich; messages stand above it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._what = stack, ""
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, progress: Progress) -> None:
        if not progress.total:
            self._close()
            note(progress.what)
            return
        if progress.what != self._what:
            self._close()
            self._open(progress)
        self._bar.update(self._task, completed=progress.done)
        if progress.done >= progress.total:
            self._close()

    def _open(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        left = TimeRemainingColumn(elapsed_when_finished=True)
        self._what = progress.what
        self._bar = self._stack.enter_context(RichProgress(*columns, left, console=Console(stderr=True)))
        self._task = self._bar.add_task(progress.what, total=progress.total, completed=progress.done)

    def _close(self) -> None:
        self._stack.close()
        self._bar, self._what = None, ""
