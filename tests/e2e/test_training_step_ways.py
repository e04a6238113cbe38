"""la.TrainingStep where units do later what the first batch did not show, and with units checkpointed either way."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import loadahead as la
from loadahead.executor.backends import BACKENDS
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.sim.costs import CheckpointWay, Costs
from tests.e2e.test_training_step import M, cross_entropy, gpt, scenario, text
from tests.support.fake_cuda import FakeCuda
from tests.support.plain_loop import gradients, plain_step, same, same_state
from tests.support.ways import checkpointed

WAYS = ("sparing", "lean")


def numbers_of(step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    made = torch.Generator().manual_seed(step)
    return [(torch.randn(6, 8, generator=made), torch.randn(6, 4, generator=made)) for _ in range(M)]


def mse_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(output.float(), target)


def ranks_of(ranks: int) -> dict[str, Any]:
    return scenario(parallel={"pipeline_parallel_degree": ranks})


def with_layer(make: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), make(), nn.Linear(8, 4))


# ---- what the first batch does not show ----


class Noisy(nn.Module):
    """Drops numbers out by a switch of its own, which no train flag tells."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.noisy = nn.Linear(8, 8), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self.linear(x), 0.5, training=self.noisy)


@pytest.mark.parametrize("ranks", [1, 2])
def test_dropout_that_begins_later_has_its_seeds_too(ranks: int) -> None:
    model, twin = with_layer(Noisy), with_layer(Noisy)
    with la.TrainingStep(model, ranks_of(ranks), loss=mse_of) as training:
        for step in range(3):
            model[1].noisy = twin[1].noisy = step > 0
            mean = training(numbers_of(step))
            assert torch.equal(mean, plain_step(twin, training, step, numbers_of(step), mse_of))
            assert same(gradients(model), gradients(twin))


class Depth(nn.Module):
    """Draws Python's random numbers for some data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.first(x)
        if float(x.detach().sum()) > 0:
            # What is drawn is remembered outside of the model's state, where it is looked at here alone.
            DRAWN.append(random.random())
            out = out * DRAWN[-1]
        return x + self.second(out)


DRAWN: list[float] = []


@pytest.mark.parametrize("ranks", [1, 2])
def test_pythons_random_numbers_in_some_batches(ranks: int) -> None:
    """The first step tells, and is called again; then RECOMPUTE draws what FORWARD drew."""
    torch.manual_seed(1)
    model = nn.Sequential(Depth(), nn.Linear(8, 8), nn.Linear(8, 4))
    batches = [(torch.full((6, 8), -1.0 if at == 0 else 1.0), torch.zeros(6, 4)) for at in range(M)]
    with la.TrainingStep(model, ranks_of(ranks), loss=mse_of) as training:
        with pytest.raises(la.InputError, match=r"unit 0\.0 draws random numbers, .* zero them and call again"):
            training(batches)
        for _ in range(2):
            DRAWN.clear()
            training(batches)
            assert len(set(DRAWN)) == M - 1
            assert sorted(DRAWN) == sorted(2 * [*set(DRAWN)])


def test_a_first_layer_that_writes_into_its_input_leaves_the_callers_batch_alone() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sub_(0.5).mul_(2.0)

    def build() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(InPlace(), nn.Linear(8, 8), nn.Linear(8, 4))

    model, twin = build(), build()
    batches = numbers_of(0)
    before = [x.clone() for x, _ in batches]
    with la.TrainingStep(model, scenario(), loss=mse_of) as training:
        mean = training(batches)
        assert all(torch.equal(x, was) for (x, _), was in zip(batches, before, strict=True))
        assert torch.equal(mean, plain_step(twin, training, 0, numbers_of(0), mse_of))


# ---- autocast ----


class Float32(nn.Module):
    """Is kept out of autocast by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.linear(x.float())


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_backward_pass_is_outside_autocast(ranks: int) -> None:
    model, twin = with_layer(Float32), with_layer(Float32)
    with la.TrainingStep(model, ranks_of(ranks), loss=mse_of) as training:
        for step in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                training(numbers_of(step))
            for x, target in numbers_of(step):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = mse_of(twin(x), target) / M
                loss.backward()
            assert same(gradients(model), gradients(twin))


