"""What a run's comparison with plain training comes to: exit status, sentence, JSON; and the weights it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import loadahead as la
from loadahead import runs
from loadahead.cli.main import run
from loadahead.executor.execute import execute as execute_plan
from loadahead.executor.shipped_models import SHIPPED_MODELS

Captured = pytest.CaptureFixture[str]
TRUE = execute_plan
SMALL = {"blocks": 1, "width": 8, "heads": 1, "context": 4, "batch": 1}
OPTIONS = "{ " + ", ".join(f"{key} = {value}" for key, value in SMALL.items()) + " }"
SET = ["--set", f"model.options={OPTIONS}"]
SHARED = "units 0.0 and 0.2 share '0.weight': 3e-08 off, at most 1e-06"
FAULT = "the gradient of 1.weight differs first, in unit 0.1 and step 0"


def changed(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Let runs come out with other results than they do."""

    def execute(*args: Any, **settings: Any) -> Any:
        return replace(TRUE(*args, **settings), **fields)

    monkeypatch.setattr(runs, "execute", execute)


def executed(out: Path, capsys: Captured) -> tuple[int, dict[str, Any], str]:
    status = run(["execute", "demo", *SET, "--steps", "2", "-o", str(out), "--json"])
    printed, errors = capsys.readouterr()
    return status, json.loads(printed), errors


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"max_grad_error": 0.0, "grad_error_allowed": 0.0, "differences": None}, 0, None),
        ({"max_grad_error": 3e-8, "grad_error_allowed": 1e-6, "differences": SHARED}, 0, SHARED),
        ({"max_grad_error": 3e-8, "grad_error_allowed": 0.0, "differences": FAULT}, 1, FAULT),
        ({"max_grad_error": 2e-6, "grad_error_allowed": 1e-6, "differences": FAULT}, 1, FAULT),
        ({"max_grad_error": 0.0, "grad_error_allowed": 0.0, "differences": FAULT}, 1, FAULT),
    ],
)
def test_exit_status_sentence_and_json(
    fields: dict[str, Any],
    status: int,
    sentence: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    changed(monkeypatch, **fields)
    found, result, errors = executed(tmp_path / "out", capsys)
    assert (found, {key: result[key] for key in fields}) == (status, fields)
    assert (f"error: {sentence}\n" in errors) == bool(status)
    assert run(["execute", "demo", *SET, "--steps", "2"]) == status
    shown = sentence or "every gradient, loss and buffer equals plain training's, bit for bit"
    assert shown in capsys.readouterr().out


def test_one_horizon_of_the_demo_is_enough_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    count = iter(range(9))

    def execute(*args: Any, **settings: Any) -> Any:
        fault: dict[str, Any] = {"max_grad_error": 1.0, "differences": FAULT} if next(count) == 2 else {}
        return replace(TRUE(*args, **settings), **fault)

    monkeypatch.setattr(runs, "execute", execute)
    command = ["demo", "demo", *SET, "--horizons", "1,2", "--microbatches", "2", "--steps", "2", "-o", str(tmp_path)]
    assert run(command) == 1
    out, err = capsys.readouterr()
    assert f"At horizon 2: TRAINED OTHERWISE than without a plan: {FAULT}." in out and f"error: {FAULT}\n" in err
    points = json.loads((tmp_path / "horizons.json").read_text())["points"]
    assert [point["differences"] for point in points] == [None, FAULT]


def test_trained_weights_are_written(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert executed(out, capsys)[0] == 0
    loaded = torch.load(out / "weights.pt", weights_only=True)
    done = la.execute("demo", {"model.options": SMALL}, steps=2)
    model, (optimizer,) = done.weights["model"], done.weights["optimizer"]
    assert loaded["model"].keys() == model.keys() and model
    assert all(torch.equal(loaded["model"][name], value) for name, value in model.items())
    fresh = SHIPPED_MODELS["byte-gpt"].build(**SMALL)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.load_state_dict(loaded["model"])
    assert any(not torch.equal(before[name], value) for name, value in fresh.state_dict().items())
    torch.optim.AdamW(fresh.parameters()).load_state_dict(loaded["optimizer"][0])
    assert optimizer["state"][0]["step"] == 2
    assert run(["report", str(out)]) == 0


def test_weights_are_a_runs_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeline is written beside them, as beside a run's other files."""
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(la.InputError, match=r"holds a run or a sweep already \(weights\.pt\)"):
        la.report(la.simulate("uniform"), tmp_path)


@pytest.mark.parametrize(
    ("device", "source", "deterministic", "told"),
    [
        ("cuda", "calibrated on cuda", True, True),
        ("cuda", "calibrated on cuda", False, False),  # as the run
        ("cpu", "calibrated on cpu", True, False),  # where all kernels are deterministic
        ("cuda", "calibrated on cpu", True, False),  # the times of another kind of device
        ("cuda", "scenario", True, False),
        ("cuda", "calibrated on cuda", None, False),  # costs that do not say
    ],
)
def test_other_kernels_are_told_where_a_device_chooses_them(
    device: str, source: str, deterministic: bool | None, told: bool
) -> None:
    evidence = {} if deterministic is None else {"deterministic": deterministic}
    made = la.Costs(
        units=(({"forward_ns": 1, "recompute_ns": 1, "backward_ns": 1},),),
        static_bytes=(0,),
        d2h_bandwidth=1,
        h2d_bandwidth=1,
        memory_bytes=1,
        source=source,
        evidence=evidence,
    )
    assert bool(runs.other_kernels(made, device, check=False)) is told
