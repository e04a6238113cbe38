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

from loadahead import jobs
from loadahead.cli.main import run
from loadahead.progress import Progress
from loadahead.reports.run_directory import EVIDENCE, EVIDENCE_PAGE, VALIDATION_JOURNAL
from loadahead.reports.verdicts.base import HOLDS, NOT_CLAIMED
from loadahead.sim.errors import InputError
from loadahead.validation.grid import Configuration, Grid, PeerCase, without
from loadahead.validation.grids import GRIDS
from loadahead.validation.journal import open_journal

ROOT = Path(__file__).parents[2]
(TINY,) = GRIDS["cpu"].sizes
# Clock times of a machine that does something else besides say nothing: tests/times claims them.
TIMED = {"median_time", "small_bandwidth"}
# So the few steps in which peers train are enough, and each operation need not be timed thirty times.
UNTIMED = replace(
    GRIDS["cpu"],
    sizes=(replace(TINY, steps=GRIDS["cpu"].peer_steps + 2, repeats=4),),
    claims={name: limit for name, limit in GRIDS["cpu"].claims.items() if name not in TIMED},
)
SMALL = replace(TINY, options=TINY.options | {"width": 16, "context": 16, "batch": 2}, steps=3, repeats=4)


def validate(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, evidence, and what stood on stderr."""
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as said:
        status = run(["validate", "--device", "cpu", "-o", str(out), "--json", *options])
    return status, json.loads(printed.getvalue()), said.getvalue()


def journal(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / VALIDATION_JOURNAL).read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any], str]:
    """The CPU's grid, without what it claims of times."""
    out = tmp_path_factory.mktemp("validate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GRIDS, "cpu", UNTIMED)
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
    assert json.loads((out / EVIDENCE).read_text()) == evidence
    assert (out / EVIDENCE_PAGE).is_file()
    assert len(list(out.glob("*.png"))) == 3


def test_peers_train_the_same_model_on_the_same_data(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    """Nothing is random in the model, so that they compute the same numbers."""
    _, _, evidence, _ = whole
    ours = evidence["configurations"][0]["measured"]["losses"]
    for peer in evidence["peers"]:
        if peer["status"] == "measured":
            assert peer["losses"] == ours[: len(peer["losses"])]
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


def test_the_claims_hold_and_so_the_exit_status_is_0(whole: tuple[Path, int, dict[str, Any], str]) -> None:
    _, status, evidence, said = whole
    outcomes = {v["name"]: v["outcome"] for v in evidence["verdicts"] if v["outcome"] != NOT_CLAIMED}
    assert outcomes == {"runs": HOLDS, "gradients": HOLDS, "peak_memory": HOLDS}
    assert status == 0
    assert "error" not in said


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
    configurations = (without("broken", 2), good, bad, after)
    grid(Grid(sizes=(broken, SMALL), configurations=configurations, peers=(case,), claims={"runs": 0}))
    status, evidence, said = validate(tmp_path)
    assert status == 1
    assert said.splitlines()[-1] == "error: 1 of 1 claim does not hold"
    assert said.count("not calibrated") == 1
    found = {one["name"]: one for one in evidence["configurations"]}
    assert [found[one.name]["status"] for one in (good, bad, after)] == ["measured", "failed", "measured"]
    assert "zigzag" in found[bad.name]["reason"] and "\n" not in found[bad.name]["reason"]
    lost = found[without("broken", 2).name]
    assert (lost["status"], lost["reason"]) == ("failed", "broken was not calibrated")
    (model, _) = evidence["models"]
    assert model["reason"].startswith("InputError: ")
    assert {peer["status"] for peer in evidence["peers"]} == {"failed"}
    assert "Traceback" not in said


def test_after_the_limit_nothing_new_is_begun(tmp_path: Path, grid: Any) -> None:
    configurations = (without("tiny", 2), Configuration(model="tiny", microbatches=2, horizon=1))
    grid(Grid(sizes=(SMALL,), configurations=configurations, peers=(PeerCase(model="tiny", microbatches=2),)))
    status, evidence, said = validate(tmp_path, "--limit", "1 us")
    assert status == 1
    assert said.splitlines()[-1] == "error: nothing was measured: the time limit was reached"
    for one in (*evidence["configurations"], *evidence["peers"]):
        assert (one["status"], one["reason"]) == ("not run", "the time limit was reached")
    assert len(evidence["configurations"]) == 2 and len(evidence["peers"]) == 4
    status, evidence, _ = validate(tmp_path)  # the same command goes on
    assert [one["status"] for one in evidence["configurations"]] == ["measured"] * 2


def test_a_killed_validation_can_still_be_reported(
    tmp_path: Path, grid: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from loadahead.validation.subject import Subject

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Subject, "check_gradients", interrupted)
    one = without("tiny", 2)
    grid(Grid(sizes=(SMALL,), configurations=(one,), gradients=(one,)))
    (tmp_path / EVIDENCE).write_text("another validation's")
    (tmp_path / "horizons.png").write_text("another validation's")
    (tmp_path / "README.md").write_text("a user's")
    assert run(["validate", "--device", "cpu", "-o", str(tmp_path)]) == 130
    assert "interrupted; 1 of 1 configuration kept in" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {VALIDATION_JOURNAL, "README.md"}
    assert [record["kind"] for record in journal(tmp_path)] == ["machine", "model", "prediction", "configuration"]
    assert run(["report", str(tmp_path), "--json"]) == 0
    page = (tmp_path / EVIDENCE_PAGE).read_text()
    assert "1 of 1 configuration measured" in page and "not run: the validation was stopped" in page
    assert (tmp_path / "README.md").read_text() == "a user's"


@pytest.fixture
def pair(grid: Any) -> Grid:
    """Two configurations, one gradient check and no peers."""
    one, two = without("tiny", 2), Configuration(model="tiny", microbatches=2, horizon=1)
    small = Grid(sizes=(SMALL,), configurations=(one, two), gradients=(two,), claims={"runs": 0, "gradients": 0})
    grid(small)
    return small


def test_the_same_command_goes_on_where_it_was_killed(
    tmp_path: Path, pair: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while its second configuration runs: neither the first nor the calibration is done again."""

    assert validate(tmp_path)[0] == 0
    whole = (tmp_path / VALIDATION_JOURNAL).read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in whole]
    assert kinds == ["machine", "model", *["prediction", "configuration"] * 2, "gradients", "end"]
    (tmp_path / VALIDATION_JOURNAL).write_bytes(b"".join(whole[:5]) + whole[5][:20])
    monkeypatch.setattr(jobs, "calibrate_prepared", None)
    status, evidence, said = validate(tmp_path)
    assert status == 0 and evidence["stopped"] is None
    assert "1 of them were run before" in said and "calibrating" not in said
    after = (tmp_path / VALIDATION_JOURNAL).read_bytes().splitlines(keepends=True)
    assert after[:5] == whole[:5]
    assert [json.loads(line)["kind"] for line in after[5:]] == ["prediction", "configuration", "gradients", "end"]
    assert json.loads(after[5])["predicted"] == json.loads(whole[4])["predicted"]


def test_damaged_costs_are_one_line(tmp_path: Path, pair: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(tmp_path)[0] == 0
    first, model = journal(tmp_path)[:2]
    model["costs"]["d2h_bandwidth"] = "fast"
    (tmp_path / VALIDATION_JOURNAL).write_text(f"{json.dumps(first)}\n{json.dumps(model)}\n")
    assert run(["validate", "--device", "cpu", "-o", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the journal's costs of tiny: d2h_bandwidth = 'fast': ") and "--fresh" in last


def test_another_grid_starts_anew_and_keeps_the_journal_before(tmp_path: Path, pair: Grid, grid: Any) -> None:
    assert validate(tmp_path)[0] == 0
    before = (tmp_path / VALIDATION_JOURNAL).read_bytes()
    grid(replace(pair, sizes=(replace(SMALL, steps=4),)))
    _, _, said = validate(tmp_path)
    told = f"{tmp_path}: starts anew, as another validation was there (other contents); the journal before is kept as "
    assert said.splitlines()[0] == f"{told}journal-1.jsonl"
    assert (tmp_path / "journal-1.jsonl").read_bytes() == before
    _, _, said = validate(tmp_path, "--fresh")
    assert "starts anew; the journal before is kept as journal-2.jsonl" in said.splitlines()[0]
    assert len(journal(tmp_path)) == 8


@pytest.mark.parametrize("other", ["loadahead", "code", "machine", "packages", "device"])
def test_other_versions_and_machines_start_anew(tmp_path: Path, other: str) -> None:
    header = {"loadahead": "0.1.0", "code": "a", "machine": {"cores": 2}, "packages": {}, "device": "cpu"}
    with open_journal(tmp_path, header):
        pass
    said: list[Progress] = []
    with open_journal(tmp_path, header | {other: "another"}, progress=said.append) as opened:
        assert [record["kind"] for record in opened.records] == ["machine"]
    (line,) = said
    assert f"(other {other})" in line.what and "\n" not in line.what
    assert (tmp_path / "journal-1.jsonl").exists()


def test_two_validations_do_not_share_a_directory(tmp_path: Path) -> None:
    with open_journal(tmp_path, {}), pytest.raises(InputError, match="another validation works there"):
        open_journal(tmp_path, {})


def test_a_damaged_journal_is_one_line(tmp_path: Path, pair: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / VALIDATION_JOURNAL).write_text("[]\n")
    assert run(["validate", "--device", "cpu", "-o", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "journal.jsonl line 1" in said and "--fresh" in said and said.count("\n") == 1
    assert validate(tmp_path, "--fresh")[0] == 0


def test_places_that_cannot_be_written_are_noticed_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / EVIDENCE).mkdir()
    (tmp_path / "afile").write_text("x")
    for out, says in (
        (str(tmp_path), f"error: {tmp_path / EVIDENCE}: Is a directory"),
        ("", "error: --out is empty; give a directory"),
        (str(tmp_path / "afile"), "is a file; give a directory"),
    ):
        assert run(["validate", "--device", "cpu", "-o", out]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "tpu"], "device is 'tpu'; it must be one of cpu, cuda (--device)"),
        (["--device", "cpu", "--grid", "tpu"], "grid is 'tpu'; it must be one of gpu, cpu (--grid)"),
        (["--device", "cpu", "--grid", "gpu"], "grid gpu needs device cuda"),
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
        [ROOT / ".ci/gpu-check"],
        env=os.environ | {"GPU_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: gpu-check needs an NVIDIA GPU") and done.stderr.count("\n") == 1


def test_the_gpu_check_says_in_one_line_that_there_is_no_such_python() -> None:
    done = subprocess.run(
        [ROOT / ".ci/gpu-check"],
        env=os.environ | {"GPU_PYTHON": "/nonexistent/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: GPU_PYTHON is /nonexistent/python") and done.stderr.count("\n") == 1
