"""Names of metrics stand in sim/step_metrics.py alone, names of a run directory's files in reports/run_directory.py."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import loadahead
from loadahead.reports import run_directory
from loadahead.sim.step_metrics import RankMetrics, StepMetrics, SweepRow
from loadahead.sim.timeline import MemorySamples
from tests.support.sources import texts

ROOT = Path(loadahead.__file__).parent
METRICS_HOME, FILES_HOME = "sim/step_metrics.py", "reports/run_directory.py"
# A sample of a timeline has a column of this name, which is another thing: what one rank's slots hold at that time.
OTHERS = frozenset(field.name for field in fields(MemorySamples))
METRICS = frozenset(
    field.name
    for results in (RankMetrics, StepMetrics, SweepRow)
    for field in fields(results)
    if field.name.endswith(("_ns", "_bytes")) and field.name not in OTHERS
)
FILES = frozenset(value for name, value in vars(run_directory).items() if name.isupper() and isinstance(value, str))
# By module and name, why it stands there too.
ALLOWED = {
    ("cli/commands/sweep.py", run_directory.SWEEP_CSV): "a help text is made before reports may be imported",
    ("cli/commands/sweep.py", run_directory.SWEEP_PARQUET): "a help text is made before reports may be imported",
    ("cli/commands/sweep.py", run_directory.SWEEP_FACTS): "a help text is made before reports may be imported",
}


def modules() -> Iterator[Path]:
    """Yield every module of ours; the folders that are links are followed."""
    for folder, _, names in os.walk(ROOT, followlinks=True):
        yield from (Path(folder) / name for name in sorted(names) if name.endswith(".py"))


def built(tree: ast.Module) -> Iterator[tuple[int, re.Pattern[str]]]:
    """Yield line and pattern of every f-string that has some text of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.Constant) for part in node.values):
            parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in node.values)
            yield node.lineno, re.compile("".join(parts), re.DOTALL)


def metrics_in(source: str) -> list[tuple[int, str]]:
    """Return the lines at which a metric's name is written or built, with the name."""
    tree = ast.parse(source)
    found = [(line, text) for line, text in texts(tree) if text in METRICS]
    return found + [(line, name) for line, pattern in built(tree) for name in METRICS if pattern.fullmatch(name)]


def files_in(source: str) -> list[tuple[int, str]]:
    """Return the lines at which a file of a run directory is named, in a text too, with its name."""
    return [(line, name) for line, text in texts(ast.parse(source)) for name in FILES if names_file(text, name)]


def names_file(text: str, name: str) -> bool:
    # A folder's name is a word like others: only on its own it is meant.
    return text == name if "." not in name else bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text))


def found_in(path: Path) -> list[tuple[int, str]]:
    module, source = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    found = [] if module == METRICS_HOME else metrics_in(source)
    return found + ([] if module == FILES_HOME else files_in(source))


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_name_is_written_once(path: Path) -> None:
    module = str(path.relative_to(ROOT))
    assert [(line, name) for line, name in found_in(path) if (module, name) not in ALLOWED] == []


@pytest.mark.parametrize(("module", "name"), ALLOWED, ids=str)
def test_what_is_allowed_is_needed(module: str, name: str) -> None:
    assert name in {found for _, found in found_in(ROOT / module)}


def test_every_module_is_read() -> None:
    read = {str(path.relative_to(ROOT)) for path in modules()}
    homes = {METRICS_HOME, FILES_HOME}
    assert homes | {"api.py", "cli/texts.py", "executor/training/results.py", "scenarios/loader.py"} <= read
    assert {"step_time_ns", "peak_device_bytes", "stall_recv_ns", "idle_ns"} <= METRICS
    assert {"plan.json", "sweep.journal", "evidence.md", "figures"} <= FILES


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ('x = row["step_time_ns"]', "step_time_ns"),
        ('KEYS = ("rank", "copy_ns")', "copy_ns"),
        ('x = getattr(row, "peak_host_bytes", 0)', "peak_host_bytes"),
        ('x = row[f"stall_{stall}_ns"]', "stall_release_ns"),
        ('x = row[f"peak_{where}_bytes"]', "peak_device_bytes"),
        ('def f():\n    """Docs."""\n    return "idle_ns"', "idle_ns"),
    ],
)
def test_a_planted_metric_is_found(planted: str, name: str) -> None:
    assert name in {found for _, found in metrics_in(planted)}


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ('x = root / "plan.json"', "plan.json"),
        ('x = f"{root}/result.json: loss"', "result.json"),
        ('raise InputError("it has no sweep.csv.")', "sweep.csv"),
        ('x = root / "figures"', "figures"),
    ],
)
def test_a_planted_file_is_found(planted: str, name: str) -> None:
    assert {found for _, found in files_in(planted)} == {name}


@pytest.mark.parametrize(
    "harmless",
    [
        '"""Reads step_time_ns of plan.json."""',
        'def f():\n    """step_time_ns"""',
        "x = row.step_time_ns",
        'x = f"{row.step_time_ns} ns"',
        'x = "a text about step_time_ns and figures"',
        'x = "own-plan.json"',
        'x = f"{name}"',
    ],
)
def test_what_is_no_name_is_left_alone(harmless: str) -> None:
    assert metrics_in(harmless) + files_in(harmless) == []
