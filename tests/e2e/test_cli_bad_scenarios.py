"""A corpus of bad scenario files: each is refused in one line that names file and key and what is allowed.

``index.json`` says for each file what the line must hold. ``good.toml`` is what most were made from.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadahead.cli.main import run
from tests.support.refusals import refused

CORPUS = Path(__file__).parents[1] / "corpus" / "scenarios"
INDEX = json.loads((CORPUS / "index.json").read_text())
GOOD = CORPUS / "good.toml"

Captured = pytest.CaptureFixture[str]


def test_the_index_names_every_file_of_the_corpus_once() -> None:
    named = [row["file"] for row in INDEX]
    assert sorted(named) == sorted({path.name for path in CORPUS.glob("*.toml")} - {"good.toml"})
    assert len(named) >= 60


@pytest.mark.parametrize("row", INDEX, ids=lambda row: row["file"].removesuffix(".toml"))
def test_a_bad_scenario_is_one_line_and_exit_2(row: dict[str, list[str]], capsys: Captured) -> None:
    path = CORPUS / str(row["file"])
    line = refused(["simulate", str(path), "--json"], capsys)
    # What a step adds up to is known of the plan, whose name is the scenario's.
    assert line.startswith((f"error: {path}: ", "error: small: the step's"))
    for part in row["says"]:
        assert part in line, f"the line does not say {part!r}"
    assert len(line) < len(str(path)) + 500


@pytest.mark.parametrize(
    "command", ["inspect", "plan", "show", "simulate", "sweep", "tune", "calibrate", "execute", "demo"]
)
def test_every_command_that_takes_a_scenario_refuses_it_alike(command: str, tmp_path: Path, capsys: Captured) -> None:
    path = CORPUS / "horizon-0.toml"
    more = ["-o", str(tmp_path / "out")] if command == "demo" else []
    line = refused([command, str(path), *more], capsys)
    assert f"{path}: offload.activation_loading_horizon = 0: it must be an integer of at least 1" in line


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("offload.activation_loading_horizon=0", "activation_loading_horizon = 0"),
        ('offload.activation_loading_horizon="4"', "activation_loading_horizon = '4'"),
        ("offload.activation_loading_horizon=2.5", "activation_loading_horizon = 2.5"),
        ("offload.activation_loading_horizon=true", "activation_loading_horizon = True"),
        ("offload.activation_loading_horizon=", "activation_loading_horizon = ''"),
        (
            "offload.horizon=3",
            "offload.horizon: is not a key of a scenario; did you mean offload.activation_loading_hor",
        ),
        (
            "offload.window=3",
            "offload.window: is not a key of a scenario; did you mean offload.release_window? Allowed",
        ),
        ("horizon=3", "horizon: is not a key of a scenario; did you mean offload.activation_loading_horizon?"),
        ("activation_loading_horizon=4", "did you mean offload.activation_loading_horizon?"),
        ("parallel.activation_loading_horizon=4", "did you mean offload.activation_loading_horizon?"),
        ("activation_loading_horizn=4", "did you mean offload.activation_loading_horizon?"),
        ("parallel.pp=4", "did you mean parallel.pipeline_parallel_degree? Allowed: microbatches"),
        ("parallel.pipeline_degree=4", "did you mean pipeline_parallel_degree? Allowed: microbatches"),
        (
            "model.layers=4",
            'model.layers: is not a key of a scenario; it is one of kind = "transformer"; allowed: kind',
        ),
        ("offlod.release_window=2", "offlod: is not a key of a scenario; did you mean offload?"),
        ("parallel.pipeline", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("name.first=x", "name holds 'small' and no keys"),
        ("model.forward=1 ms\n[parallel]", "no duration"),
        (f"{'a.' * 400}b=1", "KEY=VALUE"),
    ],
)
def test_a_bad_override_is_one_line_and_exit_2(override: str, says: str, capsys: Captured) -> None:
    assert says in refused(["simulate", str(GOOD), "--set", override], capsys)


@pytest.mark.parametrize("argument", ["demmo", "no/such/file.toml", ".", "tests"])
def test_an_unknown_scenario_is_one_line_and_exit_2(argument: str, capsys: Captured) -> None:
    line = refused(["simulate", argument], capsys)
    assert argument in line
    if argument == "demmo":
        assert "did you mean demo?" in line


def test_the_good_one_is_good(capsys: Captured) -> None:
    assert run(["simulate", str(GOOD), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["scenario"] == "small"
