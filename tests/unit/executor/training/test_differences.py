"""What differs from plain training is told where it is and whose fault it can be: each sentence from one situation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.links import Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.torch_settings import single_threaded
from loadahead.executor.training.differences import Differences, recompute_differences, require_finite
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.session import Session
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.planner import Policy, build_plan
from tests.support.models import HARDWARE, Scale, given_spec, own_spec, workload_of

MICROBATCHES = 2
NAN, INF = float("nan"), float("inf")
# What is said where nothing else differs.
IN_BACKWARD = (
    "the losses are equal, and every RECOMPUTE saved what its FORWARD had saved: the difference arises in BACKWARD"
)
SMALLEST = float.fromhex("0x1p-1074")


@pytest.fixture(autouse=True)
def as_runs_are() -> Iterator[None]:
    with single_threaded():
        yield


class Counted(nn.Module):
    """Has buffers of several kinds, and changes none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("angles", torch.ones(4, dtype=torch.complex64))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sin()


class Situation:
    """A step of a plan and of plain training, equal in all, with which a test then does what it wants."""

    def __init__(self, spec: ModelSpec | None = None) -> None:
        spec = given_spec(nn.Linear(8, 8), Counted(), Scale("sine")) if spec is None else spec
        workload = workload_of(spec)
        plan = build_plan(workload, Policy(ranks=1, microbatches=MICROBATCHES, horizon=1))
        self.session = Session(spec, workload, (0,), microbatches=MICROBATCHES)
        self.plain = PlainTraining(self.session, *pass_orders(plan))
        backend = CpuBackend()
        operations = Operations(plan, self.session.in_units, self.session, backend, Links.of(HARDWARE))
        batches = self.session.batches(0, MICROBATCHES)
        self.session.in_units.watch(True)
        self.losses = replay(operations, 0, batches).losses
        self.plain_losses = self.plain.train(0, batches)
        backend.close()
        self.found = Differences()

    def gradient(self, name: str) -> torch.Tensor:
        """The plan's run's."""
        gradient = dict(self.session.model.module.named_parameters())[name].grad
        assert gradient is not None
        return gradient

    def plain_gradient(self, name: str) -> torch.Tensor:
        gradient = self.plain.named[name].grad
        assert gradient is not None
        return gradient

    def buffer(self, name: str) -> torch.Tensor:
        return self.session.model.module.get_buffer(name)

    def compare(self, step: int = 0) -> str:
        self.found.compare(step, self.session, self.plain, self.losses, self.plain_losses)
        return self.found.sentence or ""


def test_where_all_is_equal_there_is_nothing_to_say() -> None:
    situation = Situation()
    assert situation.compare() == ""
    assert situation.found == Differences()
    assert situation.found.sentence is None and situation.found.worst == situation.found.allowed_now == 0.0


# ---- where ----


def test_a_gradient_by_parameter_unit_and_step() -> None:
    situation = Situation()
    situation.gradient("2.weight")[3] += 0.5
    situation.gradient("2.weight")[4] -= 0.25
    text = situation.compare(4)
    assert text.startswith("step 4: the gradient of 2.weight (unit 0.2) differs by up to 0.5; " + IN_BACKWARD)
    assert "\n" not in text
    assert situation.found.worst == pytest.approx(0.5)
    assert situation.found.allowed_now == 0.0


def test_the_first_gradient_is_told_and_the_worst_counts() -> None:
    situation = Situation()
    situation.gradient("0.bias")[0] += 0.125
    situation.gradient("2.weight")[3] += 0.5
    assert "step 0: the gradient of 0.bias (unit 0.0) differs by up to 0.125; " in situation.compare()
    assert situation.found.worst == pytest.approx(0.5)


def test_the_first_step_is_told() -> None:
    situation = Situation()
    assert situation.compare(0) == ""
    situation.gradient("2.weight")[0] += 0.5
    first = situation.compare(1)
    situation.gradient("0.weight")[0] += 2.0
    assert situation.compare(2) == first
    assert first.startswith("step 1: the gradient of 2.weight")
    assert situation.found.worst == pytest.approx(2.0)


