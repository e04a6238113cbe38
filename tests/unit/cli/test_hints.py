"""Next steps as commands: what was given is kept, what is advised stands in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadahead.cli.hints import next_words, page_commands
from loadahead.cli.main import run
from loadahead.reports.answer import NextStep
from loadahead.reports.run_data import load_run
from tests.support import tuned_runs

Captured = pytest.CaptureFixture[str]


def test_settings_take_the_place_of_those_given() -> None:
    given = ["hardware.memory=20 MiB", "offload.activation_loading_horizon=9"]
    words = next_words("slow-link", given, "my costs.json")
    assert words(NextStep(settings={"horizon": 3})) == (
        "Next: loadahead simulate slow-link --set 'hardware.memory=20 MiB' "
        "--set offload.activation_loading_horizon=3 --costs 'my costs.json'"
    )
    assert words(NextStep(measure=True)).startswith("Next: loadahead execute slow-link --set")


def test_where_a_horizon_is_to_decide_nothing_else_is_asked_for() -> None:
    given = ["offload.decisions=auto", "offload.memory=20 MiB", "hardware.memory=20 MiB"]
    assert next_words("demo", given, by_horizon=True)(NextStep(settings={"horizon": 3})) == (
        "Next: loadahead simulate demo --set 'hardware.memory=20 MiB' --set offload.decisions=horizon "
        "--set offload.activation_loading_horizon=3"
    )


def test_the_page_of_a_tuned_run_goes_on_with_its_plan(tmp_path: Path) -> None:
    """Its scenario, by a horizon or tuned anew, would be another step."""
    command = ("loadahead", "tune", "demo", "--within", "1%", "-o", "x")
    tuned = tuned_runs.small()
    assert tuned.predicted is not None
    header = {**tuned.predicted.header, "command": list(command)}
    data = replace(tuned, directory=tmp_path, predicted=replace(tuned.predicted, header=header))
    assert data.made_by == (command,)
    words = page_commands(data).next_words
    assert words(NextStep(measure=True)) == "Next, in this folder: loadahead execute plan.json --costs costs.json"
    untuned = page_commands(replace(data, tuning=None)).next_words
    assert untuned(NextStep(measure=True)) == "Next: loadahead execute demo"


@pytest.mark.parametrize("given", [["--set", "hardware.memory=20 MiB"], ["--set=hardware.memory=20 MiB"]])
def test_the_page_says_what_the_command_said(given: list[str], tmp_path: Path, capsys: Captured) -> None:
    axes = ["--horizon", "1:3", "--release-window", "3", "--horizon-unit", "layers"]
    assert run(["sweep", "slow-link", *axes, *given, "-o", str(tmp_path)]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: ")]
    assert "--set 'hardware.memory=20 MiB'" in said
    # The axes of one value are the marked point's, too.
    assert "--set offload.release_window=" in said and "--set offload.horizon_unit=" in said
    command = ("loadahead", "sweep", "slow-link", *axes, *given, "-o", str(tmp_path))
    data = replace(load_run(tmp_path), sweep_command=command)
    assert page_commands(data).next_words(NextStep(settings={"horizon": 2})) == (
        "Next: loadahead simulate slow-link --set 'hardware.memory=20 MiB' --set offload.activation_loading_horizon=2"
    )
