"""A plain training loop's step, as the docs write it: what a TrainingStep must equal, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from loadahead import TrainingStep
from tests.support.seeding import seed_cpu


def plain_step(
    layers: Iterable[nn.Module],
    training: TrainingStep,
    step: int,
    batches: Sequence[tuple[Any, Any]],
    loss: Callable[[Any, Any], torch.Tensor],
    *,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    scaler: Any = None,
) -> torch.Tensor:
    """Run forward and backward passes one microbatch after the other; ``training`` is asked for seeds and units alone.

    Gradients are those of a model whose ranks go backward through microbatches in their order.
    """
    total = None
    before = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        for microbatch, (value, target) in enumerate(batches):
            rest = iter(layers)
            with around():
                for unit, count in enumerate(training.units):
                    seed_cpu(training.seeds[step, unit, microbatch])
                    for _ in range(count):
                        value = next(rest)(value)
                part = loss(value, target) / len(batches)
            (part if scaler is None else scaler.scale(part)).backward()
            total = part.detach() if total is None else total + part.detach()
    finally:
        torch.set_num_threads(before[0])
        torch.set_rng_state(before[1])
    assert total is not None
    return total


def gradients(layers: Iterable[nn.Module]) -> list[torch.Tensor | None]:
    return [parameter.grad for layer in layers for parameter in layer.parameters()]


def same(one: Sequence[torch.Tensor | None], other: Sequence[torch.Tensor | None]) -> bool:
    """Whether all tensors are equal in every digit, and None where the others are."""
    return len(one) == len(other) and all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(one, other, strict=True)
    )


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Whether weights and buffers are equal in every digit."""
    return same(list(one.state_dict().values()), list(other.state_dict().values()))
