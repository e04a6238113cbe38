"""A horizon that nobody stated is its unit's default: 4 tasks as in smp v1, 2 layers as in SMP v2 (DESIGN, 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import loadahead as la
from loadahead.sim.errors import InputError
from loadahead.sim.planner import Policy

DEFAULTS = {"tasks": 4, "layers": 2}


def policy(**choices: Any) -> Policy:
    return Policy(microbatches=8, ranks=1, **choices)


@pytest.mark.parametrize("unit", DEFAULTS)
def test_a_policy_without_a_horizon_has_its_units(unit: str) -> None:
    made = policy(horizon_unit=unit)
    assert made.horizon == DEFAULTS[unit]
    assert made == policy(horizon_unit=unit, horizon=DEFAULTS[unit])
    assert made.to_dict() == policy(horizon_unit=unit, horizon=DEFAULTS[unit]).to_dict()


def test_a_policy_without_a_unit_has_tasks() -> None:
    assert (policy().horizon, policy().horizon_unit) == (4, "tasks")


@pytest.mark.parametrize("horizon", [0, -1, True, 2.0, "4"])
def test_what_is_no_horizon_is_refused(horizon: object) -> None:
    with pytest.raises(InputError, match="activation_loading_horizon is"):
        policy(horizon=horizon)


def test_another_unit_has_another_horizon_unless_it_was_stated() -> None:
    assert policy().choosing(horizon_unit="layers").horizon == 2
    assert policy().choosing(release_window=2).choosing(horizon_unit="layers").horizon == 2
    assert policy(horizon_unit="layers").choosing(horizon_unit="tasks").horizon == 4
    assert policy(horizon=4).choosing(horizon_unit="layers").horizon == 4
    assert policy().choosing(horizon=3).choosing(horizon_unit="layers").horizon == 3
    assert policy().choosing(horizon=4).choosing(horizon_unit="layers").horizon == 4
    assert policy().choosing(horizon_unit="layers", horizon=4).horizon == 4


def test_a_copy_keeps_the_horizon_that_it_is_given() -> None:
    assert replace(policy(), horizon=8).horizon == 8
    assert replace(policy(), microbatches=4).horizon == 4


@pytest.mark.parametrize("unit", DEFAULTS)
def test_a_plan_says_the_horizon_that_was_used(unit: str) -> None:
    made = la.plan("uniform", unstated() | {"offload.horizon_unit": unit})
    stated = la.plan("uniform", {"offload.horizon_unit": unit, "offload.activation_loading_horizon": DEFAULTS[unit]})
    assert (made.policy["horizon"], made.policy["horizon_unit"]) == (DEFAULTS[unit], unit)
    assert "by_default" not in made.policy
    assert list(made) == list(stated)


def unstated() -> dict[str, Any]:
    """Return overrides that leave the shipped scenario's horizon out."""
    return {"offload": {}}


def test_a_sweep_over_units_without_horizons_has_each_ones_own() -> None:
    table = la.sweep("uniform", {"horizon_unit": ["tasks", "layers"]}, overrides=unstated())
    assert [(row["horizon_unit"], row["horizon"]) for row in table.rows] == [("tasks", 4), ("layers", 2)]
    assert table.advice_by_axes == (), "one horizon of each unit says nothing about smaller ones"
    for row in table.rows:
        alone = la.simulate("uniform", unstated() | {"offload.horizon_unit": row["horizon_unit"]})
        assert row["step_time_ns"] == alone.metrics.step_time_ns
        assert row["peak_device_bytes"] == alone.metrics.peak_device_bytes


def test_a_stated_horizon_and_an_axis_of_horizons_stay() -> None:
    units = {"horizon_unit": ["tasks", "layers"]}
    stated = la.sweep("uniform", units, overrides={"offload.activation_loading_horizon": 3})
    assert [row["horizon"] for row in stated.rows] == [3, 3]
    both = la.sweep("uniform", units | {"horizon": [4, 2]}, overrides=unstated())
    assert [(row["horizon_unit"], row["horizon"]) for row in both.rows] == [
        ("tasks", 4), ("tasks", 2), ("layers", 4), ("layers", 2),
    ]  # fmt: skip
