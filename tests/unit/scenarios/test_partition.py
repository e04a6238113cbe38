"""``checkpoint.partition``: layers per stage by hand, as a key of the scenario, of the command line and of a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run

Captured = pytest.CaptureFixture[str]
GPT = {
    "name": "gpt",
    "model": {"kind": "transformer", "layers": 6, "hidden": 16, "heads": 4, "sequence": 8, "vocabulary": 50},
    "hardware": {"d2h": "2 GB/s", "h2d": "1 GB/s", "flops": 10**9},
    "parallel": {"pipeline_parallel_degree": 2, "microbatches": 2},
}


def counts(plan: la.Plan) -> list[int]:
    """Return the number of units of each stage."""
    return list(plan.units)


def test_a_transformers_layers_are_its_embedding_its_blocks_and_its_head() -> None:
    assert counts(la.plan(GPT)) == [4, 4]
    assert counts(la.plan(GPT, {"checkpoint.partition": [3, 5]})) == [3, 5]
    assert counts(la.plan(GPT, {"checkpoint.partition": (2, 6), "checkpoint.strategy": "group_2"})) == [1, 3]
    assert counts(la.plan(GPT, {"checkpoint.partition": [1, 7], "checkpoint.enabled": False})) == [1, 7]


def test_it_is_in_the_plans_echo_and_the_plan_is_simulated_by_it(tmp_path: Path) -> None:
    plan = la.plan(GPT, {"checkpoint.partition": [3, 5]})
    assert plan.policy["scenario"]["checkpoint"] == {"partition": [3, 5]}
    own = la.simulate(GPT, {"checkpoint.partition": [3, 5]})
    assert la.simulate(plan).metrics == own.metrics != la.simulate(GPT).metrics


def test_more_stages_than_ranks() -> None:
    order = [["0F0", "0F1", "2F0", "2F1", "2B0", "2B1", "0B0", "0B1"], ["1F0", "1F1", "1B0", "1B1"]]
    assert counts(la.plan(GPT, {"checkpoint.partition": [1, 2, 5]}, order=order)) == [1, 2, 5]
    with pytest.raises(la.InputError, match=r"= \[3, 5\] is of 2 stages and the number of stages is 3"):
        la.plan(GPT, {"checkpoint.partition": [3, 5]}, order=order)


def test_a_sweep_over_it() -> None:
    table = la.sweep(GPT, {"checkpoint.partition": [[4, 4], [3, 5]]})
    times = [la.simulate(GPT, {"checkpoint.partition": list(one)}).step_time_ns for one in ((4, 4), (3, 5))]
    assert [row.step_time_ns for row in table.rows] == times
    assert [row["checkpoint.partition"] for row in table.rows] == ["[4, 4]", "[3, 5]"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([3, 4], "checkpoint.partition = [3, 4] adds up to 7 and the model has 8 layers; its entries must add up to 8"),
        ([3, 6], "checkpoint.partition = [3, 6] adds up to 9 and the model has 8 layers; its entries must add up to 8"),
        (
            [8],
            "checkpoint.partition = [8] is of 1 stage and parallel.pipeline_parallel_degree is 2; give the number of",
        ),
        ([2, 3, 3], "checkpoint.partition = [2, 3, 3] is of 3 stages and parallel.pipeline_parallel_degree is 2; give"),
        ([0, 8], "it must be a list of integers of at least 1, the number of layers of each stage, e.g. [3, 5]"),
        ([], "it must be a list of integers of at least 1"),
        ([4.0, 4], "it must be a list of integers of at least 1"),
        ([True, 7], "it must be a list of integers of at least 1"),
        ("3,5", "checkpoint.partition = '3,5': it must be a list of integers of at least 1"),
        (8, "checkpoint.partition = 8: it must be a list of integers of at least 1"),
        ([10**30, 1], "it must be a list of integers of at least 1"),
        ([1] * 12, "checkpoint.partition = [1, 1, 1, 1, 1, 1, 1, 1, ...] is of 12 stages"),
    ],
)
def test_what_is_wrong_is_one_line(value: object, words: str) -> None:
    with pytest.raises(la.InputError) as caught:
        la.plan(GPT, {"checkpoint.partition": value})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_uniform_model_has_its_units_as_given(capsys: Captured) -> None:
    assert run(["plan", "uniform", "--set", "checkpoint.partition=[2, 2, 2, 2]"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: uniform: checkpoint.partition = [2, 2, 2, 2] deals out a model's layers")
    assert "model.units_per_stage" in error and error.count("\n") == 1


def test_the_command_line_takes_a_list(capsys: Captured, tmp_path: Path) -> None:
    options = ["--set", "parallel.pipeline_parallel_degree=2", "--set", "parallel.microbatches=2"]
    plan = tmp_path / "plan.json"
    partition = ["--set", "checkpoint.partition=[10, 32]"]
    assert run(["plan", "four-rank", *options, *partition, "-o", str(plan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"] == 2
    assert json.loads(plan.read_text())["policy"]["scenario"]["checkpoint"]["partition"] == [10, 32]
