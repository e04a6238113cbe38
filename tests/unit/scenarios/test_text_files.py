"""Files that are no text that is meant are told as what they are, and none is read without end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from loadahead.cli.main import run
from loadahead.plan_files import is_plan_file, read_plan
from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.scenarios.smp.reading import is_options_file
from loadahead.scenarios.text_files import read_at_most
from loadahead.sim.errors import InputError

OPTIONS = '{"microbatches": 4, "partitions": 2}'
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4}'
AS_PYTHON = "is a notebook; save it as a Python file (jupyter nbconvert --to script)"
AS_UTF8 = "is text in UTF-16, as some editors write it; save it as UTF-8"
GIVE = "give a plan file, or SageMaker's options in JSON"


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.json", OPTIONS.encode("utf-16"), AS_UTF8),
        ("a.json", OPTIONS.encode("utf-16-le"), AS_UTF8),
        ("a.json", b" \n", f"is empty; {GIVE}"),
        ("a.json", b"[]", f"holds no JSON object; {GIVE}"),
        ("a.json", b"{}", "format: is missing; it is required"),
        ("a.json", NOTEBOOK.encode(), AS_PYTHON),
        ("a.ipynb", NOTEBOOK.encode(), AS_PYTHON),
        (
            "a.json",
            b'{"microbatchs": 4}',
            "'microbatchs' is a key neither of a plan nor of SageMaker's options; did you mean microbatches?",
        ),
        ("a.json", b'{"zzz": 4}', f"'zzz' is a key neither of a plan nor of SageMaker's options; {GIVE}"),
        (
            "a.json",
            OPTIONS.encode(),
            "holds SageMaker's options and no plan; plan them first, as any scenario",
        ),
        (
            "a.json",
            b'{"model": {}}',
            "is JSON and model is a key of a scenario, which is a TOML file; write it as TOML, with tables such as ",
        ),
        # One that is meant as a plan is told as that.
        ("a.json", b'{"formt": 1, "ops": []}', "formt: is not a key of a plan file; did you mean format?"),
    ],
)
def test_json_that_is_neither_a_plan_nor_options(tmp_path: Path, name: str, data: bytes, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {line}')}"):
        read_plan(path)


@pytest.mark.parametrize("name", ["a.py", "a.json", "a.toml"])
@pytest.mark.parametrize(("data", "line"), [(b"", "is empty; "), ("x = 1".encode("utf-16"), AS_UTF8)])
def test_options_and_scenarios(tmp_path: Path, name: str, data: bytes, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for read in (options_file, load_scenario) if name != "a.json" else (options_file,):
        with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {line}')}"):
            read(path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for, and a device read without end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(InputError, match="not a regular file"):
            options_file(path)
        with pytest.raises(InputError, match="not a regular file"):
            load_scenario(path)
        assert not is_options_file(path) and not is_plan_file(path)
    with pytest.raises(InputError, match="Is a directory"):
        options_file(tmp_path)


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"12345")
    assert [read_at_most(path, most) for most in (3, 4, 9, None)] == [b"1234", b"12345", b"12345", b"12345"]


@pytest.mark.parametrize(("before", "is_told"), [(None, False), ("ours", False), ("mine = 1", True), ("", True)])
def test_a_file_that_is_not_ours_is_told_when_it_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str | None, is_told: bool
) -> None:
    given, out = tmp_path / "a.json", tmp_path / "out.toml"
    given.write_text(OPTIONS)
    command = ["import-smp", str(given), "-o", str(out)]
    if before == "ours":
        assert run(command) == 0
        capsys.readouterr()
    elif before is not None:
        out.write_text(before)
    assert run(command) == 0
    told = f"{out}: is not a scenario that import-smp wrote, and is replaced"
    assert (told in capsys.readouterr().err.splitlines()) == is_told
    assert load_scenario(out).parallel.microbatches == 4
