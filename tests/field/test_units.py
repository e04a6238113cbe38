"""Quantities as people write them (torchtune issues 1346 and 1348; hf-mem issue 33, GB against GiB)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadahead.cli.main import run

Captured = pytest.CaptureFixture[str]
SCENARIO = """
name = "u"
[model]
kind = "uniform"
units_per_stage = 2
forward = "1 ms"
backward = "2 ms"
recompute = "1 ms"
boundary = "64 MiB"
static = "0 B"
[hardware]
d2h = "32 GB/s"
h2d = "32 GB/s"
memory = "80 GB"
[parallel]
microbatches = 8
pipeline_parallel_degree = 2
pipeline = "1f1b"
[offload]
activation_loading_horizon = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    return path


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ('hardware.d2h="32 Gb/s"', "bits are not taken: 32 Gbit/s is 4 GB/s"),
        ('hardware.d2h="256 Gbit/s"', "bits are not taken: 256 Gbit/s is 32 GB/s"),
        ('hardware.d2h="32 GBps"', "did you mean 32 GB/s?"),
        ('hardware.d2h="32 gb/s"', "did you mean 32 GB/s?"),
        ('hardware.d2h="32"', 'write e.g. "32 GB/s"'),
        ("hardware.d2h=32.5", "a bare number must be whole, as it counts B/s"),
        ('hardware.memory="80 gib"', "did you mean 80 GiB?"),
        ('hardware.memory="80G"', "did you mean 80 GB or 80 GiB?"),
        ('model.forward="1 m"', "did you mean 1 ms or 1 min?"),
    ],
)
def test_what_is_refused_is_told_in_a_line(override: str, words: str, path: Path, capsys: Captured) -> None:
    assert run(["simulate", str(path), "--set", override]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {path}: {override.partition('=')[0]}: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "warning"),
    [
        ("hardware.d2h=32", 'hardware.d2h = 32 was taken for 32 bytes per second; write the unit, e.g. "32 GB/s"'),
        ("hardware.memory=80", 'hardware.memory = 80 was taken for 80 bytes; write the unit, e.g. "80 GB"'),
    ],
)
def test_a_bare_number_is_taken_with_a_warning(override: str, warning: str, path: Path, capsys: Captured) -> None:
    assert run(["simulate", str(path), "--set", override]) == 0
    assert f"warning: {warning}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "capacity"),
    [
        ('hardware.memory="80 GB"', 80_000_000_000),
        ('hardware.memory="80 GiB"', 85_899_345_920),
        ('hardware.d2h="32 GiB/s"', 80_000_000_000),
        ('model.boundary="0.5 MB"', 80_000_000_000),
        ('model.boundary="1.5 B"', 80_000_000_000),
        ('model.forward="1ms"', 80_000_000_000),
        ("model.forward=1", 80_000_000_000),
        ("model.forward=1e6", 80_000_000_000),
    ],
)
def test_gb_and_gib_differ(override: str, capacity: int, path: Path, capsys: Captured) -> None:
    assert run(["simulate", str(path), "--set", override, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["capacity_bytes"] == capacity
    assert found["warnings"] == []
