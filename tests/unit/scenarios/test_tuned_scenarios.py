"""The keys of [offload] that say that tuning decides, and what it is to reach."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.loader import load_scenario, scenario_from_dict, scenario_to_dict
from loadahead.scenarios.prepare import prepare
from loadahead.sim.planner import Goal

AUTO = {"offload.decisions": "auto"}


def test_the_keys_are_a_policy_s_goal_and_round_trip() -> None:
    keys = {"memory": "60 GiB", "boundary_memory": "5 MB", "host_memory": "1 TiB", "within": "1 %"}
    scenario = load_scenario("uniform", AUTO | {f"offload.{key}": value for key, value in keys.items()})
    policy = prepare(scenario).policy
    assert policy.is_tuned
    assert policy.goal == Goal(memory=60 * 2**30, boundary_memory=5_000_000, host_memory=2**40, within=0.01)
    told = scenario_to_dict(scenario)
    assert told["offload"]["memory"] == f"{60 * 2**30} B" and told["offload"]["within"] == 0.01
    assert scenario_from_dict(told, "echo") == scenario


def test_nothing_of_it_is_told_where_nothing_is_written() -> None:
    assert not {"decisions", "memory", "within"} & scenario_to_dict(load_scenario("uniform"))["offload"].keys()
    assert prepare(load_scenario("uniform")).policy.goal == Goal()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (AUTO | {"offload.memory": "1 GiB"}, ""),
        (
            {"offload.memory": "1 GiB"},
            'offload.memory has no effect: a horizon decides; set offload.decisions to "auto"',
        ),
        (
            {"offload.memory": "1 GiB", "offload.within": 0.01},
            "offload.memory, offload.within have no effect: a horizon decides",
        ),
        (
            AUTO | {"offload.release_window": 2},
            'offload.release_window has no effect: offload.decisions is "auto", and tuning chooses when',
        ),
        (
            AUTO | {"offload.activation_loading_horizon": 2, "offload.horizon_unit": "layers"},
            "offload.activation_loading_horizon, offload.horizon_unit have no effect",
        ),
        (
            AUTO | {"checkpoint.enabled": False},
            'offload.decisions = "auto" has no effect: without activation checkpointing',
        ),
        (
            AUTO | {"offload.offload_activations": False},
            'offload.decisions = "auto" has no effect: offload.offload_activations is false',
        ),
        (AUTO | {"parallel.microbatches": 1}, ""),
        (AUTO | {"offload.memory": "80 GiB"}, ""),
        (
            AUTO | {"offload.memory": "100 GiB"},
            "offload.memory is 100 GiB and a GPU has 80 GiB: a plan that keeps it may not fit",
        ),
        (
            AUTO | {"offload.host_memory": "2 TiB", "hardware.host_memory": "1 TiB"},
            "offload.host_memory is 2 TiB and a host has 1 TiB: a plan that keeps it may not fit",
        ),
    ],
)
def test_keys_without_effect_are_told(overrides: dict[str, Any], says: str) -> None:
    tables = scenario_to_dict(load_scenario("uniform"))
    # The file's own horizon would be told of beside the key that is looked at.
    tables["offload"] = {}
    warnings = prepare(load_scenario(tables, overrides)).warnings
    assert len(warnings) == (1 if says else 0)
    assert says in "".join(warnings)
