"""The commands on scenarios: every shipped one, and from a scenario to files that other commands take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from loadahead.cli.main import run
from loadahead.scenarios.loader import SHIPPED, load_scenario, shipped_names
from loadahead.sim.engines import ENGINES

Captured = pytest.CaptureFixture[str]
SIMULATED = [name for name in shipped_names() if not load_scenario(name).model.needs_shapes]
RUN = [name for name in shipped_names() if name not in SIMULATED]
# The keys that programs outside the project rely on (DESIGN, section 4).
RANK_KEYS = {
    "rank",
    "peak_device_bytes",
    "peak_boundary_bytes",
    "peak_host_bytes",
    "compute_ns",
    "idle_ns",
    "stall_release_ns",
    "stall_prefetch_ns",
    "stall_send_ns",
    "stall_recv_ns",
    "copy_ns",
    "overlap",
}
STEP_KEYS = {"scenario", "engine", "step_time_ns", "offloaded", "kept", "ranks", "warnings"}


def done(arguments: list[str], capsys: Captured) -> Any:
    """The JSON object of a command that succeeds, which is all that stands on stdout."""
    assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_the_issue_is_shipped() -> None:
    assert {"demo", "two-rank", "four-rank", "slow-link", "no-help", "uniform"} <= set(shipped_names())


@pytest.mark.parametrize("name", SIMULATED)
def test_shipped_scenarios_are_planned_proven_and_simulated_alike(name: str, tmp_path: Path, capsys: Captured) -> None:
    small = ["--set", "parallel.microbatches=8"]
    plan = tmp_path / "plan.json"
    planned = done(["plan", name, *small, "-o", str(plan)], capsys)
    assert done(["verify", str(plan)], capsys)["valid"]
    results = {}
    for engine in ENGINES:
        timeline = tmp_path / f"{engine}.jsonl"
        ours = done(["simulate", name, *small, "--engine", engine, "--timeline", str(timeline)], capsys)
        assert ours.keys() >= STEP_KEYS
        assert all(rank.keys() >= RANK_KEYS for rank in ours["ranks"])
        assert ours["scenario"] == name and ours["engine"] == engine
        assert (ours["offloaded"], ours["kept"]) == (planned["offloaded"], planned["kept"])
        assert done(["simulate", str(plan), "--engine", engine], capsys) == ours
        head, *rows = [json.loads(line) for line in timeline.read_text().splitlines()]
        assert (head["format"], head["version"], head["source"]) == ("loadahead-timeline", 1, engine)
        assert sum("op" in row for row in rows) == planned["operations"]
        results[engine] = {key: value for key, value in ours.items() if key != "engine"}
    assert all(result == results["simpy"] for result in results.values())


def test_what_the_scenarios_are_for(capsys: Captured) -> None:
    slow = done(["simulate", "slow-link"], capsys)
    for horizon in (1, 8):
        best = done(["simulate", "slow-link", "--set", f"offload.activation_loading_horizon={horizon}"], capsys)
        assert sum(best["ranks"][0][f"stall_{stall}_ns"] for stall in ("release", "prefetch")) > 0.2 * 96_000_000
    assert slow["offloaded"] == 32
    helpless = done(["simulate", "no-help"], capsys)
    assert (helpless["offloaded"], helpless["kept"]) == (0, 16)
    four = done(["simulate", "four-rank"], capsys)
    assert four["warnings"] == []
    without = done(["simulate", "four-rank", "--set", "offload.offload_activations=false"], capsys)
    assert any("would run out of memory" in text for text in without["warnings"])
    assert without["step_time_ns"] > 0.99 * four["step_time_ns"]


def test_why_nothing_is_offloaded_is_said_in_a_sentence(capsys: Captured) -> None:
    assert run(["plan", "no-help"]) == 0
    out = capsys.readouterr().out
    assert "Offloading cannot help with these settings, so nothing is offloaded: all 16 boundaries stay" in out


@pytest.mark.parametrize("command", ["simulate", "show", "plan"])
def test_a_plan_takes_no_overrides(command: str, tmp_path: Path, capsys: Captured) -> None:
    plan = tmp_path / "plan.json"
    done(["plan", "uniform", "-o", str(plan)], capsys)
    status = run([command, str(plan), "--set", "offload.release_window=2"])
    line = capsys.readouterr().err
    assert status == 2
    assert line.count("\n") == 1


def test_the_text_form_is_a_plan_too(tmp_path: Path, capsys: Captured) -> None:
    text, plan = tmp_path / "plan.txt", tmp_path / "plan.json"
    assert run(["plan", "uniform", "--text", "-o", str(text)]) == 0
    assert run(["plan", "uniform", "-o", str(plan)]) == 0
    capsys.readouterr()
    assert done(["show", str(text)], capsys) == json.loads(plan.read_text())
    assert done(["simulate", str(text)], capsys) == done(["simulate", "uniform"], capsys)


def test_a_sweep_and_its_files(tmp_path: Path, capsys: Captured) -> None:
    options = ["--horizon", "1:3", "--microbatches", "4,8", "--pipeline", "simple,interleaved", "-o", str(tmp_path)]
    points = done(["sweep", "uniform", *options], capsys)["points"]
    assert len(points) == 12
    one = next(p for p in points if (p["horizon"], p["microbatches"], p["pipeline"]) == (2, 8, "simple"))
    alone = done(
        ["simulate", "uniform", "--set", "parallel.pipeline=simple", "--set", "offload.activation_loading_horizon=2"],
        capsys,
    )
    assert one["step_time_ns"] == alone["step_time_ns"]
    assert one["peak_device_bytes"] == max(rank["peak_device_bytes"] for rank in alone["ranks"])
    csv, parquet = pd.read_csv(tmp_path / "sweep.csv"), pd.read_parquet(tmp_path / "sweep.parquet")
    for table in (csv, parquet):  # nothing stands where the host's capacity is not known
        assert table.astype(object).where(table.notna(), None).to_dict("records") == points
    assert run(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_progress_and_warnings_are_kept_off_stdout(capsys: Captured) -> None:
    assert run(["sweep", "uniform", "--horizon", "1,2", "--microbatches", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"] == [err.splitlines()[-1].removeprefix("warning: ")]
    assert "simulating 2 plans" in err


TINY = "model.options={ blocks = 2, width = 16, heads = 2, context = 8, batch = 2, dropout = 0.2 }"


@pytest.mark.parametrize("name", RUN)
def test_shipped_modules_are_calibrated_and_run(name: str, tmp_path: Path, capsys: Captured) -> None:
    tiny = ["--set", TINY, "--set", "parallel.microbatches=3"]
    costs, out = tmp_path / "costs.json", tmp_path / "run"
    made = done(["calibrate", name, *tiny, "--repeats", "2", "-o", str(costs)], capsys)
    assert made == json.loads(costs.read_text())
    assert made["source"] == "calibrated on cpu"
    assert made["evidence"]["operations"]["FORWARD 0.0"]["count"] >= 2
    ours = done(["simulate", name, *tiny, "--costs", str(costs)], capsys)
    assert ours.pop("advice")["keep_all"]["step_time_ns"] > 0  # which only a simulation gives
    theirs = done(["execute", name, *tiny, "--costs", str(costs), "--steps", "3", "-o", str(out)], capsys)
    assert theirs.keys() >= ours.keys() | {"loss", "max_grad_error", "device"}
    assert (theirs["device"], theirs["max_grad_error"]) == ("cpu", 0.0)
    assert theirs["predicted"] == ours
    for rank, measured in zip(ours["ranks"], theirs["ranks"], strict=True):
        for key in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
            assert rank[key] == measured[key]
    compared = done(["compare", str(out), str(out)], capsys)
    assert compared.keys() >= {
        "step_time_error",
        "peak_device_error",
        "op_duration_mape",
        "per_kind",
        "ranking_tau",
    }
    assert compared["peak_device_error"] == 0.0
    again = done(["execute", str(out / "plan.json"), "--costs", str(costs), "--steps", "2"], capsys)
    assert (again["max_grad_error"], again["offloaded"]) == (0.0, theirs["offloaded"])
    assert run(["report", str(out)]) == 0


def test_a_scenario_names_its_costs(tmp_path: Path, capsys: Captured) -> None:
    """The file is made after the scenario that names it, is found from anywhere, and --costs goes first."""
    scenario, named, other = tmp_path / "mine.toml", tmp_path / "costs.json", tmp_path / "other.json"
    text = (SHIPPED / "demo.toml").read_text().replace("blocks = 4", "blocks = 1")
    scenario.write_text(f'costs = "costs.json"\n{text}')
    assert run(["simulate", str(scenario)]) == 2
    assert "costs.json: cannot be read as a costs file" in capsys.readouterr().err
    made = done(["calibrate", str(scenario), "--repeats", "1", "-o", str(named)], capsys)
    ours = done(["simulate", str(scenario)], capsys)
    assert ours == done(["simulate", str(scenario), "--costs", str(named)], capsys)
    other.write_text(json.dumps(made | {"optimizer_ns": [10**12]}))
    assert done(["simulate", str(scenario), "--costs", str(other)], capsys)["step_time_ns"] > 10**12
    points = done(["sweep", str(scenario), "--horizon", "2", "--microbatches", "8"], capsys)["points"]
    assert points[0]["step_time_ns"] == ours["step_time_ns"]


def test_a_users_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A module beside the scenario, run from elsewhere, and again from its plan."""
    (tmp_path / "their_net.py").write_text(
        "from torch import nn\n\ndef make(width):\n"
        "    return nn.Sequential(*(nn.Linear(width, width) for _ in range(3)), nn.Dropout(0.5), nn.Linear(width, 2))\n"
    )
    (tmp_path / "theirs.toml").write_text(
        '[model]\nkind = "module"\npython = "their_net:make"\noptions = { width = 8 }\ninput_shape = [4, 8]\n'
        'loss = "mean"\nautocast = "bfloat16"\n[hardware]\nd2h = "1 GB/s"\nh2d = "1 GB/s"\n'
        "[parallel]\nmicrobatches = 4\npartitions = 2\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    plan = elsewhere / "plan.json"
    done(["plan", "../theirs.toml", "-o", str(plan)], capsys)
    for what in ("../theirs.toml", str(plan)):
        result = done(["execute", what, "--steps", "2"], capsys)
        assert result["max_grad_error"] == 0.0


@pytest.mark.parametrize("argument", ["uniform", "four-rank"])
def test_a_model_without_tensors_cannot_run(argument: str, capsys: Captured) -> None:
    assert run(["execute", argument]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "which has no tensors to run" in err and "e.g. the scenario demo" in err


def test_an_unknown_device_is_refused_before_any_work(capsys: Captured) -> None:
    assert run(["execute", "demo", "--device", "gpu"]) == 2
    assert capsys.readouterr().err == "error: device is 'gpu'; it must be one of cpu, cuda (--device)\n"


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path, capsys: Captured) -> None:
    taken = tmp_path / "a-file"
    taken.write_text("kept")
    for arguments in (
        ["execute", "demo", "-o", str(taken)],
        ["execute", "demo", "--timeline", str(tmp_path / "no" / "t.jsonl")],
        ["calibrate", "demo", "-o", str(tmp_path / "no" / "costs.json")],
    ):
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
    assert taken.read_text() == "kept"


@pytest.mark.parametrize(
    "override",
    ["model.units_per_stage=2147483647", "parallel.pipeline_parallel_degree=1000000", "parallel.microbatches=1000000"],
)
def test_more_than_can_be_planned_is_refused_at_once(override: str, capsys: Captured) -> None:
    assert run(["plan", "uniform", "--set", override]) == 2
    assert "at most 2000000 are planned" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["calibrate", "demo"])
def test_a_model_without_tensors_is_refused_in_one_line(command: str, tmp_path: Path, capsys: Captured) -> None:
    assert run([command, "uniform", "-o", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_standard_output_that_takes_nothing_is_one_line(redirection: str) -> None:
    command = f"{sys.executable} -m loadahead.cli.main show uniform {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_prediction_is_a_run_directory_that_a_report_reads(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "predicted"
    assert run(["simulate", "uniform", "-o", str(folder), "--json"]) == 0
    step_time = json.loads(capsys.readouterr().out)["step_time_ns"]
    kept = {"plan.json", "costs.json", "advice.json", "predicted.jsonl", "keep_all.jsonl"}
    assert {path.name for path in folder.iterdir()} == kept
    assert run(["report", str(folder)]) == 0
    capsys.readouterr()
    again = ["simulate", str(folder / "plan.json"), "--costs", str(folder / "costs.json"), "--json"]
    assert run(again) == 0
    assert json.loads(capsys.readouterr().out)["step_time_ns"] == step_time
