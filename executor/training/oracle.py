"""Trains the user's module, called as it is, in the same order with the same seeds: no plan and no checkpoint."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from loadahead.executor.model.context import autocast
from loadahead.executor.model.errors import model_errors_in_one_line
from loadahead.executor.model.spec import Batch, copied
from loadahead.executor.tensors.randomness import Draws, seed_generators, seed_globals
from loadahead.executor.torch_settings import compiled_layers
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError, LoadaheadError, one_line
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan

_ALL = Draws(python=True, numpy=True)


def pass_orders(plan: Plan) -> tuple[list[int], list[int]]:
    """Return the orders in which microbatches go forward and backward; InputError if one differs between units.

    Sums of floating-point numbers depend on their order, so plain training has to use the plan's. What it trains is
    not the plan's to say: each microbatch of the step once, so that a plan that does anything else is in error.
    """
    trained: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    frozen = plan.is_frozen
    for op in plan:
        if op.kind in (Kind.FORWARD, Kind.BACKWARD) and not frozen[op.index]:
            order = trained.setdefault((op.stage, op.unit), ([], []))
            order[op.kind == Kind.BACKWARD].append(op.microbatch)
    forward, backward = next(iter(trained.values()), ([], []))
    for (stage, unit), (_, own) in trained.items():
        if sorted(own) != list(range(plan.microbatches)):
            raise InputError(_not_the_step(plan, f"{stage}.{unit}", own))
    for (stage, unit), (_, own) in trained.items():
        if own != backward:
            raise InputError(
                f"unit {stage}.{unit} back-propagates microbatches in the order {own[:8]}, others in {backward[:8]}; "
                "gradients can be checked only where all units have one order, run without the check of gradients"
            )
    # Units may go forward in different orders, as long as no module's state depends on it; the first unit's is taken.
    return forward, backward


def _not_the_step(plan: Plan, unit: str, order: Sequence[int]) -> str:
    """Return what is wrong where a unit's BACKWARDs are not those of the microbatches, each once."""
    counts = Counter(order)
    wrong = [microbatch for microbatch in range(plan.microbatches) if counts[microbatch] != 1]
    wrong += sorted(microbatch for microbatch in counts if not 0 <= microbatch < plan.microbatches)
    times = counts[wrong[0]]
    return (
        f"plan {plan.name!r} is not the whole step: unit {unit} has {times or 'no'} BACKWARD{'s' if times > 1 else ''} "
        f"of microbatch {wrong[0]}; it must have one of each of the {plan.microbatches} microbatches, from 0 on"
    )


class PlainTraining:
    """Trains a copy of a session's model beside it, as a user would. Make it before the session's first step.

    The module is called as it is; only the random states are set before each unit's first layer, from hooks. Gradients
    begin as None in every step, and one optimizer steps over all parameters.

    Attributes:
        named: the trained parameters by name.
        module: the copy.
    """

    def __init__(self, session: Session, forward: Sequence[int], backward: Sequence[int]) -> None:
        self._session, self._forward, self._backward = session, forward, backward
        self.module = _copy_of(session.model.module)
        self.named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self._optimizer = session.spec.make_optimizer(list(self.named.values())) if self.named else None
        first = {
            unit.layers[0]: (stage, index)
            for stage, units in enumerate(session.in_units.workload.stages)
            for index, unit in enumerate(units)
        }
        self._seeding = _Seeding(self.module, first, session)

    def train(self, step: int, batches: Sequence[Batch]) -> list[float]:
        """Accumulate the step's gradients, and return each microbatch's loss, divided by their number."""
        if self._optimizer is not None:
            self._optimizer.zero_grad()
        losses = [0.0] * len(batches)
        with model_errors_in_one_line("in plain training, without a plan"):
            if list(self._forward) == list(self._backward):
                for microbatch in self._forward:
                    losses[microbatch] = self._back(self._loss(step, microbatch, batches))
            else:
                made = {microbatch: self._loss(step, microbatch, batches) for microbatch in self._forward}
                for microbatch in self._backward:
                    losses[microbatch] = self._back(made.pop(microbatch))
        return losses

    def optimize(self) -> None:
        """Take the optimizer's step."""
        try:
            if self._optimizer is not None:
                self._optimizer.step()
        except (LoadaheadError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            kind = type(error).__name__
            raise InputError(
                f"the optimizer fails in plain training, without a plan: {kind}: {one_line(error)}; use another one"
            ) from error

    def _loss(self, step: int, microbatch: int, batches: Sequence[Batch]) -> torch.Tensor:
        x, target = batches[microbatch]
        with self._seeding.of(step, microbatch), autocast(self._session.device, self._session.in_units.autocast):
            return self._session.loss_of(target, len(batches))(self.module(x))

    @staticmethod
    def _back(loss: torch.Tensor) -> float:
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


def _copy_of(module: nn.Sequential) -> nn.Sequential:
    """Return a copy of the module, of its own class; InputError where it cannot be copied."""
    try:
        out = copy.copy(module)
        out._modules = dict(zip(module._modules, copied(list(module)), strict=True))
    except Exception as error:  # whatever a module's own copying does
        kind = type(error).__name__
        raise InputError(
            f"the model cannot be copied for the check of gradients ({kind}: {one_line(error)}); run without the check",
            parameters=("check",),
        ) from error
    return out


class _Seeding:
    """Sets the random states before each unit's first layer, wherever the module calls it."""

    def __init__(self, module: nn.Sequential, first: dict[int, tuple[int, int]], session: Session) -> None:
        self._first, self._session = first, session
        self._at = self._inside = 0
        self._step: tuple[int, int] | None = None
        layers = {id(layer): layer for layer in module}
        # torch's own modules go other ways where they have hooks; TorchScript modules take none.
        self._known = set() if compiled_layers(module) else set(layers)
        for key, layer in layers.items():
            if key not in self._known:
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(self._leave, always_call=True)

    @contextmanager
    def of(self, step: int, microbatch: int) -> Iterator[None]:
        """Set the states of this step and microbatch inside."""
        self._at = self._inside = 0
        self._step = step, microbatch
        with ExitStack() as stack:
            if self._known:
                hooks = torch.nn.modules.module
                for hook in (
                    hooks.register_module_forward_pre_hook(lambda part, *_: self._if_known(part, self._enter)),
                    hooks.register_module_forward_hook(lambda part, *_: self._if_known(part, self._leave)),
                ):
                    stack.callback(hook.remove)
            stack.callback(setattr, self, "_step", None)
            yield

    def _if_known(self, part: nn.Module, do: Callable[[], None]) -> None:
        if id(part) in self._known:
            do()

    def _enter(self, *_: Any) -> None:
        # A layer may call another of them.
        if self._step is not None and not self._inside and (key := self._first.get(self._at)) is not None:
            step, microbatch = self._step
            seed = self._session.seed(step, *key, microbatch)
            seed_generators(seed, self._session.device)
            seed_globals(seed, _ALL)
        self._inside += 1

    def _leave(self, *_: Any) -> None:
        self._inside -= 1
        self._at += not self._inside


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors of one shape and type hold the same bits."""
    return torch.equal(_bits(a), _bits(b))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
