"""What a sweep advises: on its marked point, and on each combination of its other axes, of what was swept alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.sweeps import advice as sweep_advice

Captured = pytest.CaptureFixture[str]
LINKS = {"hardware.d2h": ["1 GB/s", "400 MB/s"], "horizon": [1, 4, 20]}


def test_each_combination_is_what_its_own_steps_say() -> None:
    """Each step is simulated by itself, those that keep all too."""
    table = la.sweep("slow-link", LINKS)
    assert [each.axes["hardware.d2h"] for each in table.advice_by_axes] == ["1 GB/s", "400 MB/s"]
    for each in table.advice_by_axes:
        changes = {"hardware.d2h": each.axes["hardware.d2h"]}
        keep_all = la.simulate("slow-link", changes | {"offload.offload_activations": False}).metrics
        assert each.keep_all.step_time_ns == keep_all.step_time_ns
        steps = {
            horizon: la.simulate("slow-link", changes | {"offload.activation_loading_horizon": horizon}).metrics
            for horizon in (1, 4, 20)
        }
        short = {
            horizon: step.peak_device_bytes
            for horizon, step in steps.items()
            if 100 * step.step_time_ns <= 101 * keep_all.step_time_ns
            and step.peak_device_bytes < keep_all.peak_device_bytes
        }
        assert (each.best.horizon if each.best else None) == min(short, key=lambda h: (short[h], h), default=None)


def test_the_marked_point_has_the_advice_of_its_own_scenario(capsys: Captured) -> None:
    table = la.sweep("slow-link", LINKS)
    best = table.best()
    assert best is not None and table.advice is not None
    alone = la.advise(
        "slow-link", {"hardware.d2h": best["hardware.d2h"], "offload.activation_loading_horizon": best.horizon}
    )
    assert alone is not None and table.advice.to_dict()["best"] == alone.to_dict()["best"]
    assert "The marked point" in table.advice.sentence
    axes = ["--horizon", "1,4,20", "--set-range", "hardware.d2h=1 GB/s,400 MB/s"]
    assert run(["sweep", "slow-link", *axes]) == 0
    out = capsys.readouterr().out
    where = f"\nFor hardware.d2h {best['hardware.d2h']}: "
    assert f"{where}It fits without offloading: " in out
    # What is better than the marked point stands first.
    advised = alone.best
    assert advised is not None and f"{where}Horizon {advised.horizon} (tasks, release window 1): " in out
    assert f"The marked point has horizon {best.horizon}: " in out.split(where)[1].split("\n")[0]
    assert "\nhardware.d2h 400 MB/s: none of the 3 horizons swept saves device memory in a step within 1 %" in out
    assert run(["sweep", "slow-link", *axes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["advice"]["axes"] == dict(best.axes)
    assert [each["sentence"] for each in found["advice_by_axes"]] == [each.sentence for each in table.advice_by_axes]
    assert found["advice_left_out"] == 0


def test_of_many_combinations_the_first_are_looked_at(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sweep_advice, "MOST_COMBINATIONS", 3)
    monkeypatch.setattr(sweep_advice, "MOST_SENTENCES", 2)
    axes = ["--horizon", "1:2", "--release-window", "1:5"]
    assert run(["sweep", "slow-link", *axes, "-o", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["axes"]["release_window"] for each in found["advice_by_axes"]] == [1, 2, 3]
    assert found["advice_left_out"] == 2
    assert len(json.loads((tmp_path / "sweep.json").read_text())["advice"]) == 1 + 2


def test_one_horizon_of_each_combination_says_nothing_of_others() -> None:
    table = la.sweep("slow-link", {"release_window": [1, 2], "horizon": [3]})
    assert table.advice_by_axes == () and table.advice is not None


def test_without_checkpointing_there_is_no_advice_and_with_it_there_is(capsys: Captured) -> None:
    axes = ["--horizon", "1:2", "--set-range", "checkpoint.enabled=true,false"]
    assert run(["sweep", "slow-link", *axes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["axes"]["checkpoint.enabled"] for each in found["advice_by_axes"]] == [True]
    assert run(["sweep", "slow-link", *axes]) == 0
    assert "none of the 2 horizons swept saves device memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["simulate", "--set", "offload.offload_activations=false"],
        ["sweep", "--microbatches", "2,4", "--set", "offload.offload_activations=false"],
        ["sweep", "--horizon", "60,61"],
    ],
)
def test_advice_that_cannot_be_simulated_stops_nothing(command: list[str], tmp_path: Path, capsys: Captured) -> None:
    """A copy of 10 GB at a byte per second does not fit 64 bits, and none is made in what was asked for."""
    name, *options = command
    slow = ["--set", "hardware.d2h=1 B/s", "--set", "model.boundary=10 GB"]
    assert run([name, "uniform", *options, *slow, "-o", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["advice"] is None
    assert "no advice on horizons: " in err
    assert (tmp_path / ("sweep.csv" if name == "sweep" else "predicted.jsonl")).exists()


def test_a_uniform_model_with_more_stages_is_another_model() -> None:
    degrees = {"parallel.pipeline_parallel_degree": [2, 4], "horizon": [1]}
    table = la.sweep("uniform", degrees)
    assert [choice.model for choice in table.choices()] == [
        {"parallel.pipeline_parallel_degree": 2},
        {"parallel.pipeline_parallel_degree": 4},
    ]
    with pytest.raises(la.InputError, match=r"parallel\.pipeline_parallel_degree"):
        table.best()
    assert len(la.sweep("four-rank", degrees).choices()) == 1, "a transformer has its layers, whatever the degree"
