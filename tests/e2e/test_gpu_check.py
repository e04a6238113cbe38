"""`.ci/gpu-check` from another folder, without network: time plan, exit status, and the files that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadahead.reports.run_directory import EVIDENCE, VALIDATION_JOURNAL
from loadahead.validation.estimate import estimate
from loadahead.validation.grids import GRIDS

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests/support/stand_in_gpu"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}


def check(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci/gpu-check", *arguments],
        cwd=folder,
        env=os.environ | PROXIES | {"GPU_PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def seconds(text: str, half: str) -> dict[str, int]:
    rows = [line.split() for line in text.splitlines() if line.split()[0] == half]
    return {" ".join(row[1 : row.index("s") - 1]): int(row[row.index("s") - 1]) for row in rows}


def test_the_time_plan_of_both_halves_fits(tmp_path: Path) -> None:
    done = check(tmp_path, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    parts, grid = seconds(done.stdout, "validate"), estimate(GRIDS["gpu"])
    for name, own in (("calibrations", grid.calibrations), ("runs", grid.configurations), ("peers", grid.peers)):
        assert parts[name] == round(own)
    for half in ("tests", "validate"):
        found = seconds(done.stdout, half)
        together = found.pop("together")
        assert abs(sum(found.values()) - together) <= len(found)  # each is rounded
        assert together <= 560
    assert not list(tmp_path.iterdir())


def test_a_half_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("")
    without = check(tmp_path, "tests", "--dry-run", LIMIT="100")
    assert without.returncode == 1
    assert "of 100 s: does not fit" in without.stdout and "validate" not in without.stdout
    probed = check(tmp_path, "tests", "--dry-run", LIMIT="100", PROBE="probe.py")
    assert set(seconds(probed.stdout, "tests")) - set(seconds(without.stdout, "tests")) == {"probe"}


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["peers"], {}, "gpu-check takes tests, validate and --dry-run, and got peers"),
        ([], {"LIMIT": "-5"}, "LIMIT is -5; it must be whole seconds"),
        ([], {"LIMIT": "9m"}, "LIMIT is 9m; it must be whole seconds"),
        ([], {"PROBE": "none.py"}, "none.py, which is no file; name a Python script"),
    ],
)
def test_bad_settings_are_one_line(
    arguments: list[str], environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    done = check(tmp_path, *arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and says in done.stderr


def test_the_second_half_on_the_stand_in(tmp_path: Path) -> None:
    """From another folder, with paths of that folder, and every connection refused."""
    out, folder = tmp_path / "out", tmp_path / "here"
    folder.mkdir()
    done = check(folder, "validate", OUT="../out", PYTHONPATH=os.path.relpath(STAND_IN, folder))
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.name for path in out.iterdir()}
    assert {"validate.log", VALIDATION_JOURNAL, EVIDENCE} <= files and len(files) <= 8 - 1  # one more: tests.log
    assert (out / "validate.log").read_text() == done.stdout
    assert "== validation: exit status 0" in done.stdout
    evidence = json.loads((out / EVIDENCE).read_text())
    assert [one["status"] for one in evidence["configurations"]] == ["measured"] * 2
    assert evidence["machine"]["gpu"] == "stand-in" and 500 < evidence["limit_s"] < 560
    assert not list(folder.iterdir())
    again = check(folder, "validate", OUT="../out", PYTHONPATH=str(STAND_IN), LIMIT="100")
    assert again.returncode == 0 and "2 of them were run before" in again.stdout
    assert "== validation: at most 100 s" in again.stdout


def test_a_half_that_is_cut_off_is_a_failure_and_keeps_its_log(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("import time\nprint('looked', flush=True)\ntime.sleep(60)\n")
    done = check(tmp_path, "tests", OUT="out", PROBE="probe.py", LIMIT="3", PYTHONPATH=str(STAND_IN))
    assert done.returncode == 1
    log = (tmp_path / "out/tests.log").read_text()
    assert log == done.stdout
    assert "looked" in log and "== probe: cut off after 3 s" in log
    assert "== GPU tests: not begun, no time is left" in log and ", 0 s left" in log
