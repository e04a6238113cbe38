"""Next steps as commands: what was given is kept, what is advised stands in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadahead.cli.hints import next_words, page_commands
from loadahead.cli.main import run
from loadahead.reports.answer import NextStep
from loadahead.reports.run_data import load_run

Captured = pytest.CaptureFixture[str]


def test_settings_take_the_place_of_those_given() -> None:
    given = ["hardware.memory=20 MiB", "offload.activation_loading_horizon=9"]
    words = next_words("slow-link", given, "my costs.json")
    assert words(NextStep(settings={"horizon": 3})) == (
        "Next: loadahead simulate slow-link --set 'hardware.memory=20 MiB' "
        "--set offload.activation_loading_horizon=3 --costs 'my costs.json'"
    )
    assert words(NextStep(measure=True)).startswith("Next: loadahead execute slow-link --set")


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
