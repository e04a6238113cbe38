"""The documentation's example by all ways: JSON, a Python file, v2's keys, a dictionary, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.run_data import load_run
from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.scenarios.placement import placement_of
from loadahead.sim.ir.json_form import plan_to_json
from loadahead.smp import import_options
from tests.unit.scenarios.smp.examples import JSON, OPTIONS, OPTIONS_V2, PYTHON, RANKS, without_cap

FILES = {"smp.json": JSON, "smp.py": PYTHON, "v2.json": json.dumps(OPTIONS_V2)}
GPT = ["--model", "gpt3-1.3b", "--machine", "p4d.24xlarge"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command and return its status, and what it prints on stdout and stderr."""
    capsys.readouterr()
    status = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def places(source: Any) -> list[tuple[int, int, int]]:
    """Return the replica, rank and tensor-parallel part of each process of a scenario, as the scenario places them."""
    scenario = load_scenario(source)
    table = placement_of(scenario.parallel, scenario.hardware).table(scenario.parallel.pipeline_parallel_degree)
    return [(row["d"], row["p"], row["t"]) for row in table.rows()]


def test_json_python_and_a_dictionary_are_one(folder: Path) -> None:
    loaded = [la.load(source, {"name": "smp"}) for source in (folder / "smp.json", folder / "smp.py", OPTIONS)]
    assert loaded[0] == loaded[1] == loaded[2]
    assert places(OPTIONS) == RANKS
    parallel = loaded[0].parallel
    assert (parallel.data_parallel_degree, len(RANKS)) == (2, 8)
    plans = [plan_to_json(la.plan(scenario)) for scenario in loaded]
    assert plans[0] == plans[1] == plans[2]


def test_a_run_directory_keeps_what_became_of_each_key_and_the_rank_map(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import-smp", folder / "smp.json", *GPT, "-o", folder / "out"]
    status, out, _ = command(capsys, *words, "--json")
    told, kept = json.loads(out), load_run(folder / "out").smp
    assert status == 0 and kept is not None
    assert [key.key for key in kept.keys] == [row["key"] for row in told["keys"]]
    became = [row["became"] for row in told["keys"]]
    assert all(word is None or key.where.startswith(word) for key, word in zip(kept.keys, became, strict=True))
    assert kept.rank_map().rows() == told["ranks"]
    # The timeline says what made it.
    assert load_run(folder / "out").made_by == (("loadahead", *map(str, words), "--json"),)
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "What became of each key" in page and "Where each process stands" in page


def test_v2_s_keys(folder: Path) -> None:
    imported = import_options(folder / "v2.json", model="gpt3-1.3b")
    degrees = imported.conversion.degrees
    assert (degrees.data, degrees.pipeline, degrees.tensor, degrees.processes) == (2, 1, 4, 8)
    # All of a replica's processes are tensor-parallel parts.
    assert [(row["d"], row["t"]) for row in imported.ranks.rows()] == [divmod(rank, 4) for rank in range(8)]
    assert imported.prediction.job.plan.policy["horizon_unit"] == "layers"


def test_the_command_gives_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "run"
    status, text, errors = command(capsys, "import-smp", folder / "smp.py", "-o", out, *GPT)
    assert status == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "microbatches 4 parallel.microbatches = 4" in lines
    assert "8 processes on 1 host: data parallel 2, pipeline parallel 2, tensor parallel 2." in lines
    # rank, host, gpu, switch (two GPUs each), d, p, t
    assert [line for line in lines if line.startswith("5 0 5")] == ["5 0 5 2 1 0 1"]
    assert any(line.startswith("smp: gpt3-1.3b (1.3") for line in lines)
    assert any(line.startswith("Predicted (compiled): one step takes ") for line in lines)
    assert any(line.startswith("This plan has ") for line in lines)
    assert "activation checkpointing is taken as on" in errors
    for name in ("scenario.toml", "plan.json", "costs.json", "predicted.jsonl", "report.html"):
        assert (out / name).is_file(), name
    scenario = la.load(out / "scenario.toml")
    overrides = {"model.preset": "gpt3-1.3b", "hardware.machine": "p4d.24xlarge"}
    assert scenario == without_cap(la.load(folder / "smp.py", overrides))
    # What it predicts is what the written plan is predicted to take.
    status, again, _ = command(capsys, "simulate", out / "plan.json", "--json")
    assert status == 0
    assert json.loads(again)["step_time_ns"] == la.simulate(scenario).metrics.step_time_ns


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = folder / "s.toml"
    status, text, _ = command(capsys, "import-smp", folder / "smp.json", "-o", toml, *GPT, "--json")
    assert status == 0
    found = json.loads(text)
    assert found["scenario"]["parallel"]["data_parallel_degree"] == 2
    assert found["degrees"]["processes"] == 8
    assert [(row["d"], row["p"], row["t"]) for row in found["ranks"]] == RANKS
    assert set(found["ranks"][0]) == {"rank", "host", "gpu", "switch", "d", "p", "t"}
    assert found["keys"][0] == {
        "key": "microbatches",
        "value": 4,
        "became": "parallel.microbatches = 4",
        "note": "",
    }
    status, text, _ = command(capsys, "simulate", toml, "--json")
    alone = json.loads(text)
    assert {**found["prediction"], "warnings": []} == {**alone, "warnings": []}
    assert found["warnings"] == found["prediction"]["warnings"]
    assert any("1F1B" in text for text in found["warnings"])


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "{}", "--json"],
        ["plan", "{}", "--json"],
        ["sweep", "{}", "--horizon", "1:3", "--json"],
        ["sweep", "{}", "--set-range", "parallel.microbatches=2,4", "--json"],
    ],
)
@pytest.mark.parametrize("name", ["smp.json", "smp.py"])
def test_every_command_takes_them(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    status, text, _ = command(capsys, *(word.format(folder / name) for word in words))
    assert status == 0
    warnings = json.loads(text)["warnings"]
    for part in ("the uniform scenario's stand in", "checkpointing is taken as on", "plain 1F1B"):
        assert sum(part in warning for warning in warnings) == 1, part


def test_a_sweep_s_axes_change_what_follows_from_them() -> None:
    table = la.sweep(OPTIONS, {"parallel.pipeline_parallel_degree": [1, 2, 4], "hardware.d2h": ["1 GB/s", "2 GB/s"]})
    for row in table.rows:
        own = {key: row[key] for key in ("parallel.pipeline_parallel_degree", "hardware.d2h")}
        assert row["step_time_ns"] == la.simulate(OPTIONS, own).metrics.step_time_ns


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--machine", "p4x"], "machine is 'p4x'; did you mean p4d.24xlarge? It must be one of p3.16xlarge, "),
        (["--model", "gpt5"], "gpt5: is neither a scenario file nor one that comes with Loadahead; "),
        (["--model", "gpt3-1.3b"], "the model counts FLOPs, and no machine says how fast its GPUs are; "),
    ],
)
def test_what_the_command_refuses(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    status, out, errors = command(capsys, "import-smp", folder / "smp.json", *words)
    assert (status, out) == (2, "")
    assert line in errors and errors.startswith("error: ") and len(errors.splitlines()) == 1
    assert f"({words[0] if words[1] != 'gpt3-1.3b' else '--machine'} NAME)" in errors


def test_a_scenario_is_not_imported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "s.toml").write_text("[model]\n")
    status, _, errors = command(capsys, "import-smp", folder / "s.toml")
    assert status == 2 and "line 1: is not JSON" in errors and len(errors.splitlines()) == 1
    status, _, errors = command(capsys, "import-smp", folder / "none.json")
    assert status == 2 and "cannot be read (No such file or directory)" in errors


