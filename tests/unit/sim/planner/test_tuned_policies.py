"""A policy whose decisions tuning makes: what it says of itself, and what a plan of it needs."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.planner import Goal, Policy, build_plan
from loadahead.sim.units import parse_share


def policy(**choices: Any) -> Policy:
    return Policy(microbatches=4, ranks=2, **choices)


def test_what_decides_is_told_where_it_is_tuning_alone() -> None:
    assert policy().to_dict() == policy(decisions="horizon", goal=Goal(memory=5)).to_dict()
    assert not {"decisions", "goal"} & policy().to_dict().keys()
    told = policy(decisions="auto", goal=Goal(boundary_memory=7, within=0.01)).to_dict()
    assert (told["decisions"], told["goal"]) == ("auto", {"boundary_memory": 7, "within": 0.01})


@pytest.mark.parametrize(
    ("choices", "tuned"),
    [
        ({}, False),
        ({"decisions": "auto"}, True),
        ({"decisions": "auto", "offload": False}, False),
        ({"decisions": "auto", "checkpoint": False}, False),
    ],
)
def test_tuning_decides_where_boundaries_may_leave(choices: dict[str, Any], tuned: bool) -> None:
    assert policy(**choices).is_tuned == tuned
    assert policy(**choices).by_horizon() == policy(**{key: choices[key] for key in choices if key != "decisions"})


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"decisions": "best"}, "decisions is 'best'; it must be one of horizon, auto"),
        ({"goal": {"memory": 4}}, "goal is of type dict"),
    ],
)
def test_other_values_are_refused(choices: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        policy(**choices)


@pytest.mark.parametrize(
    ("stated", "says"),
    [({"memory": -1}, "memory is -1"), ({"host_memory": 1.5}, "host_memory is 1.5"), ({"within": 2}, "within is 2")],
)
def test_goals_that_mean_nothing_are_refused(stated: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Goal(**stated)


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), ("1 %", 0.01), ("0.5", 0.5), (0.25, 0.25), (1, 1.0), ("0", 0)]
)
def test_a_share_is_a_number_or_in_percent(text: object, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["101%", "1.5", -0.1, 2, True, "one", "", None, float("nan"), "1e999"])
def test_what_is_no_share_is_refused_in_a_line(text: object) -> None:
    with pytest.raises(InputError, match="write a share from 0 to 1, or in percent") as found:
        parse_share(text)
    assert "\n" not in str(found.value)


def test_a_plan_is_made_of_decisions_that_were_found() -> None:
    prepared = prepare(load_scenario("uniform", {"offload.decisions": "auto", "offload.boundary_memory": "3 MB"}))
    with pytest.raises(InputError, match="a plan is made without; tune it, and give the decisions found"):
        build_plan(prepared.workload, prepared.policy)
    by_horizon = build_plan(prepared.workload, prepared.policy.by_horizon())
    made = Decisions.of(by_horizon)
    plan = build_plan(prepared.workload, prepared.policy, decisions=made, sentence="So it is.")
    assert plan.sentence == "So it is."
    assert plan.policy["goal"] == {"boundary_memory": 3_000_000} and "horizon" not in plan.policy
    assert plan.policy["kept_because"] == {"decisions_tuned": made.kept}
    assert list(Decisions.of(plan).rows()) == list(made.rows())