def test_the_smallest_difference_counts() -> None:
    situation = Situation()
    gradient = situation.gradient("2.weight")
    gradient[0] = torch.nextafter(gradient[0], torch.tensor(INF))
    assert "the gradient of 2.weight (unit 0.2) differs by up to " in situation.compare()
    assert 0.0 < situation.found.worst < 1e-6


def test_other_signs_of_zero_are_a_difference() -> None:
    situation = Situation()
    situation.gradient("2.weight")[0] = 0.0
    situation.plain_gradient("2.weight")[0] = -0.0
    assert "the gradient of 2.weight (unit 0.2) differs by up to " in situation.compare()
    assert situation.found.worst == SMALLEST


@pytest.mark.parametrize(
    ("name", "error"), [("1.mean", 0.5), ("1.angles", 0.5), ("1.count", 1.0)], ids=["mean", "complex", "count"]
)
def test_a_buffer_by_name_and_unit(name: str, error: float) -> None:
    situation = Situation()
    buffer = situation.buffer(name)
    buffer += error if buffer.is_floating_point() or buffer.is_complex() else 1
    assert situation.compare().startswith(
        f"step 0: the buffer {name} (unit 0.1) differs by up to {error:g}; the losses"
    )
    assert situation.found.worst == error


def test_a_buffer_of_another_shape_or_type() -> None:
    for other in (torch.zeros(9), torch.zeros(8, dtype=torch.float64)):
        situation = Situation()
        situation.session.model.module[1].mean = other
        assert situation.compare().startswith(
            "step 0: the buffer 1.mean (unit 0.1) has another shape or type; the loss"
        )
        assert situation.found.worst == SMALLEST


def test_a_loss_by_microbatch() -> None:
    situation = Situation()
    situation.losses[1] += 0.25
    text = situation.compare()
    assert text.startswith(
        "step 0: the loss of microbatch 1 differs by 0.25, and no RECOMPUTE differs from its FORWARD: the units' "
        "FORWARDs do something else than the module called as it is"
    )
    assert situation.found.worst == 0.25


def test_a_gradient_goes_before_a_loss() -> None:
    situation = Situation()
    situation.losses[0] += 0.25
    situation.gradient("2.weight")[0] += 0.125
    text = situation.compare()
    assert text.startswith(
        "step 0: the gradient of 2.weight (unit 0.2) differs by up to 0.125; the loss of microbatch 0 d"
    )
    assert situation.found.worst == 0.25


def test_a_gradient_that_plain_training_does_not_have() -> None:
    situation = Situation()
    situation.plain.named["0.bias"].grad = None
    text = situation.compare()
    assert text.startswith(
        "step 0: plain training has no gradient of 0.bias (unit 0.0), and the other has one; the losses"
    )
    assert situation.found.worst == float(situation.gradient("0.bias").abs().max())


def test_a_gradient_that_the_plan_does_not_have() -> None:
    situation = Situation()
    bias = dict(situation.session.model.module.named_parameters())["0.bias"]
    assert isinstance(bias, nn.Parameter)
    situation.session.optimizers[0].unused = (bias,)
    text = situation.compare()
    assert text.startswith(
        "step 0: the plan's run has no gradient of 0.bias (unit 0.0), and the other has one; the losses"
    )
    assert situation.found.worst == float(situation.plain_gradient("0.bias").abs().max())


def test_a_gradient_that_neither_has() -> None:
    """The plan's lies there with zeros."""
    situation = Situation()
    bias = dict(situation.session.model.module.named_parameters())["0.bias"]
    assert isinstance(bias, nn.Parameter)
    situation.plain.named["0.bias"].grad = None
    situation.session.optimizers[0].unused = (bias,)
    assert situation.compare() == ""


def test_sparse_gradients_are_compared_number_for_number() -> None:
    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return torch.tensor([microbatch, 2]), torch.zeros(())

    layer = nn.Embedding(5, 8, sparse=True)
    spec = given_spec(layer, Scale("sine"), data=data, optimizer=lambda own: torch.optim.SGD(own, lr=0.1))
    situation = Situation(spec)
    assert situation.plain_gradient("0.weight").is_sparse
    assert situation.compare() == ""
    dense = situation.plain_gradient("0.weight").to_dense()
    dense[2, 0] += 0.5
    situation.plain.named["0.weight"].grad = dense.to_sparse(1)
    assert "the gradient of 0.weight (unit 0.0) differs by up to 0.5; " in situation.compare()