@pytest.mark.parametrize("name", ["shared-switch", "four-rank"])
def test_a_scenario_s_model_is_taken(folder: Path, name: str) -> None:
    imported = import_options(folder / "smp.json", model=name, machine="p4d.24xlarge")
    assert imported.scenario.model == la.load(name).model
    assert not [text for text in imported.warnings if "no model" in text]


def test_a_module_s_folder_is_known_from_everywhere(folder: Path) -> None:
    module = '[model]\nkind = "module"\npython = "mine:make"\n[hardware]\nd2h = "1 GB/s"\nh2d = "1 GB/s"\n'
    (folder / "mine.toml").write_text(module)
    scenario = options_file(folder / "smp.json", model=str(folder / "mine.toml")).scenario()
    assert scenario.model == la.load(folder / "mine.toml").model
    assert scenario.model.search_path == str(folder.resolve())  # type: ignore[attr-defined]


def test_a_large_rank_map_is_shown_in_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big = {
        "smp_options": {"partitions": 2, "ddp": True},
        "mpi_options": {"processes_per_host": 8},
        "instance_count": 16,
    }
    (folder / "big.json").write_text(json.dumps(big))
    status, text, _ = command(capsys, "import-smp", folder / "big.json")
    assert status == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    all_hosts = "128 processes on 16 hosts with 8 GPUs in use on each"
    assert f"{all_hosts}: data parallel 64, pipeline parallel 2, tensor parallel 1." in lines
    assert "7 0 7 0 3 1 0" in lines and "127 15 7 0 63 1 0" in lines and "8 1 0 0 4 0 0" not in lines


def test_the_table_of_keys_fits_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Long sentences are wrapped, and a machine that is not known is told once with those that are."""
    given = {"smp_options": {"partitions": 2, "partition_file": "x" * 300, "sdp_hierarchical_allgather": True}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(given | {"instance_type": "ml.g5.48xlarge"}))
    status, text, errors = command(capsys, "import-smp", path)
    table = text.split("\n\n")[1].splitlines()
    assert status == 0 and max(map(len, table)) <= 100
    assert " ".join(next(line for line in table if "g5" in line).split()) == (
        'instance_type "ml.g5.48xlarge" not used: none of the machines known'
    )
    assert errors.count("none of the machines known") == 1
    assert "hosts gather in two steps is not modelled" in " ".join(text.split())
