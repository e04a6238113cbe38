"""Scenarios prepared one after another: what they agree on is one object, and all is as if each were prepared alone."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from loadahead.scenarios.kept import Kept
from loadahead.scenarios.loader import load_scenario, scenario_file
from loadahead.scenarios.prepare import Preparation, Prepared, prepare
from loadahead.scenarios.variants import Variants
from loadahead.sim.costs import Costs
from loadahead.sim.workload import Dealt, LayerShape, ModuleShapes, distinct_units

GPT: dict[str, Any] = {
    "model": {"kind": "transformer", "layers": 6, "hidden": 16, "heads": 4, "sequence": 8, "vocabulary": 50},
    "hardware": {"d2h": "2 GB/s", "h2d": "1 GB/s", "flops": 10**9, "memory_bandwidth": "1 GB/s"},
    "parallel": {"pipeline_parallel_degree": 2, "microbatches": 4},
}
MODULE = {"model": {"kind": "module", "python": "a.b:c"}, "hardware": {"d2h": "2 GB/s", "h2d": "1 GB/s"}}


def costs_of(prepared: Prepared) -> Costs:
    assert prepared.costs is not None
    return prepared.costs


def prepared(source: Any, key: str, values: list[Any]) -> list[Prepared]:
    """Prepare the scenario with each value of the key, twice over, and compare each with one prepared alone."""
    variants, preparation = Variants(scenario_file(source), {}, [(key, values)]), Preparation()
    out = [preparation.prepare(variants.scenario([place])) for place in range(len(values))]
    again = [preparation.prepare(variants.scenario([place])) for place in range(len(values))]
    alone = [prepare(load_scenario(source, {key: value})) for value in values]
    assert out == again == alone
    assert all(costs_of(a) is costs_of(b) for a, b in zip(out, again, strict=True))
    assert [costs_of(a).model_fields_set for a in out] == [costs_of(a).model_fields_set for a in alone]
    return out


@pytest.mark.parametrize(
    ("key", "values", "field"),
    [
        ("hardware.d2h", ["3 GB/s", "4 GB/s"], "d2h_bandwidth"),
        ("hardware.memory", ["1 GB", "2 GB"], "memory_bytes"),
        ("hardware.launch", [1, 2], "launch_ns"),
        ("hardware.launch_by_kind.FORWARD", [1, 2], "launch_by_kind"),
        ("hardware.duplex", ["1 GB/s", "2 GB/s"], "shared"),
    ],
)
def test_links_leave_the_models_parts_as_they_are(key: str, values: list[Any], field: str) -> None:
    one, other = prepared(GPT, key, values)
    assert getattr(costs_of(one), field) != getattr(costs_of(other), field)
    assert one.workload is other.workload
    for name in ("units", "static_bytes", "optimizer_ns"):
        assert getattr(costs_of(one), name) is getattr(costs_of(other), name)


@pytest.mark.parametrize("key", ["parallel.microbatches", "jitter.seed", "offload.offload_activations"])
def test_other_tables_leave_the_costs_as_they_are(key: str) -> None:
    values = [True, False] if "activations" in key else [2, 3]
    one, other = prepared(GPT, key, values)
    assert one.workload is other.workload and costs_of(one) is costs_of(other)


def test_a_faster_gpu_has_the_same_workload_and_other_costs() -> None:
    one, other = prepared(GPT, "hardware.flops", [10**9, 10**10])
    assert one.workload is other.workload
    assert costs_of(one).units != costs_of(other).units
    assert costs_of(one).static_bytes == costs_of(other).static_bytes


def test_units_that_are_equal_are_one_object() -> None:
    one, other = prepared(GPT, "model.microbatch_size", [1, 2])
    for made in (one, other):
        shapes = [unit for stage in made.workload.stages for unit in stage]
        costs = [unit for stage in costs_of(made).units for unit in stage]
        assert len(shapes) == len(costs) == 8
        assert len({id(unit) for unit in shapes}) == len(set(shapes)) == 3
        assert len({id(unit) for unit in costs}) == len(set(costs)) == 3
    assert one.workload != other.workload


def test_a_uniform_models_units_are_equal_and_few_objects() -> None:
    (made,) = prepared("uniform", "model.units_per_stage", [30])
    for stages in (made.workload.stages, costs_of(made).units):
        units = [unit for stage in stages for unit in stage]
        assert len(set(units)) == 1 and len({id(unit) for unit in units}) == 2  # a stage's first, and the others


@pytest.mark.parametrize("source", [GPT, "uniform", GPT | {"checkpoint": {"strategy": "group_3"}}])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_stages_remember_their_different_units(source: Any, stages: int) -> None:
    made = prepare(load_scenario(source), stages=stages)
    for each in (made.workload.stages, costs_of(made).units):
        assert isinstance(each, Dealt) and len(each) == stages
        for same in (each, pickle.loads(pickle.dumps(each)), tuple(each)):
            distinct, of_unit = distinct_units(same)
            assert [distinct[unit] for unit in of_unit] == [unit for stage in each for unit in stage]


def test_equal_parts_of_models_that_differ_are_one_object() -> None:
    one, other = prepared("uniform", "model.boundary", ["1 MB", "2 MB"])
    assert one.workload != other.workload and costs_of(one).units is costs_of(other).units
    one, other = prepared("uniform", "model.forward", ["1 ms", "2 ms"])
    assert one.workload is other.workload and costs_of(one).units != costs_of(other).units


def test_stages_and_checkpointing_are_told_apart() -> None:
    scenario, preparation = load_scenario(GPT), Preparation()
    assert len(preparation.prepare(scenario).workload.stages) == 2
    assert len(preparation.prepare(scenario, stages=4).workload.stages) == 4
    plain, grouped = prepared(GPT, "checkpoint.strategy", ["each", "group_2"])
    assert [len(stage) for stage in plain.workload.stages] != [len(stage) for stage in grouped.workload.stages]
    checked, kept = prepared(GPT, "checkpoint.enabled", [True, False])
    assert checked.workload is kept.workload and costs_of(checked).units != costs_of(kept).units


def test_a_module_is_traced_once_for_each_model_and_number_of_microbatches() -> None:
    layer = LayerShape(input_bytes=1, gradient_bytes=1, saved_bytes=1, static_bytes=1)
    calls: list[Any] = []

    def traced() -> ModuleShapes:
        calls.append(None)
        return ModuleShapes(layers=(layer,) * (1 + len(calls)))

    axes: list[tuple[str, list[Any]]]
    axes = [("hardware.d2h", [1, 2]), ("parallel.microbatches", [1, 2]), ("model.seed", [1, 2])]
    variants, preparation = Variants(scenario_file(MODULE), {}, axes), Preparation()
    for places, count in [((0, 0, 0), 1), ((1, 0, 0), 1), ((1, 1, 0), 2), ((1, 1, 1), 3), ((0, 0, 0), 3)]:
        found = preparation.shapes(variants.scenario(places), traced)
        assert found is not None and len(calls) == count
    assert preparation.shapes(load_scenario(GPT), traced) is None and len(calls) == 3


def test_what_is_kept_is_bounded() -> None:
    kept: Kept[list[int]] = Kept(10, len)
    first = kept.get("a", lambda: [1] * 6)
    assert kept.get("a", lambda: [2]) is first
    assert kept.get("b", lambda: [3] * 4) == [3] * 4 and kept.get("a", lambda: [2]) is first
    # Eleven in all are too many: it starts anew.
    assert kept.get("c", lambda: [4]) == [4] and kept.get("a", lambda: [2]) == [2]


def test_identities_in_a_key_stay_those_of_the_same_objects() -> None:
    kept: Kept[int] = Kept(10)
    for number in range(5):
        one = object()  # the next one would take its place and identity if it were not kept
        assert kept.get(id(one), lambda number=number: number, alive=one) == number  # type: ignore[misc]