# ---- whose fault ----


def test_a_boundary_that_changed_is_the_plans_or_the_backends() -> None:
    situation = Situation()
    situation.gradient("0.weight")[0] += 0.5
    situation.session.in_units.units[0, 1].seen.reread[1] = "its boundary held other numbers than FORWARD had read"
    # What it saved differs then, too, and is not to be blamed.
    situation.session.in_units.units[0, 1].seen.different[1] = "something"
    assert situation.compare() == (
        "step 0: the gradient of 0.weight (unit 0.0) differs by up to 0.5; the losses are equal; RECOMPUTE of unit "
        "0.1, microbatch 1: its boundary held other numbers than FORWARD had read: the plan or the backend is wrong, "
        "an operation has read memory in another's turn"
    )


def test_a_recompute_that_differs_from_the_same_boundary_is_the_models() -> None:
    situation = Situation()
    situation.gradient("0.weight")[0] += 0.5
    situation.session.in_units.units[0, 2].seen.different[0] = (
        "the tensor that it saves as number 1 of 2, float32[2, 8], differs"
    )
    text = situation.compare()
    assert text.startswith(
        "step 0: the gradient of 0.weight (unit 0.0) differs by up to 0.5; the losses are equal; RECOMPUTE of unit "
        "0.2, microbatch 0: the tensor that it saves as number 1 of 2, float32[2, 8], differs, though it read the same "
        "boundary: RECOMPUTE saw other values than FORWARD, as the unit depends on something outside it"
    )
    assert "plan" not in text and "backend" not in text


def test_nothing_but_gradients_points_at_backward() -> None:
    situation = Situation()
    situation.gradient("0.weight")[0] += 0.5
    text = situation.compare()
    assert (
        "in an autograd function that reads something changed since its FORWARD, or in memory that the plan or" in text
    )


def test_what_recomputes_did_otherwise_is_told_by_the_first_unit_and_microbatch() -> None:
    situation = Situation()
    assert recompute_differences(situation.session) == (None, None)
    units = situation.session.in_units.units
    units[0, 2].seen.different.update({1: "b", 0: "a"})
    units[0, 1].seen.reread.update({1: "d", 0: "c"})
    units[0, 2].seen.reread[0] = "e"
    reread, different = recompute_differences(situation.session)
    assert reread == "RECOMPUTE of unit 0.1, microbatch 0: c"
    assert different == "RECOMPUTE of unit 0.2, microbatch 0: a"


# ---- weights that units share ----


def rounded(factor: float) -> tuple[Situation, float]:
    """The gradient of a weight that two units share is off by so many roundings of its largest number."""
    situation = Situation(own_spec("shared"))
    ours = situation.gradient("0.weight")
    assert situation.compare() == "" or situation.found.first is None
    situation.found = Differences()
    ours.copy_(situation.plain_gradient("0.weight"))
    largest = float(ours.abs().max())
    ours[int(ours.abs().argmax())] += factor * torch.finfo(ours.dtype).eps * largest
    return situation, largest


def test_rounding_of_a_shared_weight_is_allowed_and_said() -> None:
    situation, largest = rounded(4.0)
    text = situation.compare(2)
    assert text.startswith(
        "units 0.0 and 0.1 share the weight 0.weight: its gradient adds up in the order of their BACKWARDs, plain "
        "training adds each microbatch's parts first; from step 2 on it differs by up to "
    )
    found = situation.found
    assert found.first is None and 0.0 < found.worst <= found.allowed_now == found.allowed
    # Two units' parts of two microbatches are four terms.
    assert found.allowed == pytest.approx(4 * 4 * torch.finfo(torch.float32).eps * largest, rel=1e-5)
    # From here on both take the same step.
    assert torch.equal(situation.gradient("0.weight"), situation.plain_gradient("0.weight"))


