"""Options in JSON files, and that these are taken for neither plans nor scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.plan_files import is_plan_file
from loadahead.scenarios.loader import load_scenario
from loadahead.sim.errors import InputError
from tests.unit.scenarios.smp.examples import JSON, OPTIONS


def written(folder: Path, content: Any, name: str = "smp.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["smp.json", "options", "smp.txt"])
def test_a_file_of_options_is_no_plan(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, JSON, name)
    assert not is_plan_file(path)
    assert load_scenario(path) == load_scenario(OPTIONS, {"name": path.stem})
    # Every function goes by the same loader.
    assert la.simulate(path).metrics == la.simulate(load_scenario(OPTIONS)).metrics


def test_a_mark_of_the_byte_order_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "smp.json"
    path.write_text(JSON, encoding="utf-8-sig")
    assert load_scenario(path).parallel.data_parallel_degree == 2


def test_json_copied_from_a_web_page(tmp_path: Path) -> None:
    path = written(tmp_path, JSON.replace(": ", ":\u00a0"))
    assert load_scenario(path).parallel.data_parallel_degree == 2


def test_a_plan_stays_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    from loadahead.plan_files import write_plan

    write_plan(la.plan(OPTIONS), path)
    assert is_plan_file(path)
    assert la.simulate(path).metrics == la.simulate(OPTIONS).metrics
    # As others may write it: with other keys in front.
    content = json.loads(path.read_text())
    assert is_plan_file(written(tmp_path, dict(reversed(content.items())), "reversed.json"))


@pytest.mark.parametrize("content", ["{}", '{"ops": []}', "[1]", "nothing", "{'a'"])
def test_json_that_is_neither_is_told_as_a_plan(tmp_path: Path, content: str) -> None:
    assert is_plan_file(written(tmp_path, content))


def test_options_that_are_no_whole_json_are_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, JSON[:-2])
    assert not is_plan_file(path)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path} line 1: is not JSON (Expecting ',' delimiter); give SageMaker's options as JSON, or the Python file "
        "that has them, whose name ends with .py"
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.json: cannot be read as a plan file"):
        la.simulate(tmp_path / "no.json")
    with pytest.raises(InputError, match=r"no\.py: cannot be read"):
        la.simulate(tmp_path / "no.py")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, f'{{"partitions": 2, "memory_weight": {number}}}')
    with pytest.raises(InputError, match=r"memory_weight is .*; it must be a number from 0 to 1"):
        load_scenario(path)


def test_a_text_that_no_terminal_can_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, '{"partitions": 2, "partition_file": "\\ud800\\u0007"}')
    assert run(["import-smp", str(path)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "partition_file" in line)
    assert row.encode()


def test_a_module_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    overrides = {"model.kind": "module", "model.python": "mine:make"}
    scenario = load_scenario(written(tmp_path, OPTIONS), overrides)
    assert scenario.model.search_path == str(tmp_path.resolve())  # type: ignore[attr-defined]
