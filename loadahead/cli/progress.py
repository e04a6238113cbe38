"""Progress on stderr: a bar with the remaining time on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loadahead.cli.output import note

# Seconds between plain lines.
EVERY = 5.0


@contextmanager
def progress(what: str, total: int, finished: int = 0) -> Iterator[Callable[[int], None]]:
    """Inside, call what is given with the number of parts just done; ``finished`` of ``total`` were done before."""
    if not sys.stderr.isatty():
        note(what)
        yield _plain_lines(total, finished)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    left = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, left, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=finished)
        yield lambda count: bar.advance(task, count)


def _plain_lines(total: int, finished: int) -> Callable[[int], None]:
    began = said = time.monotonic()
    done = finished

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if now - said >= EVERY and done < total:
            said = now
            left = (now - began) / (done - finished) * (total - done)
            note(f"{done} of {total} done, {left:.0f} s left")

    return advance
