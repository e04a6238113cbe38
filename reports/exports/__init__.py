"""Writes what other tools open: traces for Perfetto and Chrome, and allocations for PyTorch's memory viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadahead.reports.exports.chrome import write_chrome
from loadahead.reports.exports.perfetto import write_perfetto
from loadahead.reports.exports.tracks import Trace

# The writers of traces; a plan's allocations are no trace.
TRACE_WRITERS: dict[str, Callable[[Trace, Path], None]] = {"perfetto": write_perfetto, "chrome": write_chrome}
MEMORY_VIZ = "memory-viz"
FORMATS = (*TRACE_WRITERS, MEMORY_VIZ)
