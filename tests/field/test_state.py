"""Models whose forward pass changes or draws something: RECOMPUTE leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import loadahead as la
from tests.field import models
from tests.field.commands import Field, options, started
from tests.zoo.plain import Trained, Unit, train

MakeField = Callable[..., Field]


def plainly(name: str, ranks: int = 1, microbatches: int = 4) -> Trained:
    """Train a model of four layers plainly, on :func:`tests.field.models.floats`."""
    places = [(0, 0), (0, 1), (0, 2), (0, 3)] if ranks == 1 else [(0, 0), (0, 1), (1, 0), (1, 1)]
    units = [Unit(stage=stage, unit=unit, layer=layer) for layer, (stage, unit) in enumerate(places)]
    build: Any = getattr(models, name)
    return train(build, models.floats, models.distance, units=units, steps=3, microbatches=microbatches)


@started("one rank", "two ranks", "pairs", "one unit", "no checkpoint", "no check")
def test_batches_are_counted_once(start: list[str], field: MakeField) -> None:
    """The statistics that evaluation uses are plain training's, in the file and in the model that was trained."""
    models.BUILT.clear()
    one = field("counting", data="floats", loss="distance", parallel__microbatches=4)
    out = one.folder / "run"
    found = one.result(*start, "-o", str(out))
    trained = torch.load(out / "weights.pt", weights_only=True)["model"]
    plain = plainly("counting")
    assert found["losses"] == plain.losses
    assert int(trained["1.0.num_batches_tracked"]) == 12
    for name, value in plain.state.items():
        assert torch.equal(trained[name], value), name
    assert int(models.BUILT[-1].state_dict()["1.0.num_batches_tracked"]) == 12


@started()
def test_power_iterations(start: list[str], field: MakeField) -> None:
    field("power_iterations", shape=[5, 12]).equal(*start)


@started("one rank", "no check", "pairs")
def test_a_mask_beside_the_layers(start: list[str], field: MakeField) -> None:
    """A later microbatch overwrites it before RECOMPUTE reads it: that is told, without the check as well."""
    said = field("side_channel", shape=[5, 12]).refusal(*start)
    assert "RECOMPUTE of unit 0." in said and "saw other values than FORWARD" in said and "layers share" in said


@started()
def test_pythons_random_numbers(start: list[str], field: MakeField) -> None:
    one = field("stochastic_depth", shape=[5, 12])
    assert one.equal(*start)["losses"] == one.result(*start, "--no-check")["losses"]


@started("one rank", "two ranks", "no checkpoint")
def test_a_cache_that_grows(start: list[str], field: MakeField) -> None:
    """RECOMPUTE sees the cache as it was before its FORWARD; what that takes is said."""
    found = field("key_cache", shape=[2, 5, 12]).equal(*start, memory=False)
    if "checkpoint.enabled=false" not in start:
        assert any("keeps" in text and "before its FORWARD" in text for text in found["warnings"])


@started()
def test_a_frozen_front_stays_in_evaluation_mode(start: list[str], field: MakeField) -> None:
    models.BUILT.clear()
    one = field("frozen_eval_front", data="floats", loss="distance")
    trained = one.weights(*start)
    plain = plainly("frozen_eval_front", 2 if start else 1)
    assert int(trained["0.1.num_batches_tracked"]) == 0
    for name, value in plain.state.items():
        assert torch.equal(trained[name], value), name
    assert not any(model[0].training or model[0][1].training for model in models.BUILT)  # type: ignore[index]
    assert all(model[1].training for model in models.BUILT)  # type: ignore[index]


@started()
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_inside_units(reentrant: bool, start: list[str], field: MakeField) -> None:
    field("nested_checkpoints", shape=[6, 12]).equal(*options(reentrant=reentrant), *start)


# Torch says so in plain training, too.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@started()
def test_a_reentrant_checkpoint_whose_input_needs_no_gradient(start: list[str], field: MakeField) -> None:
    """Plain training leaves its weights alone, and so does a plan."""
    one = field("nested_checkpoints", shape=[6, 12], options={"reentrant": True, "front": False})
    trained = one.weights(*start)
    torch.manual_seed(0)
    built = models.nested_checkpoints(True, False).state_dict()
    moved = {name.partition(".")[0] for name in built if not torch.equal(trained[name], built[name])}
    assert moved == {"2"}  # without a gradient of its input, the first one's output has none, and so the second's


@started()
def test_an_embedding_that_renormalises_its_rows(start: list[str], field: MakeField) -> None:
    field("renormed", data="tokens", loss="cross_entropy").equal(*start)


# Said by torch itself whenever such a layer is built.
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@started()
@pytest.mark.parametrize("kind", ["int8", "hook", "parametrization"])
def test_weight_norm_and_8_bits(kind: str, start: list[str], field: MakeField) -> None:
    field("low_rank_int8", shape=[5, 12], options={"kind": "int8"}).equal(*options(kind=kind), *start)


def test_a_model_in_memory_is_left_as_it_was() -> None:
    """Copies are trained: the caller's own statistics and weights do not move, however the run begins."""
    model = models.counting()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scenario = la.load(
        {"name": "mine", "model": {"steps": 3, "input_shape": [5, 12]}, "hardware": {"preset": "h100-sxm"}}, model=model
    )
    run = la.execute(scenario)
    assert run.max_grad_error == 0.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
