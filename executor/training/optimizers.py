"""The optimizers of a model's stages: gradients and state that are resident from the start, and steps as in training.

Plain training leaves the gradient of a weight that no microbatch used None, and an optimizer passes that weight by.
Here gradients are memory that stays, so an optimizer's step is told which of them are none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.tensors.sparse import without_rows
from loadahead.sim.errors import InputError, LoadaheadError, one_line


def primed_optimizer(
    spec: ModelSpec, parameters: Sequence[nn.Parameter], sparse: Collection[int]
) -> list[torch.Tensor]:
    """Give the parameters gradients of zeros, and return the state that the spec's optimizer makes for them.

    An optimizer makes its state at its first step. One with a learning rate of 0 and gradients of 0 changes no
    parameter. ``sparse`` holds ids of weights whose gradients are not resident.
    """
    return [tensor for state in _states(spec, parameters, sparse).values() for tensor in state]


def _states(
    spec: ModelSpec, parameters: Sequence[nn.Parameter], sparse: Collection[int]
) -> dict[torch.Tensor, list[torch.Tensor]]:
    if not parameters:
        return {}
    for parameter in parameters:
        parameter.grad = without_rows(parameter) if id(parameter) in sparse else torch.zeros_like(parameter)
    optimizer = spec.make_optimizer(list(parameters))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    try:
        optimizer.step()
    except (LoadaheadError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise InputError(f"the optimizer fails: {kind}: {one_line(error)}; use another one") from error
    for parameter in parameters:
        if id(parameter) in sparse:
            parameter.grad = None
    return {
        parameter: [value for value in state.values() if isinstance(value, torch.Tensor)]
        for parameter, state in optimizer.state.items()
    }


class StageOptimizer:
    """Holds the optimizer of one stage's trained parameters; its gradients are made here and stay.

    Memory for its state is held from the start: until a parameter's first step by stand-ins of the same bytes.

    Attributes:
        copied: whether gradients are copied before a step, as some optimizers write into them.
        copies: these copies of the last step's.
        unused: the parameters to whose gradients no microbatch had added anything when the last step was taken.
    """

    def __init__(self, spec: ModelSpec, parameters: Sequence[nn.Parameter], sparse: Collection[int] = ()) -> None:
        self.parameters = list(parameters)
        self._sparse = [p for p in self.parameters if id(p) in sparse]
        self._placeholders = _states(spec, self.parameters, sparse)
        self.optimizer = spec.make_optimizer(self.parameters) if self.parameters else None
        for parameter in self.optimizer.state if self.optimizer is not None else ():
            self._placeholders.pop(parameter, None)  # some make it at once
        self._versions = [0] * len(self.parameters)
        self.unused: tuple[nn.Parameter, ...] = ()
        self.copied = False
        self.copies: dict[nn.Parameter, torch.Tensor] = {}

    def zero_gradients(self) -> None:
        """Make the gradients zeros in place; drop sparse ones.

        The zeros are negative: what is added to such a zero stays as it is, bit for bit, as where none was before.
        """
        for parameter in self._sparse:
            parameter.grad = None
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if gradients:
            torch._foreach_zero_(gradients)
            torch._foreach_neg_(gradients)
        self._versions = [-1 if p.grad is None else p.grad._version for p in self.parameters]

    def step(self) -> None:
        """Take the optimizer's step, by which parameters without a gradient are passed."""
        if self.optimizer is None:
            return
        if self.copied:
            with _disable_current_modes():  # a meter need not see the copies
                self.copies = {p: p.grad.clone() for p in self.parameters if p.grad is not None}
        pairs = zip(self.parameters, self._versions, strict=True)
        # Looked at now, as some optimizers write into gradients.
        unused = {p: p.grad for p, version in pairs if p.grad is None or p.grad._version == version}
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
