"""The optimizers of a model's stages: gradients and state that are resident from the start, and steps as in training.

Plain training leaves the gradient of a weight that no microbatch used None, and an optimizer passes that weight by.
Here gradients are memory that stays, so an optimizer's step is told which of them are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from loadahead.executor.spec import ModelSpec


def primed_optimizer(spec: ModelSpec, parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """Give the parameters gradients of zeros, and return the state that the spec's optimizer makes for them.

    An optimizer makes its state at its first step. One with a learning rate of 0 and gradients of 0 changes no
    parameter.
    """
    return [tensor for state in _states(spec, parameters).values() for tensor in state]


def _states(spec: ModelSpec, parameters: Sequence[nn.Parameter]) -> dict[torch.Tensor, list[torch.Tensor]]:
    if not parameters:
        return {}
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = spec.make_optimizer(list(parameters))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    return {
        parameter: [value for value in state.values() if isinstance(value, torch.Tensor)]
        for parameter, state in optimizer.state.items()
    }


class StageOptimizer:
    """Holds the optimizer of one stage's trained parameters; its gradients are made here and stay.

    Memory for its state is held from the start: until a parameter's first step by stand-ins of the same bytes.

    Attributes:
        unused: the parameters to whose gradients no microbatch had added anything when the last step was taken.
    """

    def __init__(self, spec: ModelSpec, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._placeholders = _states(spec, self.parameters)
        self.optimizer = spec.make_optimizer(self.parameters) if self.parameters else None
        self._versions = [0] * len(self.parameters)
        self.unused: tuple[nn.Parameter, ...] = ()

    def zero_gradients(self) -> None:
        """Zero the gradients in place."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if gradients:
            torch._foreach_zero_(gradients)
        self._versions = [gradient._version for gradient in gradients]

    def step(self) -> None:
        """Take the optimizer's step, by which parameters without a gradient are passed."""
        if self.optimizer is None:
            return
        pairs = zip(self.parameters, self._versions, strict=True)
        # Looked at now, as some optimizers write into gradients.
        unused = {p: p.grad for p, version in pairs if p.grad is not None and p.grad._version == version}
        self.unused = tuple(unused)
        for parameter in unused:
            parameter.grad = None
        if self._placeholders:
            for parameter in self.parameters:
                if parameter not in unused:
                    self._placeholders.pop(parameter, None)
        self.optimizer.step()
        for parameter, gradient in unused.items():
            parameter.grad = gradient

    def state(self) -> Iterator[torch.Tensor]:
        """Yield the tensors of the optimizer's state, stand-ins included."""
        for tensors in self._placeholders.values():
            yield from tensors
        for state in self.optimizer.state.values() if self.optimizer is not None else ():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))
