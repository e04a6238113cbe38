"""A model that prints, in whatever way and whenever, does not spoil --json; without --json nothing is moved."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import loadahead
from loadahead.cli.main import app, run

ROOT = Path(loadahead.__file__).parents[1]
MODEL = """
import atexit, os, sys
from torch import nn

print("import-print")
os.write(1, b"import-write\\n")
atexit.register(print, "exit-print")
atexit.register(os.write, 1, b"exit-write\\n")
KEPT = sys.stdout


class Loud(nn.Linear):
    def forward(self, x):
        print("forward-print")
        KEPT.write("forward-kept\\n")
        sys.__stdout__.write("forward-own\\n")
        os.write(1, b"forward-write\\n")
        return super().forward(x)


def build():
    os.system("echo build-child")
    return nn.Sequential(Loud(4, 4), Loud(4, 4))


def data(step, microbatch, microbatches):
    import torch

    print("data-print")
    return torch.ones(2, 4), torch.zeros(())
"""
SCENARIO = """
[model]
kind = "module"
python = "loud:build"
data = "loud:data"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
memory = "64 MiB"
[parallel]
microbatches = 2
"""
LOUD = {"import-print", "import-write", "exit-print", "exit-write", "build-child", "data-print"}
LOUD |= {f"forward-{how}" for how in ("print", "kept", "own", "write")}
COMMANDS = {
    "plan": ["plan", "loud.toml"],
    "sweep": ["sweep", "loud.toml", "--horizon", "1,2", "--microbatches", "1,2"],
    "execute": ["execute", "loud.toml", "--steps", "2", "-o", "out"],
    "demo": ["demo", "loud.toml", "--horizons", "1", "--microbatches", "2", "--steps", "2", "-o", "demo"],
}
SIMULATE = ["simulate", "loud.toml"]
AT_EXIT = {"exit-print", "exit-write"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loud.py").write_text(MODEL)
    (tmp_path / "loud.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_a_process(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadahead", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def here(folder: Path) -> Path:
    """A folder whose model does nothing when the process ends, which is that of the tests."""
    lines = [line for line in MODEL.splitlines() if not line.startswith("atexit")]
    (folder / "loud.py").write_text("\n".join(lines))
    return folder


def test_every_command_keeps_its_object_alone() -> None:
    """The others do so as those below do: they have the same option."""
    from typer.main import get_command

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        (option,) = [parameter for parameter in command.params if "--json" in parameter.opts]
        assert option.callback is not None, name


@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_process_of_its_own(folder: Path, command: str) -> None:
    done = in_a_process(folder, [*COMMANDS[command], "--json"])
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert set(done.stderr.split()) >= LOUD


def test_without_json_all_stays_where_it_was(folder: Path) -> None:
    done = in_a_process(folder, SIMULATE)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= LOUD and not set(done.stderr.split()) & LOUD
    assert "one step takes" in done.stdout


def test_a_failure_has_its_object_and_its_line(folder: Path) -> None:
    (folder / "loud.py").write_text(MODEL.replace("return super().forward(x)", "raise ValueError('no more')"))
    done = in_a_process(folder, [*COMMANDS["execute"], "--json"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "no more" in done.stderr and "Traceback" not in done.stderr


def test_help_is_no_result(folder: Path) -> None:
    done = in_a_process(folder, ["plan", "--json", "--help"])
    assert done.returncode == 0 and done.stdout.startswith("Usage:")


def test_in_this_process_captured_as_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    assert run([*SIMULATE, "--json"]) == 0
    out, err = capsys.readouterr()
    assert isinstance(json.loads(out), dict)
    assert sys.stdout is before and {"import-print", "forward-print", "data-print"} <= set(err.split())
    print("mine")
    assert capsys.readouterr().out == "mine\n"


def test_in_this_process_captured_as_bytes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*SIMULATE, "--json"]) == 0
    out, err = capfd.readouterr()
    assert isinstance(json.loads(out), dict)
    assert set(err.split()) >= LOUD - AT_EXIT - {"forward-own"}
    os.write(1, b"mine\n")
    assert capfd.readouterr().out == "mine\n"


def test_in_this_process_redirected(here: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*COMMANDS["plan"], "--json"]) == 0
    assert isinstance(json.loads(out.getvalue()), dict)
    assert "data-print" in err.getvalue()


def test_all_is_put_back_after_an_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    assert run(["plan", "nowhere.toml", "--json"]) == 2
    assert sys.stdout is before
    os.write(1, b"mine\n")
    out, err = capfd.readouterr()
    assert out == "mine\n" and err.startswith("error: nowhere.toml")


@pytest.mark.parametrize("microbatches", ["2", "500"])
@pytest.mark.parametrize("json_wanted", [[], ["--json"]])
def test_a_reader_that_has_gone(folder: Path, microbatches: str, json_wanted: list[str]) -> None:
    """As in `| head -1`: what is printed in one piece and what is not end alike."""
    words = [sys.executable, "-m", "loadahead", "show", "uniform", "--set", f"parallel.microbatches={microbatches}"]
    process = subprocess.Popen(
        [*words, *json_wanted],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (141, b"")
