"""Uniform models by hand: what stays without checkpointing, and units of a stage that differ."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.kinds.uniform import PER_UNIT
from loadahead.scenarios.loader import load_scenario, scenario_to_dict
from loadahead.scenarios.prepare import Prepared, prepare
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Role
from loadahead.sim.planner import build_plan
from loadahead.sim.step_metrics import RankMetrics

MB = 10**6
MODEL = {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB"}
LINKS = {"d2h": "1 GB/s", "h2d": "1 GB/s"}


def scenario(model: dict[str, Any], checkpoint: bool = True, **parallel: Any) -> dict[str, Any]:
    return {
        "model": MODEL | model,
        "hardware": LINKS,
        "parallel": {"microbatches": 3, "pipeline": "simple"} | parallel,
        "checkpoint": {"enabled": checkpoint},
        "offload": {"offload_activations": False},
    }


def prepared(model: dict[str, Any], checkpoint: bool = True, **parallel: Any) -> tuple[Prepared, Costs]:
    found = prepare(load_scenario(scenario(model, checkpoint, **parallel)))
    assert found.costs is not None
    return found, found.costs


def ranks(model: dict[str, Any], checkpoint: bool = True, **parallel: Any) -> tuple[RankMetrics, ...]:
    found, costs = prepared(model, checkpoint, **parallel)
    return simulate(build_plan(found.workload, found.policy), costs).metrics.ranks


@pytest.mark.parametrize(
    ("keys", "saved", "rest"),
    [
        ({"saved": "5 MB"}, 5, 0),
        ({"workspace_backward": "7 MB"}, 7, 0),
        ({"saved": "5 MB", "workspace_backward": "7 MB"}, 5, 2),
        ({"saved": "7 MB", "workspace_backward": "7 MB"}, 7, 0),
        ({"saved": "9 MB", "workspace_backward": "7 MB"}, 9, 0),
        ({"saved": "0 B", "workspace_backward": "7 MB"}, 0, 7),
        ({}, 0, 0),
    ],
)
def test_without_checkpointing_what_is_saved_stays(keys: dict[str, str], saved: int, rest: int) -> None:
    """All three FORWARDs run first: 3 boundaries and 3 times what is saved, beside what BACKWARD needs on top."""
    (rank,) = ranks(keys, checkpoint=False)
    assert rank.peak_device_bytes == (3 * (1 + saved) + rest) * MB
    assert rank.peak_boundary_bytes == 3 * MB


def test_one_f_one_b_keeps_the_graph_of_each_microbatch_in_flight() -> None:
    """Four ranks: rank s has 4-s microbatches in flight, each with a boundary of 1 MB and a graph of 16 MB.

    The first rank holds 68 MB of these at once, where its boundaries and a single graph are 20 MB.
    """
    tables = {"microbatches": 8, "pipeline": "interleaved", "pipeline_parallel_degree": 4}
    found, costs = prepared({"workspace_backward": "16 MB"}, checkpoint=False, **tables)
    plan = build_plan(found.workload, found.policy)
    graphs = plan.buffers.nbytes[plan.buffers.role == Role.WORKSPACE]
    assert graphs.tolist() == [16 * MB] * 32
    for rank in simulate(plan, costs).metrics.ranks:
        in_flight = 4 - rank.rank
        held = in_flight * 17 * MB
        assert held <= rank.peak_device_bytes <= held + 4 * MB, "beside them at most an output and two gradients"


@pytest.mark.parametrize("saved", [None, "0 B", "5 MB", "9 MB"])
def test_with_checkpointing_saved_has_no_effect(saved: str | None) -> None:
    (rank,) = ranks({"workspace_backward": "7 MB"} | ({} if saved is None else {"saved": saved}))
    assert rank.peak_device_bytes == (3 + 7) * MB
    _, costs = prepared({"workspace_backward": "7 MB"} | ({} if saved is None else {"saved": saved}))
    assert costs.units[0][0].workspace_recompute == costs.units[0][0].workspace_backward == 7 * MB


def test_a_list_has_a_value_for_each_unit_of_a_stage() -> None:
    lists = {
        "forward": ["1 ms", 2_000_000],
        "recompute": ["3 ms", "0 ms"],
        "backward": ["4 ms", "5 ms"],
        "boundary": ["6 MB", 7],
        "saved": ["8 B", "9 B"],
        "workspace_forward": [10, 11],
        "workspace_backward": [12, "13 B"],
    }
    assert set(lists) == set(PER_UNIT)
    found, costs = prepared(lists | {"static": "14 B"}, pipeline_parallel_degree=2)
    assert [len(stage) for stage in found.workload.stages] == [2, 2]
    for shapes, units in zip(found.workload.stages, costs.units, strict=True):
        assert [(unit.boundary_bytes, unit.gradient_bytes) for unit in shapes] == [(6 * MB, 6 * MB), (7, 7)]
        assert [(unit.forward_ns, unit.recompute_ns, unit.backward_ns) for unit in units] == [
            (1_000_000, 3_000_000, 4_000_000),
            (2_000_000, 0, 5_000_000),
        ]
        assert [(unit.workspace_forward, unit.workspace_backward) for unit in units] == [(10, 12), (11, 13)]
    assert costs.static_bytes == (14, 14)
    kept, costs = prepared(lists, checkpoint=False)
    assert [unit.saved_bytes for unit in kept.workload.stages[0]] == [8, 9]
    assert [unit.workspace_backward for unit in costs.units[0]] == [4, 4]


def test_each_unit_has_its_own_boundary_in_the_plan() -> None:
    found, costs = prepared({"boundary": ["1 MB", "3 MB", "2 MB"], "forward": ["1 ms", "2 ms", "3 ms"]})
    plan = build_plan(found.workload, found.policy)
    boundaries = plan.buffers.role == Role.BOUNDARY
    by_unit = {
        (int(u), int(n)) for u, n in zip(plan.buffers.unit[boundaries], plan.buffers.nbytes[boundaries], strict=True)
    }
    assert by_unit == {(0, MB), (1, 3 * MB), (2, 2 * MB)}
    timeline = simulate(plan, costs)
    durations = (timeline.end_ns - timeline.start_ns)[plan.ops.kind == Kind.FORWARD]
    assert set(zip(plan.ops.unit[plan.ops.kind == Kind.FORWARD].tolist(), durations.tolist(), strict=True)) == {
        (0, MB),
        (1, 2 * MB),
        (2, 3 * MB),
    }
    # The second BACKWARD finds three microbatches' boundaries but the first one's of 2 MB, and that one's gradient, and
    # writes a gradient of 3 MB.
    assert timeline.metrics.ranks[0].peak_device_bytes == (3 * 6 - 2 + 2 + 3) * MB


@pytest.mark.parametrize("key", PER_UNIT)
def test_equal_values_in_a_list_are_one_value(key: str) -> None:
    value = 5
    assert prepared({key: [value] * 3})[0].workload == prepared({key: value, "units_per_stage": 3})[0].workload
    assert prepared({key: [value] * 3})[1] == prepared({key: value, "units_per_stage": 3})[1]


def test_a_list_survives_the_scenarios_plain_form() -> None:
    given = load_scenario(scenario({"forward": ["1 ms", "2 ms"], "boundary": ["1 MB", "2 MB"]}))
    plain = scenario_to_dict(given)
    assert plain["model"]["forward"] == [1_000_000, 2_000_000] and "units_per_stage" not in plain["model"]
    assert load_scenario(plain).model == given.model
    three = load_scenario(given, {"model.forward": [1, 2, 3], "model.boundary": 1})
    assert [len(stage) for stage in prepare(three).workload.stages] == [3]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"units_per_stage": 3, "forward": ["1 ms", "2 ms"]},
            "scenario: model: forward has 2 values and units_per_stage is 3; give one value per unit of a stage, or a "
            "single one for all",
        ),
        (
            {"forward": ["1 ms", "2 ms"], "saved": [1, 2, 3]},
            "scenario: model: saved has 3 values and forward has 2; give one value per unit of a stage, or a single "
            "one for all",
        ),
        ({"boundary": []}, "scenario: model.boundary = []: it must have at least one value; give one value per unit"),
        ({"boundary": [1, "2 ms"]}, "scenario: model.boundary: value 1: '2 ms' is no size; write a non-negative size"),
        ({"forward": [[1]]}, "scenario: model.forward: value 0: [1] is no duration"),
        ({"saved": True}, "scenario: model.saved: True is no size"),
        ({"static": [1, 2]}, "scenario: model.static: [1, 2] is no size"),
        ({"backward_input": [1, 2]}, "scenario: model.backward_input: [1, 2] is no duration"),
        ({"save": 1}, "scenario: model.save: is not a key of a scenario; did you mean saved?"),
    ],
)
def test_lists_that_do_not_fit(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(scenario(keys))
    assert str(caught.value).startswith(says)
