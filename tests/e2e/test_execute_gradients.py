"""Every gradient of every step equals plain training's, bit for bit: with dropout, delays and poisoned memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.sim.errors import InputError
from loadahead.sim.planner import HORIZON_UNITS, ORDERS, Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import TINY, link_costs, own_spec, tiny_spec, workload_of

ORDER_OF = {order: name for name, order in ORDERS.items()}  # one name for each order


@cache
def tiny_workload(ranks: int) -> Workload:
    return workload_of(tiny_spec(), ranks)


def grad_error(spec: ModelSpec, workload: Workload, seed: int | None, steps: int = 2, **policy: Any) -> float | None:
    ranks = len(workload.stages)
    plan = build_plan(workload, Policy(**{"ranks": ranks, "microbatches": 4} | policy))
    result = execute(
        plan, workload, spec, costs=link_costs(workload), steps=steps, delays_seed=seed, poison=seed is not None
    )
    assert len(result.losses) == steps
    return result.max_grad_error


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("horizon", range(1, 9))
@pytest.mark.parametrize("unit", HORIZON_UNITS)
@pytest.mark.parametrize("pipeline", sorted(ORDER_OF.values()))
def test_every_horizon(pipeline: str, unit: str, horizon: int, seed: int | None) -> None:
    """``seed``: with random delays before every operation and dead memory filled with NaN."""
    policy = {"pipeline": pipeline, "horizon": horizon, "horizon_unit": unit, "microbatches": 3}
    assert grad_error(tiny_spec(), tiny_workload(1), seed, **policy) == 0.0


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("pipeline", sorted(ORDER_OF.values()))
def test_delays_between_ranks(pipeline: str, horizon: int) -> None:
    assert grad_error(tiny_spec(), tiny_workload(2), 7 * horizon, pipeline=pipeline, horizon=horizon) == 0.0


@pytest.mark.parametrize(
    "policy",
    [
        {"release_window": 3},
        {"active_microbatches": 2, "pipeline": "simple"},
        {"checkpoint": False},
        {"offload": False},
        {"microbatches": 1},
        {"microbatches": 7, "horizon": 1, "horizon_unit": "layers"},
    ],
)
@pytest.mark.parametrize("ranks", [1, 4])
def test_other_policies(ranks: int, policy: dict[str, Any]) -> None:
    assert grad_error(tiny_spec(), tiny_workload(ranks), 5, **policy) == 0.0


@pytest.mark.parametrize("options", [{"autocast": "bfloat16"}, {"optimizer": "sgd"}, {"seed": 4}])
def test_autocast_and_optimizers(options: dict[str, Any]) -> None:
    spec = tiny_spec(**options)
    assert grad_error(spec, workload_of(spec), 3, steps=3, horizon=2) == 0.0


@pytest.mark.parametrize("ranks", [1, 3])
def test_odd_layers(ranks: int) -> None:
    """Views, aliases, expanded and turned outputs, a frozen layer."""
    spec = own_spec("mixed")
    assert grad_error(spec, workload_of(spec, ranks), 11, horizon=2) == 0.0


@pytest.mark.parametrize("checkpoint", [True, False])
def test_layers_in_place_inside_a_unit(checkpoint: bool) -> None:
    spec = own_spec("in_place")
    layers = workload_of(spec).stages[0]
    pairs = [replace(layers[at], layers=(at, at + 2), saved_bytes=layers[at + 1].boundary_bytes) for at in (0, 2)]
    workload = Workload(stages=((*pairs, layers[4]),))
    assert grad_error(spec, workload, 2, horizon=1, checkpoint=checkpoint) == 0.0


def test_layers_in_place_at_a_boundary() -> None:
    """Without checkpointing no one reads a boundary twice."""
    spec = own_spec("in_place")
    workload = workload_of(spec)
    assert grad_error(spec, workload, 2, checkpoint=False) == 0.0
    with pytest.raises(InputError, match=r"unit 0\.1 changes its input in place.*or let that follow another layer"):
        grad_error(spec, workload, 2)


def test_units_of_several_layers() -> None:
    one = workload_of(tiny_spec()).stages[0]
    pair = replace(one[1], layers=(1, 3))
    workload = Workload(stages=((one[0], pair, one[3]),))
    assert grad_error(tiny_spec(), workload, 2, horizon=1) == 0.0


def test_the_loss_falls() -> None:
    spec = tiny_spec(options=TINY | {"batch": 8, "context": 16})
    workload = workload_of(spec)
    plan = build_plan(workload, Policy(ranks=1, microbatches=4, horizon=2))
    seen: list[tuple[int, float]] = []
    result = execute(plan, workload, spec, costs=link_costs(workload), steps=12, on_step=lambda *at: seen.append(at))
    assert seen == list(enumerate(result.losses))
    assert result.losses[-1] < result.losses[0] - 0.5
