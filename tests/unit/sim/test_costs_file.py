"""The costs file: round trip, exact transfer times, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from loadahead.sim.costs import Costs, UnitCost, load_costs, save_costs, transfer_ns
from loadahead.sim.engines import ENGINES
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, KindName
from loadahead.sim.planner import Policy
from loadahead.sim.sweep import Point, evaluate_points
from tests.support.plans import GB, uniform_costs, uniform_plan, uniform_workload


def test_round_trip(tmp_path: Path) -> None:
    costs = uniform_costs(2, 3, evidence={"samples": 5})
    save_costs(costs, tmp_path / "costs.json")
    assert load_costs(tmp_path / "costs.json") == costs


def test_transfer_rounds_up_and_is_exact_for_huge_sizes() -> None:
    sizes = np.asarray([0, 1, 3, 2**53], dtype=np.int64)
    assert transfer_ns(sizes, 3 * GB).tolist() == [0, 1, 1, -(-(2**53) // 3)]


def test_split_backward_halves_what_has_no_figures() -> None:
    unit = UnitCost(forward_ns=1, recompute_ns=1, backward_ns=5)
    kinds = unit.by_kind()
    assert kinds[Kind.BACKWARD_INPUT][0] + kinds[Kind.BACKWARD_WEIGHT][0] == 5


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"units": [[{"forward_ns": -1, "recompute_ns": 0, "backward_ns": 0}]]}, "units.0.0.forward_ns"),
        ({"units": [[{"forward_ns": True, "recompute_ns": 0, "backward_ns": 0}]]}, "units.0.0.forward_ns"),
        ({"d2h_bandwidth": 0}, "d2h_bandwidth"),
        ({"d2h_bandwidth": 1.5}, "d2h_bandwidth"),
        ({"memory_bytes": "1 GB"}, "memory_bytes"),
        ({"static_bytes": None}, "static_bytes"),
        ({"speed": 1}, "speed"),
        ({"version": 2}, "version"),
        ({"units": []}, "units = []: it must hold a list for each stage, with the cost of at least one unit"),
        ({"units": [[]]}, "units = [[]]: it must hold a list for each stage"),
        ({"units": [[], []]}, "units = [[], []]: it must hold a list for each stage"),
        ({"units": None}, "units = None"),
    ],
)
def test_bad_files_name_the_key_in_one_line(tmp_path: Path, change: dict[str, object], key: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(uniform_costs(1).model_dump(mode="json") | change))
    with pytest.raises(InputError) as caught:
        load_costs(path)
    assert key in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "loadahead-costs"', "\x00"])
def test_broken_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_costs(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("described", [(1, 1), (3, 3), (2, 2, 2), (2,)], ids=str)
def test_costs_of_another_workload_are_refused_by_every_engine(engine: str, described: tuple[int, ...]) -> None:
    """Two stages of two units; costs of fewer are refused as those of more."""
    unit = uniform_costs(1).units[0][0]
    costs = uniform_costs(len(described)).model_copy(update={"units": tuple((unit,) * n for n in described)})
    point = Point(workload=uniform_workload(2, 2), costs=costs, policy=Policy(ranks=2, microbatches=2), axes={})
    with pytest.raises(InputError, match=r"with \[2, 2\]: use costs made for this (plan|workload)"):
        evaluate_points([point], engine)


def test_costs_that_do_not_fit_the_plan() -> None:
    with pytest.raises(InputError, match="describes 1 stages"):
        uniform_costs(1).durations(uniform_plan(2))
    with pytest.raises(InputError, match="static_bytes"):
        uniform_costs(1, static_bytes=(0, 0)).static(np.zeros(1, dtype=np.int64), 1)


def test_the_schemas_know_every_kind() -> None:
    assert get_args(KindName) == tuple(kind.name for kind in Kind)


def test_costs_are_frozen() -> None:
    assert Costs.model_config["frozen"]
