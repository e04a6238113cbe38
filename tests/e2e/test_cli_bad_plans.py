"""A corpus of bad plan files: each is refused in one line that names the key and what is allowed.

``index.json`` says for each file what the line must hold. ``good.json`` is what they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from tests.support.refusals import refused

CORPUS = Path(__file__).parents[1] / "corpus" / "plans"
INDEX = json.loads((CORPUS / "index.json").read_text())
GOOD = json.loads((CORPUS / "good.json").read_text())

Captured = pytest.CaptureFixture[str]


def test_the_index_names_every_file_of_the_corpus_once() -> None:
    named = [row["file"] for row in INDEX]
    assert sorted(named) == sorted({path.name for path in CORPUS.glob("*.json")} - {"index.json", "good.json"})
    assert len(named) >= 25


@pytest.mark.parametrize("row", INDEX, ids=lambda row: row["file"].removesuffix(".json"))
def test_a_bad_plan_file_is_one_line_and_exit_2(row: dict[str, list[str]], capsys: Captured) -> None:
    path = CORPUS / str(row["file"])
    assert run(["verify", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {path}")
    for part in row["says"]:
        assert part in err, f"the line does not say {part!r}"
    assert len(err) < len(str(path)) + 400


@pytest.mark.parametrize("command", ["show", "simulate", "execute"])
def test_every_command_that_takes_a_plan_refuses_it_alike(command: str, capsys: Captured) -> None:
    path = CORPUS / "op-kind-unknown.json"
    assert run([command, str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {path}: ops.0.kind = 'FOWARD'")
    assert err.count("\n") == 1


def test_the_good_plan_is_accepted_in_both_forms(tmp_path: Path, capsys: Captured) -> None:
    assert run(["verify", str(CORPUS / "good.json")]) == 0
    capsys.readouterr()
    assert run(["show", str(CORPUS / "good.json")]) == 0
    text = tmp_path / "good.txt"
    text.write_text(capsys.readouterr().out)
    assert run(["verify", str(text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"plan": "small", "valid": True, "operations": 22, "violations": []}
    assert run(["show", str(text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == GOOD


def _race(plan: dict[str, list[dict[str, list[int]]]]) -> tuple[int, int]:
    """Take the edge out that makes a RELEASE wait for its OFFLOAD; the two operations' ids."""
    for op in plan["ops"]:
        if op["kind"] == "RELEASE":  # type: ignore[comparison-overlap]
            return op["id"], op["after"].pop()  # type: ignore[return-value]
    raise AssertionError("the good plan has no RELEASE")


