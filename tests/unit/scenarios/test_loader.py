"""Scenario files: names, paths, overrides, defaults, round trips. What is refused: tests/e2e/test_cli_bad_scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadahead.cli.overrides import parse_overrides
from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.loader import load_scenario, scenario_from_dict, scenario_to_dict, shipped_names
from loadahead.scenarios.prepare import needs_shapes, prepare
from loadahead.scenarios.tables import policy_of
from loadahead.sim.errors import InputError

DESIGN = """
name = "two-stage"
[model]
kind = "uniform"
units_per_stage = 1
forward = "1 ms"
recompute = "0 ms"
backward = "2 ms"
boundary = "1 MB"
workspace_forward = "0 B"
workspace_backward = "0 B"
static = "0 B"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
link_latency = "0 us"
p2p = "0 us"
launch = "0 us"
memory = "80 GiB"
[parallel]
microbatches = 8
pipeline_parallel_degree = 4
tensor_parallel_degree = 1
ddp = false
placement_strategy = "cluster"
pipeline = "interleaved"
active_microbatches = 8
[checkpoint]
enabled = true
strategy = "each"
[offload]
offload_activations = true
activation_loading_horizon = 4
horizon_unit = "tasks"
release_window = 1
"""
SHORT = """
[model]
kind = "uniform"
forward = "1 ms"
backward = "2 ms"
boundary = "1 MB"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_designs_scenario_is_read_as_it_stands(tmp_path: Path) -> None:
    found = load_scenario(written(tmp_path, DESIGN))
    assert found.name == "two-stage"
    assert prepare(found).warnings == ()
    shipped = load_scenario("uniform", {"name": "two-stage", "parallel.active_microbatches": 8})
    assert prepare(found).costs == prepare(shipped).costs
    assert prepare(found).policy == prepare(shipped).policy


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    found = load_scenario(written(tmp_path, SHORT))
    assert found.name == "mine"
    policy = policy_of(found.parallel, found.checkpoint, found.offload)
    assert (policy.horizon, policy.horizon_unit, policy.release_window) == (4, "tasks", 1)
    assert (policy.pipeline, policy.microbatches, policy.ranks) == ("interleaved", 1, 1)
    assert policy.checkpoint and policy.offload and policy.active_microbatches is None
    assert found.hardware.links()["memory_bytes"] == 80 * 2**30


def test_partitions_is_the_older_name(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT + "[parallel]\npartitions = 3\n")
    assert load_scenario(path).parallel.pipeline_parallel_degree == 3
    for key in ("partitions", "pipeline_parallel_degree"):
        assert load_scenario(path, {f"parallel.{key}": 2}).parallel.pipeline_parallel_degree == 2


def test_overrides_are_toml_or_else_text(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT)
    texts = ["parallel.microbatches=6", "parallel.pipeline=gpipe", 'hardware.d2h="3 GB/s"', "hardware.h2d=4 GB/s"]
    found = load_scenario(path, parse_overrides(texts))
    assert (found.parallel.microbatches, found.parallel.pipeline) == (6, "gpipe")
    assert (found.hardware.d2h, found.hardware.h2d) == (3 * 10**9, 4 * 10**9)


@pytest.mark.parametrize("name", shipped_names())
def test_a_scenario_survives_a_plans_policy(name: str) -> None:
    found = load_scenario(name)
    again = scenario_from_dict(json.loads(json.dumps(scenario_to_dict(found))), "policy")
    assert again == found
    assert again.offload.model_fields_set == found.offload.model_fields_set


def test_a_file_is_found_by_its_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, SHORT, "demo.toml")
    written(tmp_path, SHORT, "plain")
    monkeypatch.chdir(tmp_path)
    assert needs_shapes(load_scenario("demo"))
    assert not needs_shapes(load_scenario("demo.toml"))
    assert load_scenario("plain").name == "plain"


@pytest.mark.parametrize("preset", ACCELERATORS)
def test_hardware_presets_and_their_replacement(preset: str, tmp_path: Path) -> None:
    path = written(tmp_path, SHORT.replace('d2h = "1 GB/s"', "").replace('h2d = "1 GB/s"', f'preset = "{preset}"'))
    links = load_scenario(path, {"hardware.h2d": "5 GB/s", "hardware.memory": "1 GiB"}).hardware.links()
    assert links["d2h_bandwidth"] == ACCELERATORS[preset].d2h
    assert (links["h2d_bandwidth"], links["memory_bytes"]) == (5 * 10**9, 2**30)
    assert ACCELERATORS[preset].sources


def test_a_modules_files_are_looked_for_beside_its_scenario(tmp_path: Path) -> None:
    head = '[model]\nkind = "module"\npython = "their_model:make"\n'
    tail = '[hardware]\nd2h = "1 GB/s"\nh2d = "1 GB/s"\n'
    beside = scenario_to_dict(load_scenario(written(tmp_path, head + tail)))
    assert beside["model"]["search_path"] == str(tmp_path.resolve())
    below = scenario_to_dict(load_scenario(written(tmp_path, f'{head}search_path = "src"\n{tail}')))
    assert below["model"]["search_path"] == str((tmp_path / "src").resolve())
    assert "search_path" not in scenario_to_dict(load_scenario("demo"))["model"]


def test_a_costs_file_is_looked_for_beside_its_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "mine.toml").write_text('costs = "costs.json"\n' + DESIGN)
    scenario = load_scenario(str(folder / "mine.toml"))
    assert scenario.costs == str(folder / "costs.json")
    assert scenario_from_dict(scenario_to_dict(scenario), "a plan") == scenario
    assert load_scenario("uniform").costs is None


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 1000001 bytes; a scenario is a TOML file of at most 1000000"):
        load_scenario(written(tmp_path, "#" * 1_000_001))