def test_more_than_rounding_of_a_shared_weight_is_a_difference() -> None:
    situation, _ = rounded(1000.0)
    assert situation.compare().startswith("step 0: the gradient of 0.weight (unit 0.0) differs by up to ")
    assert situation.found.rounding is None
    assert situation.found.allowed_now == 0.0
    assert situation.found.worst > situation.found.allowed


def test_something_else_that_differs_is_not_explained_by_rounding() -> None:
    situation, _ = rounded(4.0)
    assert situation.compare(0).startswith("units 0.0 and 0.1 share the weight")
    assert situation.found.allowed_now > 0.0
    situation.losses[0] += 0.5
    assert situation.compare(1).startswith("step 1: the loss of microbatch 0 differs by 0.5")
    assert situation.found.allowed_now == 0.0


# ---- numbers that are not finite ----


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_gradient_that_is_finite_in_plain_training_alone_is_the_plans(value: float) -> None:
    situation = Situation()
    situation.gradient("2.weight")[1] = value
    words = r"the gradient of 2\.weight is not finite in step 3, plain training's is: the plan lets an operation"
    with pytest.raises(CheckFailed, match=words):
        situation.compare(3)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_loss_that_is_finite_in_plain_training_alone_is_the_plans(value: float) -> None:
    situation = Situation()
    situation.losses[1] = value
    words = (
        r"the loss of microbatch 1 is not finite in step 0, plain training's is: the plan lets an operation read memory"
    )
    with pytest.raises(CheckFailed, match=words):
        situation.compare()


def test_what_is_not_finite_in_both_is_no_difference() -> None:
    """Whether the bits are the same or not; that it is not finite is said elsewhere."""
    situation = Situation()
    situation.losses[0] = situation.plain_losses[0] = NAN
    situation.gradient("2.weight")[0] = situation.plain_gradient("2.weight")[0] = NAN
    situation.gradient("0.weight")[0] = NAN
    situation.plain_gradient("0.weight")[0] = INF
    assert situation.compare() == ""


def finite(situation: Situation, step: int = 0, plain: bool = True) -> None:
    require_finite(step, situation.session, situation.losses, sum(situation.losses), plain)


def test_a_finite_step_passes() -> None:
    finite(Situation())


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_loss_in_the_first_step_gets_no_advice_on_learning_rates(value: float, plain: bool) -> None:
    situation = Situation()
    situation.losses[1] = value
    with pytest.raises(InputError) as caught:
        finite(situation, 0, plain)
    same = ", and so it is in plain training" if plain else ""
    assert str(caught.value) == (
        f"the loss of step 0 is {value} (microbatch 1){same}; no optimizer step has been taken yet: the model, its "
        "data or its loss makes it"
    )


def test_a_loss_in_a_later_step_may_be_the_learning_rates() -> None:
    situation = Situation()
    situation.losses[0] = NAN
    words = (
        r"^the loss of step 3 is nan \(microbatch 0\), .*; the steps before were finite: a smaller learning rate than 0"
    )
    with pytest.raises(InputError, match=words):
        finite(situation, 3)


def test_a_learning_rate_that_the_scenario_does_not_set_is_not_named() -> None:
    """An optimizer given in memory has one of its own."""
    spec = given_spec(nn.Linear(8, 8), optimizer=lambda own: torch.optim.SGD(own, lr=0.7))
    situation = Situation(spec)
    situation.losses[0] = NAN
    with pytest.raises(InputError, match="a smaller learning rate") as caught:
        finite(situation, 3)
    assert "0.0003" not in str(caught.value)


def test_a_gradient_that_is_not_finite_though_the_loss_is() -> None:
    situation = Situation()
    situation.gradient("2.weight")[0] = NAN
    words = (
        r"^the gradient of 2\.weight \(unit 0\.2\) is not finite in step 0, and so it is in plain training, though the "
        r"loss is \(-?\d.*\): the optimizer makes the weights NaN; the model's backward pass divides by zero or"
    )
    with pytest.raises(InputError, match=words):
        finite(situation)
    assert math.isfinite(sum(situation.losses))
