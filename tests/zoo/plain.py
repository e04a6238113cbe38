"""Trains a model as anybody would, in a dozen lines: no plan, no units, no memory that is given back.

It is the judge of the executor, and so shares nothing with it but the seeds: random numbers depend on the plan's units.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from loadahead.executor.tensors.randomness import seed_of
from tests.support.seeding import seed_cpu

Loss = Callable[[Tensor, Tensor], Tensor]
Data = Callable[[int, int, int], tuple[Any, Tensor]]
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Names a unit of the plan and the first of its layers."""

    stage: int
    unit: int
    layer: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Holds what training left.

    Attributes:
        losses: one per step, the mean over its microbatches.
        gradients: the last step's by the weight's name; None where the weight got none.
        state: the state dict at the end.
        optimizer: the optimizer's state by the weight's name, in the order of the weights; only of what it has stepped.
    """

    losses: list[float]
    gradients: dict[str, Tensor | None]
    state: dict[str, Any]
    optimizer: dict[str, dict[str, Any]]


def train(
    build: Callable[[], nn.Sequential],
    data: Data,
    loss: Loss,
    *,
    units: Sequence[Unit],
    steps: int,
    microbatches: int,
    optimizer: str = "adamw",
    learning_rate: float = 1e-2,
    autocast: str = "none",
) -> Trained:
    """Build the model and train it; ``units`` are those of the plan, whose first layers random numbers start at."""
    with _alone():
        _seed_all(SEED)
        module = build()
        place = {"step": 0, "microbatch": 0}
        make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
        chosen: Any = make(module.parameters(), lr=learning_rate)
        losses = []
        with _seeded_units(module, units, place):
            for step in range(steps):
                chosen.zero_grad()
                total = 0.0
                for microbatch in range(microbatches):
                    place.update(step=step, microbatch=microbatch)
                    x, target = data(step, microbatch, microbatches)
                    with torch.autocast("cpu", torch.bfloat16, enabled=autocast == "bfloat16"):
                        part = loss(module(x), target) / microbatches
                    part.backward()  # type: ignore[no-untyped-call]
                    total += float(part.detach())
                chosen.step()
                losses.append(total)
    weights = dict(module.named_parameters())
    return Trained(
        losses=losses,
        gradients={name: weight.grad for name, weight in weights.items()},
        state=module.state_dict(),
        optimizer={name: dict(chosen.state[weight]) for name, weight in weights.items() if chosen.state[weight]},
    )


@contextmanager
def _seeded_units(module: nn.Sequential, units: Sequence[Unit], place: dict[str, int]) -> Iterator[None]:
    """Seed all generators of the process before each unit's first layer. A layer may stand in several places."""
    at = {unit.layer: unit for unit in units}
    stands = {layer: [index for index, other in enumerate(module) if other is layer] for layer in module}
    calls = dict.fromkeys(stands, 0)

    def seed(layer: nn.Module, given: Any) -> None:
        if layer not in stands:
            return
        unit = at.get(stands[layer][calls[layer] % len(stands[layer])])
        calls[layer] += 1
        if unit is not None:
            _seed_all(seed_of(SEED, place["step"], unit.stage, unit.unit, place["microbatch"]))

    # Scripted layers have no hooks of their own.
    hook = register_module_forward_pre_hook(seed)
    try:
        yield
    finally:
        hook.remove()


def _seed_all(number: int) -> None:
    seed_cpu(number)
    random.seed(number)
    np.random.seed(number % 2**32)


@contextmanager
def _alone() -> Iterator[None]:
    """Use one thread per operator, as sums depend on their number; put back all random states."""
    threads, states = torch.get_num_threads(), (torch.get_rng_state(), random.getstate(), np.random.get_state())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
