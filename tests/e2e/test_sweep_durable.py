"""Sweeps that last: killed, interrupted, shared among processes and a cluster, and always the same files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from loadahead.cli.main import run
from loadahead.reports.run_directory import SWEEP_FILES
from loadahead.reports.run_directory import SWEEP_JOURNAL as NAME

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
# No test lasts so long, however busy the machine: a wait that ends then hangs.
HANGING_S = 300
SWEEP = [
    "sweep",
    "uniform",
    "--engine",
    "compiled",
    "--set",
    "parallel.partitions=2",
    "--horizon",
    "1:10",
    "--release-window",
    "1:10",
    "--horizon-unit",
    "tasks,layers",
    "--set-range",
    "hardware.d2h=1 GB/s,2 GB/s",
]
POINTS = 400
SMALL = ["sweep", "uniform", "--engine", "compiled", "--horizon", "1:40", "--set-range", "hardware.h2d=1 GB/s,2 GB/s"]


def start(moment: str, arguments: list[str]) -> subprocess.Popen[str]:
    """The command in a process, and a process group, of its own; at a moment of :mod:`tests.support.halted_sweep`
    something happens to it."""
    return subprocess.Popen(
        [sys.executable, "tests/support/halted_sweep.py", moment, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        start_new_session=True,
    )


def finished(directory: Path) -> int:
    """Points in the journal, while a sweep may be writing it."""
    path = directory / NAME
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def wait_for(directory: Path, points: int, process: subprocess.Popen[str]) -> None:
    """Wait for a sweep that pauses after so many points."""
    deadline = time.monotonic() + HANGING_S
    while finished(directory) < points:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"only {finished(directory)} of {points} points came"
        time.sleep(0.01)


def assert_each_point_once(directory: Path, points: int) -> None:
    lines = [json.loads(line) for line in (directory / NAME).read_text().splitlines()]
    assert sorted(line["point"] for line in lines[1:]) == list(range(points))


def records(directory: Path) -> list[Any]:
    """Return the table's rows; nothing stands where the host's capacity is not known."""
    table = pd.read_csv(directory / "sweep.csv").astype(object)
    return table.where(table.notna(), None).to_dict("records")


def assert_same_files(one: Path, other: Path) -> None:
    assert (one / "sweep.csv").read_bytes() == (other / "sweep.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(one / "sweep.parquet"), pd.read_parquet(other / "sweep.parquet"))
    assert (one / "sweep.json").read_bytes() == (other / "sweep.json").read_bytes()
    assert not list(one.glob("*.part"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the sweep, never interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert run([*SWEEP, "-o", str(out)]) == 0
    assert_each_point_once(out, POINTS)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    assert run([*SMALL, "-o", str(out)]) == 0
    return out


def test_killed_at_ten_random_moments_and_continued_it_gives_the_same_files(whole: Path, tmp_path: Path) -> None:
    moments = random.Random(20)
    before = 0
    for left in range(10, 0, -1):
        # Between writes or within one, after some more points: chunks hold up to 8.
        points = moments.randint(9, (POINTS - before) // (2 * left))
        what = "within" if left == 1 else moments.choice(["before", "within", "after"])
        process = start(f"{points}:{what}", [*SWEEP, "-o", str(tmp_path)])
        output = process.communicate(timeout=HANGING_S)
        assert process.returncode == -signal.SIGKILL, output
        kept = (tmp_path / NAME).read_bytes()
        assert what != "within" or not kept.endswith(b"\n")
        assert before < finished(tmp_path) <= before + points + 8
        assert not (tmp_path / "sweep.csv").exists()
        before = finished(tmp_path)
    process = start("", [*SWEEP, "-o", str(tmp_path)])
    err = process.communicate(timeout=HANGING_S)[1]
    assert process.returncode == 0, err
    assert f"{before} of {POINTS} points were finished before and are taken over" in err
    # What was finished when it was killed stands there untouched: it was not simulated again.
    assert (tmp_path / NAME).read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert_each_point_once(tmp_path, POINTS)
    assert_same_files(tmp_path, whole)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    for jobs in ("1", "2"):
        before = finished(tmp_path)
        process = start("50:interrupt", [*SWEEP, "--jobs", jobs, "-o", str(tmp_path)])
        out, err = process.communicate(timeout=HANGING_S)
        assert (process.returncode, out) == (130, ""), err
        last = err.splitlines()[-1]
        assert last.startswith("error: interrupted; ")
        assert last.endswith(f" of {POINTS} points are kept in {tmp_path}, the same sweep goes on from there")
        assert before < int(last.split()[2]) <= finished(tmp_path) < POINTS
        assert "Traceback" not in err
        assert "Warning" not in err
    assert run([*SWEEP, "--jobs", "2", "-o", str(tmp_path)]) == 0
    assert_each_point_once(tmp_path, POINTS)
    assert_same_files(tmp_path, whole)


def test_a_finished_sweep_is_not_simulated_again(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    content, journal = (small / "sweep.csv").read_bytes(), (small / NAME).read_bytes()
    (small / "sweep.csv").unlink()
    monkeypatch.setattr("loadahead.sweeps.workers.evaluate_points", None)
    assert run([*SMALL, "-o", str(small), "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["points"]) == 80
    assert "80 of 80 points were finished before" in err
    assert (small / "sweep.csv").read_bytes() == content
    assert (small / NAME).read_bytes() == journal
    assert run(["report", str(small)]) == 0


def test_two_sweeps_in_one_directory(small: Path, tmp_path: Path, capsys: Captured) -> None:
    process = start("1:pause", [*SWEEP, "-o", str(tmp_path)])
    wait_for(tmp_path, 1, process)
    assert run([*SMALL, "-o", str(tmp_path)]) == 2
    line = f"error: {tmp_path}: another sweep works there; wait for it or use another directory (-o DIR)\n"
    assert capsys.readouterr().err == line
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert run([*SMALL, "-o", str(tmp_path)]) == 0
    assert_same_files(tmp_path, small)


def test_another_sweep_costs_none_of_the_points_of_the_one_before(
    whole: Path, small: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A sweep is killed, its axes are mistyped, and they are mended."""
    process = start("50:after", [*SWEEP, "-o", str(tmp_path)])
    process.communicate(timeout=HANGING_S)
    before = finished(tmp_path)
    assert 50 <= before < POINTS
    assert run([*SMALL, "-o", str(tmp_path)]) == 0
    err = capsys.readouterr().err
    kept = "(other scenario, axes); the journal before is kept as sweep-1.journal"
    assert f"{tmp_path}: starts anew, as another sweep was there {kept}\n" in err
    assert_same_files(tmp_path, small)

    process = start("1:before", [*SWEEP, "-o", str(tmp_path)])
    err = process.communicate(timeout=HANGING_S)[1]
    assert f"{tmp_path}: goes on with sweep-1.journal, which was kept of this sweep, as another sweep was there " in err
    assert f"{tmp_path}: {before} of {POINTS} points were finished before and are taken over\n" in err
    # Until it is done, no table of the other sweep passes for one of this.
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"} == {NAME, "sweep-2.journal"}
    assert run([*SWEEP, "-o", str(tmp_path)]) == 0
    assert_each_point_once(tmp_path, POINTS)
    assert_same_files(tmp_path, whole)

    capsys.readouterr()
    assert run([*SMALL, "-o", str(tmp_path)]) == 0
    assert "goes on with sweep-2.journal" in capsys.readouterr().err
    assert_same_files(tmp_path, small)
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "sweep-3.journal", *SWEEP_FILES}


