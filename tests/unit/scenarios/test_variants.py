"""Scenarios made table by table equal those that are loaded whole, and go wrong in the same words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadahead.scenarios.loader import scenario_file
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.variants import Variants
from loadahead.sim.errors import InputError

UNIFORM = {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB"}
TABLES: dict[str, Any] = {"name": "s", "model": UNIFORM, "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s"}}
MODULE = {"kind": "module", "python": "models:build", "options": {"width": 8}}


def plain(scenario: Scenario) -> tuple[Any, ...]:
    """All that a scenario holds, with what was written told from defaults."""
    return type(scenario.model), scenario.model_dump(), scenario.model_dump(exclude_unset=True)


def loaded(load: Callable[[], Scenario]) -> tuple[Scenario | None, str]:
    try:
        return load(), ""
    except InputError as error:
        return None, str(error)


def require_same(source: Any, overrides: dict[str, Any], axes: list[tuple[str, list[Any]]]) -> list[Scenario]:
    """Compare every combination with the scenario loaded whole, value or error, in two rounds."""
    file, made = scenario_file(source), []
    variants = Variants(file, overrides, axes)
    for _, places in itertools.product(range(2), itertools.product(*(range(len(values)) for _, values in axes))):
        chosen = {key: values[place] for (key, values), place in zip(axes, places, strict=True)}
        whole, error = loaded(lambda chosen=chosen: file.scenario({**overrides, **chosen}))
        found, found_error = loaded(lambda places=places: variants.scenario(places))
        assert found_error == error
        if whole is not None:
            assert found is not None
            assert plain(found) == plain(whole) and found == whole
            made.append(found)
    return made


@pytest.mark.parametrize(
    ("overrides", "axes"),
    [
        ({}, [("hardware.d2h", ["2 GB/s", "3 GB/s"]), ("model.static", [0, "1 MB"]), ("hardware.p2p", [1, 2])]),
        (
            {"hardware.launch": 5},
            [("hardware.launch_by_kind.FORWARD", [1, 2]), ("hardware.launch_by_kind.RELEASE", [3])],
        ),
        ({"hardware": {"preset": "h100-sxm"}}, [("hardware.d2h", ["2 GB/s", "3 GB/s"])]),
        ({"hardware.d2h": "9 GB/s"}, [("hardware.d2h", ["2 GB/s", "3 GB/s"])]),
        ({"parallel.partitions": 4}, [("parallel.pipeline_parallel_degree", [1, 2])]),
        ({"parallel.pipeline_parallel_degree": 4}, [("parallel.partitions", [1, 2])]),
        (
            {},
            [
                ("hardware", [{"preset": "h100-sxm"}, {"d2h": 1, "h2d": 2}]),
                ("offload.offload_activations", [True, False]),
            ],
        ),
        ({}, [("model", [UNIFORM, MODULE, {"kind": "transformer", "preset": "gpt3-175b"}])]),
        ({}, [("checkpoint.enabled", [True, False, True, 1]), ("jitter.seed", [1, True])]),
        ({}, [("name", ["a", "b"]), ("costs", ["a.json", "b.json"])]),
        ({}, []),
    ],
)
def test_tables_that_change_give_the_scenario_loaded_whole(
    overrides: dict[str, Any], axes: list[tuple[str, list[Any]]]
) -> None:
    require_same(TABLES, overrides, axes)


@pytest.mark.parametrize(
    ("overrides", "axes"),
    [
        # The first value is wrong, a later one, a combination, and two tables at once.
        ({}, [("hardware.d2h", ["0 GB/s", "1 GB/s"])]),
        ({}, [("hardware.d2h", ["1 GB/s", "0 GB/s", 3]), ("model.static", [1, -1])]),
        ({}, [("hardware.uplink_d2h", ["1 GB/s"]), ("hardware.gpus_per_switch", [2, 0])]),
        (
            {"hardware.gpus_per_switch": 2},
            [("hardware", [{"preset": "h100-sxm"}, {"uplink_d2h": 1, "d2h": 1, "h2d": 1}])],
        ),
        ({}, [("hardware.d2x", ["1 GB/s"]), ("model.static", [1, 2])]),
        ({}, [("hardware.d2h", ["1 GB/s", {"a": 1}]), ("hardware.launch_by_kind.NONE", [1])]),
        ({}, [("model.kind", ["uniform", "module", "nothing"]), ("hardware", [{"d2h": 1, "h2d": 1}, {"d2h": 1}])]),
        ({}, [("hardwear.d2h", [1, 2])]),
        ({"parallel.partitions": 0}, [("hardware.d2h", [1, 2])]),
        ({"name.x": 1}, [("hardware.d2h", [1, 2])]),
        ({}, [("checkpoint", [{}, 3]), ("offload", [{}, {"horizon": 3}])]),
    ],
)
def test_mistakes_are_told_as_by_the_scenario_loaded_whole(
    overrides: dict[str, Any], axes: list[tuple[str, list[Any]]]
) -> None:
    require_same(TABLES, overrides, axes)


def test_an_axis_gives_what_the_scenario_lacks() -> None:
    lacking = TABLES | {"hardware": {"h2d": "1 GB/s"}}
    assert len(require_same(lacking, {}, [("hardware.d2h", ["1 GB/s", "2 GB/s"])])) == 4


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'costs = "costs.json"\n[model]\nkind = "module"\npython = "models:build"\n[model.options]\nwidth = 8\n'
        '[hardware]\nd2h = "1 GB/s"\nh2d = "1 GB/s"\n'
    )
    axes = [("hardware.d2h", [1, 2]), ("model.options.width", [8, 16]), ("costs", ["costs.json", "other/costs.json"])]
    made = require_same(path, {}, axes)
    assert {scenario.costs for scenario in made} == {str(tmp_path / "costs.json"), str(tmp_path / "other/costs.json")}
    assert {getattr(scenario.model, "search_path", None) for scenario in made} == {str(tmp_path)}
    variants = Variants(scenario_file(path), {}, axes[:1])
    one, other = variants.scenario([0]), variants.scenario([1])
    assert one.model is other.model and one.costs == other.costs and one.hardware != other.hardware


def test_objects_in_memory_are_in_every_scenario() -> None:
    class Objects:
        layers = None

    objects = Objects()
    first = scenario_file(TABLES | {"model": MODULE}).scenario()
    source = first.model_copy(update={"model": first.model.with_objects(objects)})  # type: ignore[attr-defined]
    axes: list[tuple[str, list[Any]]] = [("model.seed", [1, 2]), ("hardware.d2h", [1, 2])]
    for scenario in require_same(source, {}, axes):
        assert scenario.model.objects is objects  # type: ignore[attr-defined]
    variants = Variants(scenario_file(source), {}, axes[1:])
    assert variants.scenario([0]).model is variants.scenario([1]).model


def test_tables_are_shared_where_their_keys_agree() -> None:
    axes: list[tuple[str, list[Any]]] = [
        ("hardware.d2h", [1, 2, 3]),
        ("model.static", [1, 2]),
        ("hardware.p2p", [1, 2]),
    ]
    variants = Variants(scenario_file(TABLES), {}, axes)
    made = {places: variants.scenario(places) for places in itertools.product(range(3), range(2), range(2))}
    assert len({id(scenario.hardware) for scenario in made.values()}) == 6
    assert len({id(scenario.model) for scenario in made.values()}) == 2
    for name in ("parallel", "checkpoint", "offload"):
        assert len({id(getattr(scenario, name)) for scenario in made.values()}) == 1


def test_where_one_table_changes_the_others_are_shared() -> None:
    variants = Variants(scenario_file(TABLES), {}, [("model.static", [1, 2, 3])])
    first, *others = [variants.scenario([place]) for place in range(3)]
    for name in ("hardware", "parallel", "checkpoint", "offload", "jitter"):
        assert all(getattr(other, name) is getattr(first, name) for other in others)


def test_the_callers_values_are_not_touched() -> None:
    options = [{"width": 8, "deep": {"a": [1]}}, {"width": 16}]
    scenario = Variants(scenario_file(TABLES | {"model": MODULE}), {}, [("model.options", options)]).scenario([0])
    scenario.model.options["deep"]["a"].append(2)  # type: ignore[attr-defined]
    assert options == [{"width": 8, "deep": {"a": [1]}}, {"width": 16}]
