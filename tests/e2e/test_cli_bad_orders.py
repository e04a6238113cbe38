"""Corpora of bad order files and of bad decisions: each is refused in one line that says what is allowed.

``index.json`` of each folder says for each file what the line must hold. ``good.csv`` and ``good.json`` are what most
were made from.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadahead.cli.main import run
from tests.support.refusals import refused

CORPUS = Path(__file__).parents[1] / "corpus"
ORDERS, DECISIONS = CORPUS / "orders", CORPUS / "decisions"
GOOD = {ORDERS: ["good.csv"], DECISIONS: ["good.json", "good-list.json"]}
INDEX = {folder: json.loads((folder / "index.json").read_text()) for folder in GOOD}
# Two ranks, four microbatches and four layers, so that four stages have a unit each.
PLAN = ["plan", str(ORDERS / "scenario.toml"), "--json"]

Captured = pytest.CaptureFixture[str]


def ids(row: dict[str, str]) -> str:
    return Path(row["file"]).stem


@pytest.mark.parametrize("folder", GOOD, ids=lambda folder: folder.name)
def test_the_index_names_every_file_of_the_corpus_once(folder: Path) -> None:
    named = [row["file"] for row in INDEX[folder]] + [*GOOD[folder], "index.json", "scenario.toml"]
    assert sorted({*named}) == sorted({"scenario.toml", *(path.name for path in folder.iterdir())})
    assert len(named) == len({*named})
    assert len(named) >= 25


@pytest.mark.parametrize("row", INDEX[ORDERS], ids=ids)
def test_a_bad_order_is_one_line_and_exit_2(row: dict[str, list[str]], capsys: Captured) -> None:
    path = ORDERS / str(row["file"])
    line = refused([*PLAN, "--order", str(path)], capsys)
    assert "order" in line or "stages" in line
    for part in row["says"]:
        assert part in line, f"the line does not say {part!r}"
    assert len(line) < len(str(path)) + len(PLAN[1]) + 400


@pytest.mark.parametrize("row", INDEX[DECISIONS], ids=ids)
def test_bad_decisions_are_one_line_and_exit_2(row: dict[str, list[str]], capsys: Captured) -> None:
    path = DECISIONS / str(row["file"])
    line = refused([*PLAN, "--order", str(ORDERS / "good.csv"), "--decisions", str(path)], capsys)
    assert "decisions" in line or "plan file" in line
    for part in row["says"]:
        assert part in line, f"the line does not say {part!r}"
    assert len(line) < len(str(path)) + len(PLAN[1]) + 400


@pytest.mark.parametrize("argument", ["zb_v", "no/such/order", "no-such-order.csv", ".", "tests"])
def test_an_unknown_order_is_one_line_and_exit_2(argument: str, capsys: Captured) -> None:
    assert argument in refused([*PLAN, "--order", argument], capsys)


def test_the_names_of_orders_are_said(capsys: Captured) -> None:
    line = refused([*PLAN, "--order", "interleave"], capsys)
    assert "order 'interleave': is neither a name nor a file; the names are simple, gpipe, interleaved, 1f1b" in line


@pytest.mark.parametrize("argument", ["no-such-file.json", "."])
def test_missing_decisions_are_one_line_and_exit_2(argument: str, capsys: Captured) -> None:
    line = refused([*PLAN, "--decisions", argument], capsys)
    assert f"{argument}: cannot be read as decisions" in line


def test_decisions_without_checkpointing_are_refused(capsys: Captured) -> None:
    plan = [*PLAN, "--order", str(ORDERS / "good.csv"), "--set", "checkpoint.enabled=false"]
    line = refused([*plan, "--decisions", str(DECISIONS / "good.json")], capsys)
    assert "boundary 0.0.0 has mode 'recompute' and checkpoint.enabled is false; give 'keep'" in line


def test_the_good_ones_are_good(capsys: Captured) -> None:
    for name in GOOD[DECISIONS]:
        given = ["--order", str(ORDERS / "good.csv"), "--decisions", str(DECISIONS / name)]
        assert run([*PLAN, *given]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        made = json.loads(out)
        assert (made["order"], made["stages"], made["ranks"], made["offloaded"]) == ("good.csv", 4, 2, 1)
        assert made["decisions"] == str(DECISIONS / name)
