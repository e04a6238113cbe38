"""la.TrainingStep with random delays in every queue and poison in what the plan frees: no bit changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.executor.backends import BACKENDS
from loadahead.executor.backends.cpu import CpuBackend
from tests.e2e.test_training_step import cross_entropy, gpt, numbers, require_equal, scenario, text
from tests.support.plain_loop import gradients, plain_step, same


@pytest.fixture(autouse=True)
def disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "cpu", lambda **settings: CpuBackend(**settings | {"delays": 5, "poisoned": True}))


@pytest.mark.parametrize("ranks", [1, 2])
def test_delays_and_poison_change_nothing(ranks: int) -> None:
    require_equal(gpt, text, scenario(parallel={"pipeline_parallel_degree": ranks}))


class AddTable(nn.Module):
    """Adds a weight of another shape: the weight's gradient is a view of what comes in, and of what is handed on."""

    def __init__(self, size: int, outside: bool) -> None:
        super().__init__()
        self.table, self.outside = nn.Parameter(torch.linspace(-1, 1, size)), outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x + self.table.reshape(x.shape)
        return out if self.outside else out.sin()


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_first_gradient_does_not_lie_in_memory_of_the_plan(outside: bool, ranks: int) -> None:
    """Autograd keeps a weight's first gradient as it comes, be it a view of one that the plan frees or sends."""

    def build() -> nn.Sequential:
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), AddTable(96, outside), nn.Linear(16, 4))

    tables = scenario(
        parallel={"pipeline_parallel_degree": ranks}, checkpoint={"partition": [4] if ranks == 1 else [2, 2]}
    )
    model, twin = build(), build()
    with la.TrainingStep(model, tables, loss=cross_entropy) as training:
        for step in range(2):
            training(numbers(step))
            plain_step(twin, training, step, numbers(step), cross_entropy)
            assert same(gradients(model), gradients(twin))
            model.zero_grad()
            twin.zero_grad()