FEWER = [*SMALL[:5], "3:32", "--set-range", "hardware.h2d=2 GB/s"]
SHARED = 30


def test_a_sweep_with_more_values_continues_the_one_before(small: Path, tmp_path: Path, capsys: Captured) -> None:
    """Killed at any moment of the taking over, it loses no point and ends with the files of a whole sweep."""
    assert run([*FEWER, "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    before = (tmp_path / NAME).read_bytes()
    for moment in ("1:before", "1:within", "1:after"):
        process = start(moment, [*SMALL, "-o", str(tmp_path)])
        err = process.communicate(timeout=HANGING_S)[1]
        assert process.returncode == -signal.SIGKILL, err
        said = f"{tmp_path}: goes on with other axes; the journal before is kept as sweep-1.journal\n"
        assert (said in err) == (moment == "1:before")
        assert (tmp_path / "sweep-1.journal").read_bytes() == before
        # A write of so many points is torn in two.
        assert (0 < finished(tmp_path) < SHARED) == (moment == "1:after")
    process = start("49:after", [*SMALL, "-o", str(tmp_path)])
    err = process.communicate(timeout=HANGING_S)[1]
    assert process.returncode == -signal.SIGKILL, err
    assert f"{tmp_path}: {SHARED} of 80 points were finished before and are taken over\n" in err
    assert SHARED < finished(tmp_path) < 80
    assert run([*SMALL, "-o", str(tmp_path)]) == 0
    assert_each_point_once(tmp_path, 80)
    assert_same_files(tmp_path, small)


def test_a_sweep_with_fewer_values_in_another_order_simulates_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    own = ["sweep", "uniform", "--engine", "compiled", "--horizon", "9,2,40", "--set-range"]
    assert run([*own, "hardware.h2d=2 GB/s,1 GB/s", "-o", str(tmp_path / "alone")]) == 0
    shutil.copytree(small, tmp_path / "there")
    capsys.readouterr()
    monkeypatch.setattr("loadahead.sweeps.workers.evaluate_points", None)
    assert run([*own, "hardware.h2d=2 GB/s,1 GB/s", "-o", str(tmp_path / "there")]) == 0
    assert "6 of 6 points were finished before and are taken over\n" in capsys.readouterr().err
    assert_same_files(tmp_path / "there", tmp_path / "alone")
    # A value is shown as the table at hand shows it, wherever the point comes from.
    monkeypatch.undo()
    mixed = ["sweep", "uniform", "--set-range", "model.boundary=1000000,2000000", "-o", str(tmp_path / "numbers")]
    assert run(mixed) == 0
    mixed[3] = "model.boundary=1000000,2 MB"
    assert run(mixed) == 0
    assert "1 of 2 points were finished before" in capsys.readouterr().err
    assert pd.read_parquet(tmp_path / "numbers" / "sweep.parquet")["model.boundary"].tolist() == ["1000000", "2 MB"]


def test_a_fresh_sweep_keeps_the_points_before_under_another_name(
    small: Path, tmp_path: Path, capsys: Captured
) -> None:
    process = start("1:after", [*SMALL, "-o", str(tmp_path)])
    process.communicate(timeout=HANGING_S)
    before = (tmp_path / NAME).read_bytes()
    assert run([*SMALL, "-o", str(tmp_path), "--fresh"]) == 0
    err = capsys.readouterr().err
    assert f"{tmp_path}: starts anew; the journal before is kept as sweep-1.journal\n" in err
    assert "taken over" not in err
    assert (tmp_path / "sweep-1.journal").read_bytes() == before
    assert_each_point_once(tmp_path, 80)
    assert_same_files(tmp_path, small)


def test_several_processes_give_the_same_files(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadahead.sweeps.workers.evaluate_points", None)  # here, not in the workers
    assert run([*SMALL, "--jobs", "2", "-o", str(tmp_path)]) == 0
    assert_each_point_once(tmp_path, 80)
    assert_same_files(tmp_path, small)


def test_worker_processes_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process = start("1:pause", [*SWEEP, "--jobs", "2", "-o", str(tmp_path)])
    wait_for(tmp_path, 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate(timeout=HANGING_S)
    assert psutil.wait_procs(workers, timeout=HANGING_S)[1] == []


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Dask cluster of two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as made:
        yield made.scheduler_address


def test_a_dask_cluster_gives_the_same_files(
    cluster: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadahead.sweeps.workers.CONNECT_SECONDS", HANGING_S)
    monkeypatch.setattr("loadahead.sweeps.workers.evaluate_points", None)  # here, not in the workers
    assert run([*SMALL, "--backend", "dask", "--scheduler", cluster, "-o", str(tmp_path)]) == 0
    assert_each_point_once(tmp_path, 80)
    assert_same_files(tmp_path, small)


def test_a_backend_that_gives_no_results_before_the_end_is_sent_waves(small: Path) -> None:
    """As Ray's; joblib's own of that kind is multiprocessing, here with threads for processes."""
    from joblib import parallel_config
    from joblib._parallel_backends import ThreadingBackend

    from loadahead.cli.axes import parse_axes
    from loadahead.sweeps import workers as workers_module
    from loadahead.sweeps.grid import Grid, Sweep
    from loadahead.sweeps.run import rows_of

    class Waves(ThreadingBackend):  # type: ignore[misc]
        supports_return_generator = False

    workers = workers_module.Workers(backend="waves", scheduler="")
    workers_module._CONTEXTS["waves"] = lambda _: parallel_config(backend=Waves(), n_jobs=2)
    try:
        grid = Grid(Sweep("uniform"), parse_axes({"horizon": "1:40"}, ["hardware.h2d=1 GB/s,2 GB/s"]))
        rows = rows_of(grid, "compiled", workers)
    finally:
        del workers_module._CONTEXTS["waves"]
    assert records(small) == [row.to_dict() for row in rows]


def done(arguments: list[str], capsys: Captured) -> Any:
    assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("hardware.d2h", ["1 GB/s", "500 MB/s"]),
        ("model.boundary", [1_000_000, 4_000_000]),
        ("parallel.partitions", [2, 4]),
        ("offload.offload_activations", [True, False]),
        ("checkpoint.strategy", ["each", "group_2"]),
        ("offload.activation_loading_horizon", [1, 8]),
    ],
)
def test_any_key_is_an_axis(key: str, values: list[Any], tmp_path: Path, capsys: Captured) -> None:
    base = ["uniform", "--set", "model.units_per_stage=2"]
    texts = [json.dumps(value) for value in values]
    points = done(["sweep", *base, "--set-range", f"{key}={','.join(texts)}", "-o", str(tmp_path)], capsys)["points"]
    column = "horizon" if key.startswith("offload.activation") else key
    assert [point[column] for point in points] == values
    for point, text in zip(points, texts, strict=True):
        alone = done(["simulate", *base, "--set", f"{key}={text}"], capsys)
        assert point["step_time_ns"] == alone["step_time_ns"]
        assert point["peak_device_bytes"] == max(rank["peak_device_bytes"] for rank in alone["ranks"])
        assert point["offloaded"] == alone["offloaded"]
    assert records(tmp_path) == points
    assert pd.read_parquet(tmp_path / "sweep.parquet").to_dict("records") == points
    assert run(["report", str(tmp_path)]) == 0


def test_a_calibration_is_kept_with_the_points(tmp_path: Path, capsys: Captured) -> None:
    tiny = "model.options={ blocks = 2, width = 16, heads = 2, context = 8, batch = 2, dropout = 0.2 }"
    command = ["sweep", "demo", "--set", tiny, "--microbatches", "2,3", "--horizon", "1:3", "-o", str(tmp_path)]
    points = done(command, capsys)["points"]
    lines = (tmp_path / NAME).read_text().splitlines(keepends=True)
    (tmp_path / NAME).write_text("".join(line for line in lines if '"point"' not in line) + lines[-1])
    assert done(command, capsys)["points"] == points


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set-range", "hardware.d2hh=1,2"], ["uniform: hardware.d2hh", "did you mean d2h"]),
        (["--set-range", "hardware.d2h=1 GB/s,0 GB/s"], ["uniform: hardware.d2h"]),
        (["--set-range", "hardware.d2h"], ["--set-range is 'hardware.d2h'", "KEY=VALUES"]),
        (["--set-range", "offload.release_window=1:2", "--release-window", "3"], ["given already by --release-window"]),
        (["--horizon", "1:2000", "--release-window", "1:2000"], ["4000000 points", "at most 1000000"]),
        (["--jobs", "-2"], ["jobs is -2", "(--jobs)"]),
        (["--jobs", "100000"], ["jobs is 100000", "(--jobs)"]),
        (["--backend", "threads"], ["backend is 'threads'", "(--backend)", "loky, dask, ray"]),
        (["--backend", "dask"], ["--scheduler"]),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], ["jobs 2 has no effect"]),
        (["--scheduler", "tcp://127.0.0.1:1"], ["needs a cluster"]),
        (["--fresh"], ["--fresh", "-o DIR"]),
    ],
)
def test_bad_usage_is_one_line(options: list[str], says: list[str], capsys: Captured) -> None:
    assert run(["sweep", "uniform", *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for part in says:
        assert part in err


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "no address", "http://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("loadahead.sweeps.workers.CONNECT_SECONDS", 0.5)
    assert run(["sweep", "uniform", "--backend", "dask", "--scheduler", address]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert f"scheduler {address}: no Dask scheduler answers there" in error[0]


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_one_line(
    backend: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert run(["sweep", "uniform", "--backend", backend, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: backend {backend} needs the package {package}, which is not installed: "
        f"pip install 'loadahead[{backend}]'"
    )
