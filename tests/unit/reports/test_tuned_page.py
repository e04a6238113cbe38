"""The page of a tuned plan: it speaks of the plan, of what that costs and of the bound, and of no horizon to set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.hints import page_commands
from loadahead.reports.answer import answer_of
from loadahead.reports.page import write_report
from loadahead.reports.page.tiles import tiles
from loadahead.reports.page.tuned_section import reasons_grid
from loadahead.reports.run_data import RunData, load_run
from loadahead.reports.run_directory import TUNING
from loadahead.sim.errors import InputError
from loadahead.sim.units import part_of
from tests.support import tuned_runs
from tests.support.pages import PageText
from tests.support.tuned_runs import plain_of, write_tuned

KINDS: dict[str, Callable[[], RunData]] = {
    "small": tuned_runs.small,
    "many": tuned_runs.many,
    "nothing leaves": tuned_runs.nothing_leaves,
    "not met": tuned_runs.not_met,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory of each kind, with its page."""
    root = tmp_path_factory.mktemp("tuned")
    out = {}
    for number, (kind, make) in enumerate(KINDS.items()):
        data = make()
        out[kind] = write_tuned(root / str(number), data, plain_of(data))
        write_report(out[kind], page_commands)
    return out


def text_of(root: Path) -> PageText:
    return PageText((root / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_what_tuning_said_and_names_no_horizon_to_set(pages: dict[str, Path], kind: str) -> None:
    data = load_run(pages[kind])
    assert data.tuning is not None and data.found is None
    answer = answer_of(data)
    assert answer.headline == data.tuning.sentences[0]
    assert set(data.tuning.sentences[1:]) <= set(answer.more)
    text = text_of(pages[kind]).text
    assert all(" ".join(sentence.split()) in " ".join(text.split()) for sentence in data.tuning.sentences)
    assert "activation_loading_horizon" not in text and "Next: take" not in text
    # The plan's own sentence says less, and would stand beside it.
    assert "as the decisions given say" not in text and "Its decisions are given" not in text


def test_the_section_has_a_row_for_each_rank(pages: dict[str, Path]) -> None:
    """Of tests/support/tunings.py: 2 of 4 leave, 2 of 14 ms are 14.3 %, and 2 ms are waited."""
    data = load_run(pages["small"])
    assert data.tuning is not None and data.tuning.reasons is not None
    grid = reasons_grid(data.tuning, data.tuning.reasons.ranks)
    shown = dict(zip(grid.headers, grid.rows[0], strict=True))
    assert shown == {
        "rank": "0",
        "leave": "2 of 4",
        "bytes": "1.907 MiB",
        "all kept": "3.815 MiB",
        "tuned": "2.861 MiB",
        "away": "3 ms to 5 ms",
        "copies out": "14.3 %",
        "back": "14.3 %",
        "waits": "2 ms",
        "waits, best horizon": "0 ns",
    }
    page = text_of(pages["small"])
    assert ("h2", "What leaves, and why") in page.headings
    assert "Which leave: stage 0, unit 0: microbatches 0, 3." in page.text
    assert len(reasons_grid(many_of(), many_of().reasons.ranks).rows) == 4  # type: ignore[union-attr]


def many_of() -> Any:
    found = tuned_runs.many().tuning
    assert found is not None
    return found


def test_nothing_that_leaves_has_no_section_and_no_map(pages: dict[str, Path]) -> None:
    page = text_of(pages["nothing leaves"])
    assert "What leaves, and why" not in [text for _, text in page.headings]
    assert "Not drawn: which boundaries leave, and for how long; nothing is offloaded." in page.text
    assert "Not drawn: what each budget costs in time; no other budgets were tuned." in page.text


@pytest.mark.parametrize("kind", ["small", "many", "not met"])
def test_both_figures_are_there(pages: dict[str, Path], kind: str) -> None:
    names = {path.name for path in (pages[kind] / "figures").iterdir()}
    assert {"tuned_frontier.svg", "tuned_boundaries.svg", "tuned_frontier.png"} <= names


def words_of(data: RunData) -> str:
    return " ".join(PageText(str(tiles(data))).words)


def test_tiles_are_what_is_saved_the_gap_and_the_best_horizon(pages: dict[str, Path]) -> None:
    """12 ms is the bound of 14; horizon 1 takes 12 ms, a seventh less, where it is looked at by itself."""
    said = words_of(load_run(pages["small"]))
    assert "Boundaries saved by offloading 976.6 KiB of 3.815 MiB" in said
    assert "Longer than the bound +16.7 % bound: 12 ms set by compute on rank 0" in said
    assert "Best of 312 horizons step −14.3 % horizon 1 (tasks, release window 1) 12 ms" in said


def test_the_tile_of_what_is_saved_is_of_what_the_budget_limits() -> None:
    """Under a budget of the whole device its peak counts, in which there are gradients and outputs as well."""
    data = tuned_runs.many()
    assert data.tuning is not None
    limits = data.tuning.limits.model_copy(update={"boundary_bytes": None})
    whole = words_of(replace(data, tuning=data.tuning.model_copy(update={"limits": limits})))
    assert "Boundaries saved" in words_of(data) and "Boundaries saved" not in whole
    before, now = data.tuning.keep_all.peak_device_bytes, data.tuning.chosen.peak_device_bytes
    assert before > now and f"Saved by offloading {part_of(before - now, before)}" in whole


def test_tiles_of_a_bound_that_is_reached_and_of_a_budget_that_is_not_met(pages: dict[str, Path]) -> None:
    assert "Longer than the bound none" in words_of(load_run(pages["nothing leaves"]))
    said = words_of(load_run(pages["not met"]))
    assert "Budget not met shown: the nearest plan" in said and "Best of 312 horizons none fits" in said
    assert "bound" not in said.replace("boundaries", "")


def test_a_budget_that_is_not_met_is_not_to_be_measured(pages: dict[str, Path]) -> None:
    assert answer_of(load_run(pages["not met"])).upcoming == ""


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda found: {name: value for name, value in found.items() if name != key}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda found: [], "tune again"),
        (_without("chosen"), "chosen: is missing"),
        (_without("bound"), "bound: is missing"),
        (lambda found: found | {"gap": "much"}, "gap"),
        (lambda found: found | {"sentences": []}, "sentences"),
        (lambda found: found | {"chosen": found["chosen"] | {"step_time_ns": -1}}, "chosen.step_time_ns"),
        (lambda found: found | {"chosen": found["chosen"] | {"offloaded": 3}}, "both must come from the same run"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], words: str
) -> None:
    data = tuned_runs.small()
    root = write_tuned(tmp_path / "run", data, plain_of(data))
    (root / TUNING).write_text(json.dumps(damage(plain_of(data))), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_run(root)
    assert words in str(error.value) and "\n" not in str(error.value) and TUNING in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_file_that_is_no_json_is_refused_in_one_line(tmp_path: Path, text: str | bytes) -> None:
    data = tuned_runs.small()
    root = write_tuned(tmp_path / "run", data, plain_of(data))
    (root / TUNING).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match="tune again"):
        load_run(root)
