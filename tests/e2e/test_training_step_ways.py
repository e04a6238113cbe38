"""la.TrainingStep where units do what the first batch did not show, and where costs say how they are checkpointed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.sim.costs import CheckpointWay
from tests.e2e.test_training_step import M, cross_entropy, gpt, scenario, text
from tests.support.plain_loop import gradients, plain_step, same
from tests.support.ways import checkpointed


class Noisy(nn.Module):
    """Drops numbers out by a switch of its own, which no train flag tells."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.noisy = nn.Linear(8, 8), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.linear(x), 0.5, training=self.noisy)


@pytest.mark.parametrize("ranks", [1, 2])
def test_random_numbers_that_the_first_batch_did_not_draw(ranks: int) -> None:
    """The step says so and is given up, rather than back-propagate through other numbers; then they are known."""

    def build() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), Noisy(), nn.Linear(8, 4))

    model, twin = build(), build()
    tables = scenario(parallel={"pipeline_parallel_degree": ranks})
    with la.TrainingStep(model, tables, loss=mse_of) as training:
        if ranks == 1:
            training(numbers_of(0))
            model[1].noisy = twin[1].noisy = True
        else:  # where ranks share a process, the first step alone is looked at so
            assert training.step == 0
            training._bind(numbers_of(0), training._model.condition(None))
            model[1].noisy = twin[1].noisy = True
        with pytest.raises(
            la.InputError, match=r"draws random numbers, which it did not do .* zero them and call again"
        ):
            training(numbers_of(1))
        model.zero_grad()
        step = training.step
        mean = training(numbers_of(1))
        assert torch.equal(mean, plain_step(twin, training, step, numbers_of(1), mse_of))
        assert same(gradients(model), gradients(twin))


def numbers_of(step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    made = torch.Generator().manual_seed(step)
    return [(torch.randn(6, 8, generator=made), torch.randn(6, 4, generator=made)) for _ in range(M)]


def mse_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.mse_loss(output, target)


@pytest.mark.parametrize("way", ["sparing", "lean"])
def test_units_are_checkpointed_as_the_costs_say(way: CheckpointWay) -> None:
    """And peaks are those of that way, gradients alike."""
    model, twin = gpt(), gpt()

    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return text(step, microbatches)[microbatch]

    measured = la.calibrate(la.load(scenario(), model=gpt(), data=data, loss=cross_entropy))
    costs = checkpointed(measured, way)
    assert bool(costs.lean_units) == (way == "lean")
    with la.TrainingStep(model, scenario(), loss=cross_entropy, costs=costs) as training:
        for step in range(2):
            mean = training(text(step))
            assert torch.equal(mean, plain_step(twin, training, step, text(step), cross_entropy))
            assert same(gradients(model), gradients(twin))
        peaks = [
            [rank.peak_device_bytes for rank in t.metrics.ranks] for t in (training.predicted, training.timeline())
        ]
        assert peaks[0] == peaks[1]
