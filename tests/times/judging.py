"""Checks are repeated before they are judged: another process on the machine may spoil an attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.times.figure import Figure

Check = Callable[[], Sequence[Figure]]
ATTEMPTS = 3


def holds(name: str, check: Check, attempts: int = ATTEMPTS, say: Callable[[str], None] = print) -> bool:
    """Measure until every figure of one attempt holds; say all figures of all attempts."""
    for attempt in range(1, attempts + 1):
        say(f"{name}, attempt {attempt} of {attempts}")
        figures = check()
        for figure in figures:
            say(f"  {figure.line()}")
        if all(figure.holds for figure in figures):
            return True
    return False


def failing(checks: Mapping[str, Check], attempts: int = ATTEMPTS, say: Callable[[str], None] = print) -> list[str]:
    """The names of the checks that failed in every attempt."""
    return [name for name, check in checks.items() if not holds(name, check, attempts, say)]
