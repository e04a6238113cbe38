"""The commands with --device cuda, on the stand-in for a GPU: what they write, print and draw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run
from loadahead.executor.backends import BACKENDS
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.sim.timeline import read_timeline
from loadahead.sim.units import format_bytes, format_rate
from loadahead.validation.grid import Configuration, Grid, without
from loadahead.validation.grids import GRIDS
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu

Captured = pytest.CaptureFixture[str]

TINY = "model.options={ blocks = 2, width = 32, heads = 2, context = 16, batch = 2, dropout = 0.2 }"
GPU = FakeGpu(launch_ns=500, call_ns=100, d2h_bandwidth=300_000_000, h2d_bandwidth=200_000_000)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(**settings: Any) -> CudaBackend:
        return CudaBackend(driver=FakeCuda(GPU), **settings)

    monkeypatch.setitem(BACKENDS, "cuda", backend)
    monkeypatch.setattr("loadahead.executor.calibration.run.SIZES", (1 << 12, 1 << 20))


def done(arguments: list[str], capsys: Captured) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_calibrate_execute_compare_report(tmp_path: Path, capsys: Captured) -> None:
    tiny = ["--set", TINY, "--set", "parallel.microbatches=4", "--device", "cuda"]
    costs, out = tmp_path / "costs.json", tmp_path / "run"
    made = done(["calibrate", "demo", *tiny, "--repeats", "4", "-o", str(costs)], capsys)
    assert made["source"] == "calibrated on cuda"
    assert made["memory_bytes"] == GPU.memory_bytes - GPU.taken_bytes
    assert made["launch_by_kind"]["FORWARD"] > made["launch_by_kind"]["RELEASE"] > 0
    assert made["evidence"]["model"]["autocast"] == "none"
    found = done(["execute", "demo", *tiny, "--costs", str(costs), "--steps", "6", "-o", str(out)], capsys)
    # Its links are its own: the costs keep them, whatever the scenario states.
    own = "on a GPU, whose links and memory are its own: the costs have"
    assert f"hardware.d2h = 400 MB/s has no effect {own} {format_rate(made['d2h_bandwidth'])}" in found["warnings"]
    assert (
        f"hardware.memory = 64 MiB has no effect {own} {format_bytes(GPU.memory_bytes - GPU.taken_bytes)}"
        in found["warnings"]
    )
    kept = json.loads((out / "costs.json").read_text())
    assert {name: kept[name] for name in made if name != "evidence"} == {
        name: value for name, value in made.items() if name != "evidence"
    }
    assert (found["device"], found["max_grad_error"]) == ("cuda", 0.0)
    assert len(found["bare_step_times_ns"]) == 3
    assert found["machine"]["gpu"]
    for ours, theirs in zip(found["predicted"]["ranks"], found["ranks"], strict=True):
        # Buffers that are no multiples of the allocator's 512 bytes are rounded up.
        assert ours["peak_device_bytes"] == pytest.approx(theirs["peak_device_bytes"], abs=4096)
    header = read_timeline(out / "measured.jsonl").header
    assert {"allocator", "issue_ns", "bare_step_times_ns"} <= header.keys()
    compared = done(["compare", str(out), str(out)], capsys)
    assert abs(compared["step_time_error"]) < 0.02
    assert run(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "own link" in page
    assert "emulated" not in page
    assert run(["execute", "demo", *tiny, "--costs", str(costs), "--steps", "2"]) == 2
    assert "steps is 2; at least 3 are needed on cuda" in capsys.readouterr().err


@pytest.mark.parametrize("calibrated", [True, False])
def test_costs_of_other_kernels_are_told(calibrated: bool, tmp_path: Path, capsys: Captured) -> None:
    """A run takes deterministic kernels where its gradients are checked; costs say what they were measured with."""
    tiny, costs = ["--set", TINY, "--device", "cuda"], str(tmp_path / "costs.json")
    switch = {True: "--check", False: "--no-check"}
    made = done(["calibrate", "demo", *tiny, "--repeats", "1", switch[calibrated], "-o", costs], capsys)
    assert made["evidence"]["deterministic"] is calibrated
    said = {}
    for check in (True, False):
        found = done(["execute", "demo", *tiny, "--costs", costs, "--steps", "3", switch[check]], capsys)
        said[check] = [text for text in found["warnings"] if "kernels" in text]
    assert said[calibrated] == []
    if calibrated:
        (text,) = said[False]
        assert "whose gradients were not checked, took whatever kernels" in text
        assert text.endswith("; calibrate with check off, or run with check on")
    else:
        assert said[True] == [
            "the costs were calibrated with whatever kernels are quickest and this run, whose gradients were checked, "
            "took deterministic kernels alone: predicted times and peaks may be those of other kernels; calibrate with "
            "check on, or run with check off"
        ]


def test_without_costs_it_calibrates_on_the_device(tmp_path: Path, capsys: Captured) -> None:
    assert run(["execute", "demo", "--set", TINY, "--device", "cuda", "--steps", "4"]) == 0
    out, err = capsys.readouterr()
    assert "calibrating on this cuda" in err
    assert err.count("has no effect on a GPU, whose links and memory are its own") == 4
    assert "every gradient, loss and buffer equals plain training" in out


def test_the_main_job(tmp_path: Path, capsys: Captured) -> None:
    options = ["--horizons", "1,2", "--microbatches", "2,4", "--steps", "4", "-o", str(tmp_path)]
    found = done(["demo", "--device", "cuda", "--set", TINY, *options], capsys)
    assert found["max_grad_error"] == 0.0
    assert [point["horizon"] for point in found["horizons"]] == [1, 2]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_more_ranks_than_one_are_one_line(capsys: Captured) -> None:
    assert run(["execute", "two-rank", "--set", TINY, "--device", "cuda"]) == 2
    err = capsys.readouterr().err
    assert "2 ranks; one run on cuda holds 1" in err.splitlines()[-1]


def test_a_validations_claims_about_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """On the stand-in's clock they hold or do not hold for good."""
    monkeypatch.setattr("loadahead.validation.identity.device_facts", lambda device: {})
    monkeypatch.setattr("loadahead.validation.validation.clear_device", lambda device: None)
    (size,) = GRIDS["cpu"].sizes
    options = size.options | {"blocks": 2, "width": 32, "context": 16, "batch": 2}
    grid = Grid(
        sizes=(replace(size, options=options, steps=4, repeats=1),),
        configurations=(without("tiny", 3), Configuration(model="tiny", microbatches=3, horizon=1, copies=20)),
        claims={"runs": 0, "median_time": 0.01, "largest_time": 0.02},
    )
    monkeypatch.setitem(GRIDS, "gpu", grid)
    evidence = done(["validate", "--device", "cuda", "-o", str(tmp_path / "right")], capsys)
    times = [one["measured"]["step_time_ns"] for one in evidence["configurations"]]
    assert times[1] > 1.5 * times[0]  # links so slow that there is something to predict
    monkeypatch.setitem(GRIDS, "gpu", replace(grid, claims={"median_time": 0.0}))
    assert run(["validate", "--device", "cuda", "-o", str(tmp_path / "wrong")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: 1 of 1 claim does not hold"
