"""The command line, with a sweep to which something happens at a moment: python halted_sweep.py MOMENT ARGUMENTS.

A moment is ``POINTS:WHAT``: at the write to the journal with which so many points of this run are finished, the process
is killed ``before`` it, ``within`` it or ``after`` it; or after it Ctrl-C reaches its process group (``interrupt``), or
it waits there until the test ends (``pause``). "" for none.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from loadahead.cli.main import main
from loadahead.sweeps import workers

WHOLE_BYTES = 300  # writes of more are torn into two, as write() may do
JOURNAL = (b'{"format": "loadahead-sweep"', b'{"point"')

_write = os.write


class Halt:
    """Stands in for :func:`os.write`."""

    def __init__(self, moment: str) -> None:
        points, _, self.what = moment.partition(":")
        self.left = int(points or 0)
        self.parent = os.getppid()
        self.journals: set[int] = set()

    def write(self, descriptor: int, data: memoryview) -> int:
        content = bytes(data)
        if content.startswith(JOURNAL):
            self.journals.add(descriptor)
        if descriptor not in self.journals:
            return _write(descriptor, data)
        part = content if len(content) <= WHOLE_BYTES else content[: len(content) // 2]
        points = part.count(b"\n") - content.startswith(JOURNAL[0])
        if not self.what or self.left > points:
            self.left -= points
            return _write(descriptor, part)
        return self.halt(descriptor, part)

    def halt(self, descriptor: int, part: bytes) -> int:
        if self.what == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "within":
            _write(descriptor, part[: part.index(b"\n") // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        written = _write(descriptor, part)
        if self.what == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "interrupt":
            os.killpg(os.getpgid(0), signal.SIGINT)
        while self.what == "pause":
            time.sleep(0.1)
            if os.getppid() != self.parent:  # the test is over
                os._exit(1)
        self.what = ""
        return written


if __name__ == "__main__":
    # A test run that a shell started in the background has Ctrl-C switched off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    workers.MOST_IN_CHUNK = 8
    os.write = Halt(sys.argv.pop(1)).write  # type: ignore[assignment]
    sys.argv[0] = "loadahead"
    main()