def bfloat16() -> torch.autocast:
    """On the stand-in for a GPU too, which is a CPU."""
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("way", WAYS)
def test_casts_of_weights_do_not_outlive_their_unit(way: CheckpointWay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast around the call takes no more memory than the scenario's, and cuts nothing off the graph."""
    monkeypatch.setitem(BACKENDS, "cuda", lambda **settings: CudaBackend(driver=FakeCuda(), **settings))
    peaks = []
    for ambient in (False, True):
        model, twin = gpt(), gpt()
        table = scenario() if ambient else scenario(model={"autocast": "bfloat16"})
        with la.TrainingStep(model, table, loss=cross_entropy, device="cuda", costs=costs_of(way)) as training:
            for step in range(4):
                with bfloat16() if ambient else nullcontext():
                    training(text(step))
                plain_step(twin, training, step, text(step), cross_entropy, around=bfloat16)
                assert same(gradients(model), gradients(twin))
            peaks.append(training.metrics.ranks[0].peak_device_bytes)
    assert peaks[0] == peaks[1]


# ---- ways of checkpointing ----


def costs_of(way: CheckpointWay, layers: nn.Sequential | None = None) -> Costs:
    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return (text(step, microbatches) if layers is None else numbers_of(step))[microbatch]

    model, loss = (gpt(), cross_entropy) if layers is None else (layers, mse_of)
    return checkpointed(la.calibrate(la.load(scenario(), model=model, data=data, loss=loss)), way)


@pytest.mark.parametrize("way", WAYS)
def test_units_are_checkpointed_as_the_costs_say(way: CheckpointWay) -> None:
    """And peaks are those of that way, gradients alike."""
    model, twin, costs = gpt(), gpt(), costs_of(way)
    assert bool(costs.lean_units) == (way == "lean")
    with la.TrainingStep(model, scenario(), loss=cross_entropy, costs=costs) as training:
        for step in range(2):
            mean = training(text(step))
            assert torch.equal(mean, plain_step(twin, training, step, text(step), cross_entropy))
            assert same(gradients(model), gradients(twin))
        predicted, measured = training.predicted.metrics.ranks, training.timeline().metrics.ranks
        assert [rank.peak_device_bytes for rank in predicted] == [rank.peak_device_bytes for rank in measured]
        assert training.warnings == ()


class Counting(nn.Module):
    """Counts where there is a graph, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.count += 1
        return self.linear(x)


class Leaf(nn.Module):
    """Goes another way where its input is a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (2.0 if x.is_leaf else 1.0)


@pytest.mark.parametrize("make", [Counting, Leaf])
def test_a_unit_that_is_not_the_same_without_a_graph_stays_sparing(make: type[nn.Module]) -> None:
    model, twin = with_layer(make), with_layer(make)
    others = costs_of("lean", with_layer(lambda: nn.Linear(8, 8)))
    assert (0, 1) in others.lean_units and (0, 1) not in costs_of("lean", with_layer(make)).lean_units
    with la.TrainingStep(model, scenario(), loss=mse_of, costs=others) as training:
        mean = training(numbers_of(0))
        assert torch.equal(mean, plain_step(twin, training, 0, numbers_of(0), mse_of))
        assert same(gradients(model), gradients(twin)) and same_state(model, twin)
        assert any("units 0.1 were calibrated with FORWARDs without a graph" in said for said in training.warnings)


# ---- in the user's own classes ----


def test_a_step_in_a_loss_is_refused_in_a_line() -> None:
    inner = la.TrainingStep(with_layer(Noisy), scenario(), loss=mse_of)

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inner(numbers_of(0))
        return mse_of(output, target)

    with la.TrainingStep(with_layer(Noisy), scenario(), loss=loss) as training, inner:
        inner(numbers_of(0))
        with pytest.raises(la.InputError, match="is called while another one runs"):
            training(numbers_of(0))


def test_a_copy_of_what_holds_a_step_trains_the_copy() -> None:
    class Trainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = with_layer(Noisy)
            self.training_step = la.TrainingStep(self.net, scenario(), loss=mse_of)

    first = Trainer()
    first.training_step(numbers_of(0))
    first.zero_grad()
    second = copy.deepcopy(first)
    with first.training_step, second.training_step:
        one, other = first.training_step(numbers_of(1)), second.training_step(numbers_of(1))
        assert torch.equal(one, other)
        assert same(gradients(first.net), gradients(second.net))
        assert all(a.grad is not b.grad for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_fused_optimizer_in_a_hook_is_refused() -> None:
    model = with_layer(Noisy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    model[0].weight.register_post_accumulate_grad_hook(lambda _: optimizer.step())
    training = la.TrainingStep(model, scenario(), loss=mse_of)
    with training, pytest.raises(la.InputError, match=r"an optimizer of the model's weights steps while the step runs"):
        training(numbers_of(0))
