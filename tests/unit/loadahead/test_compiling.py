from __future__ import annotations

from pathlib import Path

import pytest

from loadahead.compiling import compile_first, telling, tells_of_compiling
from loadahead.progress import Progress, ProgressCallback
from loadahead.sim import compiled, warm_up


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is compiled yet; compiling adds a word to the list and leaves everything warm."""
    done: list[str] = []
    monkeypatch.setattr(compiled, "is_warm", lambda: bool(done))
    monkeypatch.setattr(warm_up, "warm_up", lambda: done.append("compiled"))
    return done


def test_it_is_reported_before_and_done_once(cold: list[str]) -> None:
    seen: list[tuple[Progress, int]] = []
    for _ in range(2):
        compile_first(lambda report: seen.append((report, len(cold))))
    assert seen == [(Progress("compiling the simulator, once for this version: some 15 s"), 0)]
    assert cold == ["compiled"]


def test_where_nothing_can_be_kept_it_says_so(cold: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere: Path | None = None
    monkeypatch.setattr(compiled, "folder", lambda: nowhere)
    seen: list[Progress] = []
    compile_first(seen.append)
    assert [report.what for report in seen] == [
        "compiling the simulator, each time, as no folder can be written to keep it: some 15 s"
    ]


def test_nobody_is_told_who_does_not_ask(cold: list[str]) -> None:
    compile_first()
    assert cold == ["compiled"]


def test_those_are_told_who_report_around_it_the_nearest_first(cold: list[str]) -> None:
    outer: list[Progress] = []
    inner: list[Progress] = []
    with telling(outer.append):
        with telling(inner.append):
            compile_first()
        cold.clear()
        compile_first()
    cold.clear()
    compile_first()
    assert (len(outer), len(inner)) == (1, 1)


@tells_of_compiling
def work(amount: int, *, progress: ProgressCallback | None = None) -> int:
    """Double the amount."""
    compile_first()
    return 2 * amount


def test_a_function_tells_its_own_callback_and_else_whoever_reports_around_it(cold: list[str]) -> None:
    own: list[Progress] = []
    around: list[Progress] = []
    with telling(around.append):
        assert work(2, progress=own.append) == 4
        cold.clear()
        assert work(3) == 6
    assert (len(own), len(around)) == (1, 1)
    assert (work.__name__, work.__doc__) == ("work", "Double the amount.")
