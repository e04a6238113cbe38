"""`loadahead validate` end to end on the CPU: its evidence, its exit status, and what becomes of failures."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.main import run
from cli.validation.grid import Configuration, Grid, PeerCase, without
from cli.validation.grids import GRIDS
from reports.evidence import JOURNAL, JSON, PAGE
from reports.verdicts import FAILS

ROOT = Path(__file__).parents[2]
(TINY,) = GRIDS["cpu"].sizes
SMALL = replace(TINY, options=TINY.options | {"width": 16, "context": 16, "batch": 2}, steps=3, repeats=4)


def validate(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, evidence, and what stood on stderr."""
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as said:
        status = run(["validate", "--device", "cpu", "-o", str(out), "--json", *options])
    return status, json.loads(printed.getvalue()), said.getvalue()


def journal(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any], str]:
    """The CPU's grid."""
    out = tmp_path_factory.mktemp("validate")
    return out, *validate(out)


def test_everything_is_predicted_run_and_told(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    out, _, evidence, said = whole
    assert [one["status"] for one in evidence["configurations"]] == ["measured"] * len(GRIDS["cpu"].configurations)
    for one in evidence["configurations"]:
        assert one["predicted"]["peak_device_bytes"] == one["measured"]["peak_device_bytes"], one["name"]
        assert f"{one['name']}: " in said
    assert [one["max_grad_error"] for one in evidence["gradients"]] == [0.0]
    status = {peer["peer"]: peer["status"] for peer in evidence["peers"]}
    assert status == {"none": "measured", "save_on_cpu": "measured", "trl": "skipped", "deepspeed": "skipped"}
    assert json.loads((out / JSON).read_text()) == evidence
    assert (out / PAGE).is_file()
    assert len(list(out.glob("*.png"))) == 3


def test_peers_train_the_same_model_on_the_same_data(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    """Dropout is on and peers are not seeded here, so that losses are close and not equal."""
    _, _, evidence, _ = whole
    ours = evidence["configurations"][0]["measured"]["losses"]
    for peer in evidence["peers"]:
        if peer["status"] == "measured":
            assert peer["losses"][: len(ours)] == pytest.approx(ours, rel=0.03)
    # Without offload both hold the same tensors but for a loss or two.
    plain = next(peer for peer in evidence["peers"] if peer["peer"] == "none")
    assert plain["peak_device_bytes"] == pytest.approx(
        evidence["configurations"][0]["measured"]["peak_device_bytes"], rel=0.01
    )


def test_predictions_are_written_down_before_their_runs(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    kinds = [(record["kind"], record["name"]) for record in journal(whole[0]) if "name" in record]
    names = [one.name for one in GRIDS["cpu"].configurations]
    assert [pair for pair in kinds if pair[0] != "gradients"] == [
        pair for name in names for pair in (("prediction", name), ("configuration", name))
    ]


def test_the_exit_status_is_that_of_the_claims(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    _, status, evidence, said = whole
    failed = [v["claim"] for v in evidence["verdicts"] if v["outcome"] == FAILS]
    assert status == (1 if failed else 0)
    assert (said.splitlines()[-1].startswith("error: ")) == bool(failed)


def test_slower_links_take_longer(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    for side in ("predicted", "measured"):
        steps = {
            one["copies"]: one[side]["step_time_ns"]
            for one in whole[2]["configurations"]
            if one["offload"] and one["microbatches"] == 4 and one["horizon"] == 1 and one["pipeline"] == "simple"
        }
        assert steps[16] > 1.5 * steps[1]


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a grid in the CPU's place."""
    return lambda grid: monkeypatch.setitem(GRIDS, "cpu", grid)


def test_what_fails_is_recorded_and_does_not_stop_the_rest(tmp_path: Path, grid: Any) -> None:
    """A model that cannot be built, and a configuration that is refused among others that are not."""
    broken = replace(SMALL, name="broken", options=SMALL.options | {"heads": 3})
    good, bad = without("tiny", 2), Configuration(model="tiny", microbatches=2, pipeline="zigzag")
    after = Configuration(model="tiny", microbatches=2, horizon=1)
    case = PeerCase(model="broken", microbatches=2)
    grid(Grid(sizes=(broken, SMALL), configurations=(without("broken", 2), good, bad, after), peers=(case,)))
    status, evidence, said = validate(tmp_path)
    assert status == 1
    assert said.splitlines()[-1].startswith("error: ") and "no run fails" in said.splitlines()[-1]
    found = {one["name"]: one for one in evidence["configurations"]}
    assert [found[one.name]["status"] for one in (good, bad, after)] == ["measured", "failed", "measured"]
    assert "zigzag" in found[bad.name]["reason"] and "\n" not in found[bad.name]["reason"]
    lost = found[without("broken", 2).name]
    assert lost["status"] == "failed" and lost["reason"].startswith("broken was not calibrated: InputError: ")
    assert {peer["status"] for peer in evidence["peers"]} == {"failed"}
    assert "Traceback" not in said


def test_after_the_limit_nothing_new_is_begun(tmp_path: Path, grid: Any) -> None:
    configurations = (without("tiny", 2), Configuration(model="tiny", microbatches=2, horizon=1))
    grid(Grid(sizes=(SMALL,), configurations=configurations, peers=(PeerCase(model="tiny", microbatches=2),)))
    status, evidence, said = validate(tmp_path, "--limit", "1 us")
    assert status == 0  # nothing was measured, so nothing failed
    assert [one["status"] for one in evidence["configurations"]] == ["skipped"] * 2
    for one in configurations:
        assert f"{one.name}: skipped: tiny was not calibrated: the time limit was reached" in said


def test_a_killed_validation_can_still_be_reported(
    tmp_path: Path, grid: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli.validation.subject import Subject

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Subject, "check_gradients", interrupted)
    one = without("tiny", 2)
    grid(Grid(sizes=(SMALL,), configurations=(one,), gradients=(one,)))
    assert run(["validate", "--device", "cpu", "-o", str(tmp_path)]) == 130
    assert not (tmp_path / JSON).exists()
    assert [record["kind"] for record in journal(tmp_path)] == ["machine", "model", "prediction", "configuration"]
    capsys.readouterr()
    assert run(["report", str(tmp_path), "--json"]) == 0
    assert "1 of 1 configurations measured" in (tmp_path / PAGE).read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "tpu"], "--device is 'tpu'"),
        (["--device", "cpu", "--grid", "tpu"], "--grid is 'tpu'; it must be one of gpu, cpu"),
        (["--device", "cpu", "--limit", "soon"], "--limit is 'soon'"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", "-o", str(tmp_path / "out"), *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the check would run")
def test_the_gpu_check_says_in_one_line_that_there_is_no_gpu() -> None:
    done = subprocess.run(
        [ROOT / ".ci/gpu-check"], env=os.environ | {"GPU_PYTHON": sys.executable}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: gpu-check needs an NVIDIA GPU") and done.stderr.count("\n") == 1


def test_the_gpu_check_says_in_one_line_that_there_is_no_such_python() -> None:
    done = subprocess.run(
        [ROOT / ".ci/gpu-check"], env=os.environ | {"GPU_PYTHON": "/nonexistent/python"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: GPU_PYTHON is /nonexistent/python") and done.stderr.count("\n") == 1
