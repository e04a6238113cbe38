"""Every model of the zoo, run by plans under random delays, is after three steps what plain training makes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.backends import cpu
from loadahead.executor.execute import execute
from loadahead.executor.training.results import ExecutionResult
from loadahead.jobs import calibrate_prepared, job_of_prepared, prepared_of
from loadahead.modules import model_spec
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.workload import Workload
from tests.support.ways import checkpointed
from tests.zoo import models
from tests.zoo.models import MODELS, Model
from tests.zoo.plain import Trained, Unit, train

pytestmark = [
    # Said when a model is built, and again by what looks into it.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
]

STEPS, RATE = 3, 1e-2
# Pipeline, horizon, microbatches and way of checkpointing of the plans that each model is run by, for each number of
# ranks.
PLANS = {
    1: [("simple", 1, 3, "sparing"), ("1f1b", 2, 4, "lean")],
    2: [("1f1b", 1, 4, "lean"), ("simple", 3, 3, "sparing")],
}
# Models with units that keep to the sparing way, and how many: their FORWARD changes a weight or parks an output on a
# module, or another kernel runs where no gradient is wanted.
SPARING = {"hooks": 2, "lstm": 2, "max norm": 1, "old spectral norm": 2, "old weight norm": 2}
# Random delays about as long as a tiny unit's run.
DELAY_S = 0.0005


def tables(model: Model, ranks: int = 1, pipeline: str = "simple", horizon: int = 2, microbatches: int = 4) -> Any:
    """Return the scenario of a model."""
    return {
        "name": "zoo",
        "model": {
            "kind": "module",
            "python": f"tests.zoo.models:{model.build}",
            "data": f"tests.zoo.models:{model.data}",
            "loss": f"tests.zoo.models:{model.loss}",
            "options": model.options,
            "learning_rate": RATE,
            "steps": STEPS,
            **model.table,
        },
        "hardware": {"d2h": "10 GB/s", "h2d": "10 GB/s", "memory": "1 GiB"},
        "parallel": {"pipeline_parallel_degree": ranks, "pipeline": pipeline, "microbatches": microbatches},
        "offload": {"activation_loading_horizon": horizon},
    }


def builder(model: Model) -> Callable[[], nn.Sequential]:
    return functools.partial(getattr(models, model.build), **model.options)


def plainly(model: Model, workload: Workload, microbatches: int, steps: int = STEPS) -> Trained:
    """Train the model plainly, with the random numbers of the plan's units."""
    units = [
        Unit(stage=stage, unit=unit, layer=shape.layers[0])
        for stage, shapes in enumerate(workload.stages)
        for unit, shape in enumerate(shapes)
    ]
    data, loss = getattr(models, model.data), getattr(models, model.loss)
    settings = {key: model.table[key] for key in ("optimizer", "autocast") if key in model.table}
    own = {"units": units, "steps": steps, "microbatches": microbatches, "learning_rate": RATE}
    return train(builder(model), data, loss, **own | settings)  # type: ignore[arg-type]


class Runs:
    """Runs one model's plans; units of one cut are calibrated and trained plainly once for all of them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._costs: dict[Any, Costs] = {}
        self._plain: dict[Any, Trained] = {}

    def run(self, **settings: Any) -> tuple[ExecutionResult, Costs, Trained, Plan]:
        """Return a run's result, the costs that predict it, what it must have made, and its plan."""
        overrides, way = settings.pop("overrides", None), settings.pop("way", "sparing")
        prepared = prepared_of(tables(self.model, **settings), overrides)
        cut = str(prepared.workload)
        if cut not in self._costs:
            self._costs[cut] = calibrate_prepared(prepared, repeats=1)
        costs, plan = checkpointed(self._costs[cut], way), job_of_prepared(prepared).plan
        if (key := (cut, plan.microbatches)) not in self._plain:
            self._plain[key] = plainly(self.model, prepared.workload, plan.microbatches)
        result = execute(
            plan,
            prepared.workload,
            model_spec(prepared.scenario),
            costs=costs,
            steps=STEPS,
            delays_seed=sum(map(ord, str(settings))),
            poison=True,
        )
        return result, costs, self._plain[key], plan


def require_equal(result: ExecutionResult, plain: Trained) -> None:
    """Compare bit for bit: losses, weights, buffers, and whatever else a state dict holds."""
    assert result.differences is None
    assert result.max_grad_error == result.grad_error_allowed == 0.0
    assert result.losses == plain.losses
    ours = result.weights["model"]
    assert list(ours) == list(plain.state)
    for name, value in plain.state.items():
        assert _bits(ours[name]) == _bits(value), f"{name}: {ours[name]} instead of {value}"
    # Each stage has an optimizer of its own, which numbers its weights in the model's order.
    states = [state for stage in result.weights["optimizer"] for _, state in sorted(stage["state"].items())]
    assert len(states) == len(plain.optimizer)
    for state, (name, value) in zip(states, plain.optimizer.items(), strict=True):
        assert {key: _bits(part) for key, part in state.items()} == {k: _bits(v) for k, v in value.items()}, name


