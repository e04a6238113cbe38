"""No test of `make test` reads a clock: what compares times is in tests/times and tests/bench."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
APART = {"times", "bench"}
# ``time.monotonic`` may end a wait that hangs, ``time.sleep`` may be between two looks.
CLOCKS = {"perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "time_ns", "monotonic_ns"}
FILES = [path for path in sorted(TESTS.rglob("*.py")) if path.relative_to(TESTS).parts[0] not in APART]


def clocks_read(source: str) -> Iterator[tuple[int, str]]:
    """Lines that read a clock, and which."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            yield node.lineno, node.attr
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((node.lineno, name.name) for name in node.names if name.name in CLOCKS)


def test_clocks_are_found() -> None:
    assert list(clocks_read("import time\nbegan = time.perf_counter()")) == [(2, "perf_counter")]
    assert list(clocks_read("from time import process_time as now")) == [(1, "process_time")]
    assert list(clocks_read("import time\ntime.sleep(time.monotonic())")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_clock_is_read(path: Path) -> None:
    assert list(clocks_read(path.read_text())) == []
