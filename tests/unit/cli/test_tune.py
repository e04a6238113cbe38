"""`loadahead tune`: its JSON, its text, its exit status, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from tests.support.refusals import refused

Captured = pytest.CaptureFixture[str]
# DESIGN, section 4.
KEYS = {
    "step_time_ns",
    "bound_ns",
    "gap",
    "limited_by",
    "peak_device_bytes",
    "peak_boundary_bytes",
    "peak_host_bytes",
    "offloaded",
    "kept",
    "missing_bytes",
    "plan",
}


def test_the_json_is_the_library_s_answer(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["tune", "slow-link", "--boundary-memory", "12MB", "--budgets", "3", "--json"]
    assert run([*arguments, "-o", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() > KEYS | {"scenario", "frontier", "explanation", "warnings", "fits", "tried"}
    assert answer["plan"] == str(tmp_path / "plan.json")
    same = la.tune("slow-link", boundary_memory="12MB", budgets=3)
    assert same.frontier.points
    assert answer == json.loads(json.dumps(same.to_dict())) | {"plan": answer["plan"]}
    step = la.simulate(tmp_path / "plan.json").metrics
    assert (answer["step_time_ns"], answer["peak_host_bytes"]) == (step.step_time_ns, step.peak_host_bytes)
    assert answer["gap"] == answer["step_time_ns"] / answer["bound_ns"] - 1
    told = json.loads((tmp_path / "tuning.json").read_text())
    assert told["frontier"] == answer["frontier"] and told["explanation"] == answer["explanation"]


def test_the_text_has_the_answer_first_and_what_to_do_next(tmp_path: Path, capsys: Captured) -> None:
    assert run(["tune", "slow-link", "--boundary-memory", "12MB", "--budgets", "3", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    same = la.tune("slow-link", boundary_memory="12MB", budgets=3)
    assert same.frontier.points
    first, second, *_ = same.sentences
    assert out.startswith(f"slow-link: {first}\n{second}\n")
    assert "No plan of this order under these limits " in out
    for header in ("budget (boundaries)", "best horizon"):
        assert header in out
    assert out.endswith(f"Next: loadahead simulate {tmp_path}/plan.json --costs {tmp_path}/costs.json\n")


def test_without_a_frontier_and_a_directory(capsys: Captured) -> None:
    assert run(["tune", "slow-link", "--budgets", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("slow-link: Nothing is offloaded, as all 32 boundaries fit")
    assert "budget (" not in out and "tuning" not in err and "warning" not in err
    assert out.endswith("Next: the same with -o DIR, which keeps the plan to run, show and verify.\n")
    assert run(["tune", "slow-link", "--budgets", "0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["frontier"] is None and answer["plan"] is None


def test_what_was_tried_is_a_table(capsys: Captured) -> None:
    tried = ["--microbatches", "4,8", "--pipeline", "simple,interleaved", "--budgets", "0"]
    assert run(["tune", "slow-link", "--memory", "12MB", *tried]) == 0
    out = capsys.readouterr().out
    found = la.tune("slow-link", memory="12MB", microbatches=[4, 8], pipelines=["simple", "interleaved"])
    policy = found.plan.policy
    said = f"\nOf 4 that were tried it is {policy['pipeline']}, {policy['microbatches']} microbatches.\n"
    assert said in out and out.index(said) < out.index("mb/s/GPU")
    lines = [line for line in out.split(said)[1].splitlines() if "simple " in line or "interleaved " in line]
    assert len(lines) == 4 and len([line for line in lines if line.startswith(" *")]) == 1
    assert run(["tune", "slow-link", "--memory", "12MB", *tried, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tried"]) == 4


def test_a_budget_that_no_plan_keeps_ends_with_1_and_still_answers(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["tune", "slow-link", "--boundary-memory", "1MB", "--budgets", "3", "-o", str(tmp_path)]
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    # What is missing stands on stdout, and is not said twice.
    assert err.splitlines()[-1] == "error: slow-link: no plan that was found keeps the budget"
    assert out.startswith("slow-link: No plan that was found keeps the budget: the nearest needs ")
    assert (tmp_path / "tuning.json").exists()
    assert run([*arguments, "--json"]) == 1
    json_out, err = capsys.readouterr()
    answer = json.loads(json_out)
    assert not answer["fits"] and answer["missing_bytes"] > 0
    assert err.splitlines()[-1] == f"error: slow-link: {answer['shortage']}"
    enough = answer["peak_boundary_bytes"]
    stated = f'offload.boundary_memory = "{enough} B"'
    assert stated in out and stated in answer["shortage"]
    assert run(["tune", "slow-link", "--boundary-memory", str(enough), "--budgets", "0"]) == 0


def test_files_that_will_be_replaced_are_told_before_the_search(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["tune", "slow-link", "--boundary-memory", "20MB", "--budgets", "0", "-o", str(tmp_path)]
    assert run(arguments) == 0
    assert "earlier run" not in capsys.readouterr().err
    (tmp_path / "report.html").write_text("")
    assert run(arguments) == 0
    err = capsys.readouterr().err
    told = err.index(
        f"{tmp_path}: holds files of an earlier run (plan.json, costs.json, tuning.json, predicted.jsonl, "
    )
    assert told < err.index("looking for the best plan")
    assert "keep_all.jsonl, report.html): those of the same names" in err and "report.html), others" not in err


def test_of_several_that_all_miss_the_budget_the_nearest_is_told(capsys: Captured) -> None:
    tried = ["--microbatches", "4,8", "--budgets", "0"]
    assert run(["tune", "slow-link", "--boundary-memory", "1kB", *tried]) == 1
    assert "\nOf 2 that were tried the nearest is " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "simulate", "show"])
def test_other_commands_end_with_1_too(command: str, capsys: Captured) -> None:
    sets = ["--set", "offload.decisions=auto", "--set", "offload.boundary_memory=1 MB"]
    assert run([command, "slow-link", *sets]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: slow-link: No plan that was found keeps the budget")


def test_the_scenario_s_own_goal_is_taken(tmp_path: Path, capsys: Captured) -> None:
    sets = ["--set", "offload.boundary_memory=12 MB", "--budgets", "0", "--json"]
    assert run(["tune", "slow-link", *sets]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["goal"] == {"boundary_memory": 12_000_000} and "warning" not in err


def test_a_plan_is_refused(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "plan.json"
    assert run(["plan", "slow-link", "-o", str(path)]) == 0
    capsys.readouterr()
    assert "is a plan already" in refused(["tune", str(path)], capsys)


def test_plan_says_what_was_tuned_and_advises_on_no_horizon(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["plan", "slow-link", "--set", "offload.decisions=auto", "--set", "offload.boundary_memory=12 MB"]
    assert run([*arguments, "-o", str(tmp_path / "plan.json")]) == 0
    out = capsys.readouterr().out
    assert "Advice" not in out and "Which horizon" not in out
    assert la.plan("slow-link", {"offload.decisions": "auto", "offload.boundary_memory": "12 MB"}).sentence in out
    assert run([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["advice"] is None and answer["kept"] + answer["offloaded"] == 32
    same = la.tune("slow-link", boundary_memory="12 MB")
    assert (answer["bound_ns"], answer["gap"]) == (same.bound.step_time_ns, same.gap)


def test_simulate_says_how_far_from_the_bound_it_is(capsys: Captured) -> None:
    arguments = ["simulate", "slow-link", "--set", "offload.decisions=auto", "--set", "offload.boundary_memory=12 MB"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    same = la.tune("slow-link", boundary_memory="12 MB")
    assert "Tuned: no plan of this order under these limits takes less than " in out and "orizon" not in out
    assert run([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["bound_ns"], answer["gap"], answer["advice"]) == (same.bound.step_time_ns, same.gap, None)
    assert answer["limited_by"] == same.bound.limited_by
    assert run(["simulate", "slow-link", "--json"]) == 0
    assert "bound_ns" not in json.loads(capsys.readouterr().out)


def test_inspect_says_that_tuning_decides(capsys: Captured) -> None:
    assert run(["inspect", "slow-link", "--set", "offload.decisions=auto", "--set", "offload.memory=20 MB"]) == 0
    out = capsys.readouterr().out
    assert "offloading, tuning decides which boundaries leave and when." in out
    assert "With the scenario's own, a horizon" not in out
    assert "Budget: the plan keeps it. Each device may take 19.07 MiB." in out and "keeps the budget" not in out


def test_inspect_says_where_no_plan_keeps_the_budget(capsys: Captured) -> None:
    """The device has 80 GiB, and would hold the nearest plan."""
    sets = ["--set", "offload.decisions=auto", "--set", "offload.boundary_memory=1 MB"]
    assert run(["inspect", "slow-link", *sets]) == 0
    out = capsys.readouterr().out
    nearest = la.tune("slow-link", boundary_memory="1 MB", budgets=0)
    assert f"Budget: {nearest.shortage}.\n" in out and "of 80 GiB: fits." in out
    assert run(["inspect", "slow-link", *sets, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["fits"] is False and answer["sentences"][-1] == f"Budget: {nearest.shortage}."