def _bits(value: Any) -> Any:
    """Return what tells two values of a state dict apart, to the sign of a zero."""
    if not isinstance(value, torch.Tensor):
        return value
    flat = value.detach().cpu().contiguous().reshape(-1)
    return value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()


def peaks(timeline: Any) -> list[tuple[int, int, int]]:
    """Return every rank's peaks: of all, of boundaries, of host memory."""
    names = ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes")
    return [tuple(getattr(rank, name) for name in names) for rank in timeline.metrics.ranks]


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LONGEST_DELAY_S", DELAY_S)


@pytest.mark.parametrize("ranks", PLANS)
@pytest.mark.parametrize("name", MODELS)
def test_three_steps_are_plain_trainings(name: str, ranks: int) -> None:
    """Losses, weights and buffers bit for bit, peaks to the byte."""
    model = MODELS[name]
    runs = Runs(model)
    for pipeline, horizon, microbatches, way in PLANS[ranks]:
        settings = {"ranks": ranks, "pipeline": pipeline, "horizon": horizon, "microbatches": microbatches, "way": way}
        result, costs, plain, plan = runs.run(**settings)
        if way == "lean":
            sparing = sum(map(len, costs.units)) - plan.frozen_units - len(costs.lean_units)
            assert sparing == SPARING.get(name, 0)
        require_equal(result, plain)
        assert plan.frozen_units == model.frozen
        if model.unsteady:
            assert model.unsteady in "\n".join(result.warnings)
        else:
            assert peaks(result.timeline) == peaks(simulate(plan, costs)), settings


@pytest.mark.parametrize("name", MODELS)
def test_other_units(name: str) -> None:
    """Several layers in a unit, and no checkpointing."""
    model = MODELS[name]
    runs = Runs(model)
    for key, value in (("checkpoint.strategy", "group_2"), ("checkpoint.enabled", False)):
        result, costs, plain, plan = runs.run(microbatches=3, overrides={key: value})
        require_equal(result, plain)
        measured, predicted = peaks(result.timeline), peaks(simulate(plan, costs))
        if model.parked and key == "checkpoint.enabled":
            assert 0 <= predicted[0][0] - measured[0][0] <= model.parked
        elif not model.unsteady:
            assert measured == predicted, key


def test_an_idle_expert_has_no_gradient_in_plain_training() -> None:
    """This is what the model is in the zoo for: in step 2 nothing may change that expert's weight, decay included."""
    model = MODELS["idle expert"]
    workload = prepared_of(tables(model)).workload
    one, two = (plainly(model, workload, 4, steps) for steps in (2, 3))
    weight = "1.experts.1.weight"
    assert one.gradients[weight] is not None and two.gradients[weight] is None
    assert _bits(one.state[weight]) == _bits(two.state[weight])
    assert _bits(one.state["1.experts.0.weight"]) != _bits(two.state["1.experts.0.weight"])


def test_counters_count_each_microbatch_once() -> None:
    """Said by hand, apart from any training."""
    result, *_ = Runs(MODELS["batch norm 1d"]).run(ranks=2, pipeline="1f1b")
    weights = result.weights["model"]
    assert {int(weights[name]) for name in weights if name.endswith("num_batches_tracked")} == {STEPS * 4}
    result, *_ = Runs(MODELS["experts"]).run()
    weights = result.weights["model"]
    for layer in (1, 2):
        assert weights[f"{layer}._extra_state"] == {"calls": STEPS * 4}
        assert int(weights[f"{layer}.rows"].sum()) == STEPS * 4 * 4


TIED = Model(build="tied", data="words", loss="next_word")


@pytest.mark.parametrize("settings", [{"microbatches": 1}, {"overrides": {"checkpoint.strategy": "contiguous"}}])
def test_a_tied_head_bit_for_bit(settings: dict[str, Any]) -> None:
    """With one microbatch the weight's two gradients add up in plain training's order; and inside one unit always."""
    runs = Runs(TIED)
    for horizon in (1, 3):
        result, costs, plain, plan = runs.run(horizon=horizon, **settings)
        assert result.max_grad_error == 0.0
        assert result.losses == plain.losses
        for name, value in plain.state.items():
            assert _bits(result.weights["model"][name]) == _bits(value)
        assert peaks(result.timeline) == peaks(simulate(plan, costs))


@pytest.mark.parametrize(("pipeline", "microbatches"), [("simple", 3), ("1f1b", 4)])
def test_a_tied_head_within_the_sums_rounding(pipeline: str, microbatches: int) -> None:
    result, costs, plain, plan = Runs(TIED).run(pipeline=pipeline, microbatches=microbatches)
    assert result.max_grad_error is not None
    assert result.max_grad_error <= result.grad_error_allowed < 1e-5
    if result.max_grad_error > 0.0:
        assert "share" in (result.differences or "")
    assert result.losses == pytest.approx(plain.losses, rel=1e-5)
    for name, value in plain.state.items():
        torch.testing.assert_close(result.weights["model"][name], value, rtol=1e-4, atol=1e-5)
    assert peaks(result.timeline) == peaks(simulate(plan, costs))


def test_a_tied_head_on_two_ranks_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"share.*'0\.weight'") as caught:
        Runs(TIED).run(ranks=2)
    assert "\n" not in str(caught.value)