def test_a_plan_with_a_race_is_shown_and_exit_1(tmp_path: Path, capsys: Captured) -> None:
    plan = json.loads(json.dumps(GOOD))
    release, offload = _race(plan)
    path = tmp_path / "race.json"
    path.write_text(json.dumps(plan))

    assert run(["verify", str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["valid"] is False
    assert {release, offload} <= set(result["violations"][0]["ops"])
    assert err.count("\n") == 1
    assert result["violations"][0]["rule"] in err

    assert run(["verify", str(path)]) == 1
    out, err = capsys.readouterr()
    assert f">{release}:RELEASE 0.0.0<" in out
    assert f">{offload}:OFFLOAD 0.0.0<" in out
    assert err.count("\n") == 1

    assert run(["simulate", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "not safe to run" in err


def _stays(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The first boundary stays, in the file's words."""
    return [rows[0] | {"release": -1, "acquire": -1}, *rows[1:]]


# What is done to the decisions of the good plan, and what the line must hold.
CONTRADICTIONS: dict[str, tuple[Callable[[list[dict[str, object]]], object], str]] = {
    "another-release": (
        lambda rows: [rows[0] | {"release": 1}, *rows[1:]],
        "decisions[0]: boundary 0.0.0 is to leave in slots 1 to 2 (recompute) and the operations say to leave in slots "
        "2 to 2 (recompute); a file's decisions say what its operations do",
    ),
    "stays": (_stays, "boundary 0.0.0 is to stay (recompute) and the operations say to leave in slots 2 to 2"),
    "another-mode": (
        lambda rows: [rows[0] | {"mode": "keep"}, *rows[1:]],
        "boundary 0.0.0 is to leave in slots 2 to 2 (keep) and the operations say to leave in slots 2 to 2 (recompute)",
    ),
    "half-a-decision": (
        lambda rows: [rows[0] | {"acquire": -1}, *rows[1:]],
        "decisions[0]: release is 2 and acquire -1; give both slots, or -1 twice for a boundary that stays",
    ),
    "left-out": (lambda rows: rows[:2], "decisions: boundary 0.0.2 is not named, and the operations say to leave in"),
    "no-such-boundary": (
        lambda rows: [*rows, rows[0] | {"unit": 1}],
        "decisions[3]: boundary 0.1.0 is to leave in slots 2 to 2 (recompute) and the operations have no such boundary",
    ),
    "twice": (lambda rows: [*rows, rows[0]], "decisions[3]: boundary 0.0.0 is there twice; decide on it once"),
    "none": (lambda rows: [], "decisions: boundary 0.0.0 is not named"),
    "an-object": (lambda rows: rows[0], "decisions: it must be a valid array"),
    "null": (lambda rows: None, "decisions = None"),
    "a-number": (lambda rows: [7], "decisions.0 = 7"),
    "mode-unknown": (lambda rows: [rows[0] | {"mode": "save"}], "decisions.0.mode = 'save'"),
    "slot-text": (lambda rows: [rows[0] | {"release": "2"}], "decisions.0.release = '2'"),
    "slot-huge": (lambda rows: [rows[0] | {"release": 2**31}], "decisions.0.release = 2147483648"),
    "slot-low": (lambda rows: [rows[0] | {"release": -2}], "decisions.0.release = -2"),
    "unknown-key": (lambda rows: [rows[0] | {"horizon": 2}], "decisions.0.horizon: is not a key of a plan file"),
    "key-missing": (lambda rows: [{"stage": 0}], "decisions.0.unit: is missing"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_decisions_that_are_not_the_operations_are_refused(name: str, tmp_path: Path, capsys: Captured) -> None:
    change, says = CONTRADICTIONS[name]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(GOOD | {"decisions": change(GOOD["decisions"])}))
    assert run(["verify", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {path}: ")
    assert says in err


def test_operations_that_break_a_rule_are_told_by_it_and_not_by_decisions_that_no_longer_fit(
    tmp_path: Path, capsys: Captured
) -> None:
    """A file that someone has taken a microbatch out of holds all decisions still."""
    path = tmp_path / "plan.json"
    left = [op for op in GOOD["ops"] if op["microbatch"] != 2]
    used = {buffer for op in left for name in ("reads", "writes", "allocs", "frees") for buffer in op[name]}
    buffers = [buffer for buffer in GOOD["buffers"] if buffer["id"] in used]
    path.write_text(json.dumps(GOOD | {"ops": left, "buffers": buffers}))
    assert run(["verify", str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert "whole-step" in {violation["rule"] for violation in json.loads(out)["violations"]}
    assert "broken, first whole-step: FORWARD 0.0.2 is missing" in err
    with pytest.raises(la.CheckFailed, match="whole-step"):
        la.verify(path)
    for command in ("simulate", "execute"):
        assert run([command, str(path)]) == 1
        assert "is not safe to run: whole-step: FORWARD 0.0.2 is missing" in capsys.readouterr().err
    assert run(["show", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("loadahead-plan 2 ")
    assert err.startswith(f"warning: {path}: decisions") and err.count("\n") == 1


@pytest.mark.parametrize("change", [lambda rows: rows[::-1], lambda rows: rows], ids=["turned", "as-they-are"])
def test_decisions_in_any_order_or_none_are_the_good_plan(
    change: Callable[[list[dict[str, object]]], object], tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "plan.json"
    for content in (
        GOOD | {"decisions": change(GOOD["decisions"])},
        {key: value for key, value in GOOD.items() if key != "decisions"},
    ):
        path.write_text(json.dumps(content))
        assert run(["show", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == GOOD


@pytest.mark.parametrize("text", [False, True], ids=["json", "text"])
def test_a_plan_of_version_1_whose_sends_do_not_wait_is_planned_again(
    text: bool, tmp_path: Path, capsys: Captured
) -> None:
    good, old = tmp_path / "good.json", tmp_path / "old.json"
    assert run(["plan", "no-help", "-o", str(good)]) == 0
    plan = json.loads(good.read_text()) | {"version": 1}
    del plan["frozen_units"]
    old.write_text(json.dumps(plan))
    capsys.readouterr()
    assert run(["show", str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(good.read_text()), (
        "its SENDs wait: it is read as version 2"
    )

    acquires = {op["id"] for op in plan["ops"] if op["kind"] == "ACQUIRE"}
    for op in plan["ops"]:
        if op["kind"].startswith("SEND"):
            op["after"] = [edge for edge in op["after"] if edge not in acquires]
    old.write_text(json.dumps(plan))
    if text:
        old.write_text(json.dumps(plan | {"version": 2}))
        assert run(["show", str(old)]) == 0
        old.write_text(capsys.readouterr().out.replace("loadahead-plan 2", "loadahead-plan 1", 1))
    for command in ("verify", "show", "simulate", "execute"):
        line = refused([command, str(old)], capsys)
        assert line.endswith("is of version 1, whose SENDs do not wait for the memory they write into; plan it again\n")
        assert line.startswith(f"error: {old}: ")


def test_a_boundary_that_stays_need_not_be_named(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "plan.json"
    assert run(["plan", "no-help", "-o", str(path)]) == 0
    plan = json.loads(path.read_text())
    assert plan["decisions"] and all(row["acquire"] == -1 for row in plan["decisions"])
    path.write_text(json.dumps(plan | {"decisions": []}))
    assert run(["verify", str(path)]) == 0
    capsys.readouterr()


def test_a_plan_of_version_1_that_keeps_nothing_without_checkpointing_is_planned_again(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "plan.json"
    assert run(["plan", "uniform", "--set", "checkpoint.enabled=false", "-o", str(path)]) == 0
    plan = json.loads(path.read_text()) | {"version": 1}
    kept = {buffer["id"] for buffer in plan["buffers"] if buffer["role"] == "workspace"}
    plan["buffers"] = [buffer for buffer in plan["buffers"] if buffer["id"] not in kept]
    for op in plan["ops"]:
        op |= {name: [b for b in op[name] if b not in kept] for name in ("reads", "writes", "allocs", "frees")}
    path.write_text(json.dumps(plan))
    capsys.readouterr()
    assert run(["verify", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {path}: is of version 1, which does not say what stays from FORWARD to BACKWARD without "
        "checkpointing; plan it again\n"
    )


def test_a_run_whose_plan_is_of_version_1_is_reported_without_it(tmp_path: Path, capsys: Captured) -> None:
    """Its timelines are as good as ever."""
    run_directory = tmp_path / "run"
    assert run(["simulate", "uniform", "-o", str(run_directory)]) == 0
    path = run_directory / "plan.json"
    plan = json.loads(path.read_text()) | {"version": 1}
    for op in plan["ops"]:
        if op["kind"].startswith("SEND"):
            op["after"] = op["after"][:1]
    path.write_text(json.dumps(plan))
    assert run(["report", str(run_directory)]) == 0
    page = (run_directory / "report.html").read_text()
    assert "This run has no: the plan" in page and "What ran when" in page
