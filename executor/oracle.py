"""Trains the same model in the same order with the same seeds under plain autograd: no plan, no checkpoint."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch

from loadahead.executor.checkpoint import autocast, model_errors_in_one_line
from loadahead.executor.randomness import seeded_state, set_state
from loadahead.executor.session import Session, primed_optimizer
from loadahead.executor.spec import Batch
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan


def backward_order(plan: Plan) -> list[int]:
    """Return the order in which microbatches' gradients add up; InputError if it differs between units.

    Sums of floating-point numbers depend on their order, so plain training has to use the plan's. What it trains is
    not the plan's to say: each microbatch of the step once, so that a plan that does anything else is in error.
    """
    orders: dict[tuple[int, int], list[int]] = {}
    for op in plan:
        if op.kind in (Kind.FORWARD, Kind.BACKWARD):
            order = orders.setdefault((op.stage, op.unit), [])
            if op.kind == Kind.BACKWARD:
                order.append(op.microbatch)
    first = next(iter(orders.values()), [])
    for (stage, unit), order in orders.items():
        if sorted(order) != list(range(plan.microbatches)):
            raise InputError(_not_the_step(plan, f"{stage}.{unit}", order))
    for (stage, unit), order in orders.items():
        if order != first:
            raise InputError(
                f"unit {stage}.{unit} back-propagates microbatches in the order {order[:8]}, others in {first[:8]}; "
                "gradients can be checked only where all units have one order, run without the check of gradients"
            )
    return first


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
    """Trains a deep copy of a session's model beside it. Make it before the session's first step."""

    def __init__(self, session: Session, order: Sequence[int]) -> None:
        self._session, self._order = session, order
        self._module = copy.deepcopy(session.model.module)
        self._parameters = [p for p in self._module.parameters() if p.requires_grad]
        self._optimizer = primed_optimizer(session.spec, self._parameters)

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        """Accumulate the step's gradients, take the optimizer's step, and return the loss."""
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=False)
        with model_errors_in_one_line("in plain training, without a plan"):
            losses = {microbatch: self._microbatch(step, microbatch, batches) for microbatch in self._order}
        if self._optimizer is not None:
            self._optimizer.step()
        return sum(losses[microbatch] for microbatch in sorted(losses))

    def _microbatch(self, step: int, microbatch: int, batches: Sequence[Batch]) -> float:
        session = self._session
        x, target = batches[microbatch]
        layers = list(self._module)
        with autocast(session.device, session.dtype):
            for stage, units in enumerate(session.workload.stages):
                for unit, shape in enumerate(units):
                    seed = session.seed(step, stage, unit, microbatch)
                    set_state(seeded_state(seed, session.device), session.device)
                    for layer in layers[shape.layers[0] : shape.layers[1]]:
                        x = layer(x)
            loss = session.loss_of(target, len(batches))(x)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def max_error(self, step: int) -> float:
        """Return the largest difference of the session's gradients from these; 0.0 means that every bit is equal.

        Raises CheckFailed where the plan's gradient is not finite and this one is: it comes from memory that
        was read before it was written.
        """
        worst = 0.0
        names = [name for name, p in self._module.named_parameters() if p.requires_grad]
        planned_parameters = [p for p in self._session.model.module.parameters() if p.requires_grad]
        for name, plain, planned in zip(names, self._parameters, planned_parameters, strict=True):
            assert plain.grad is not None and planned.grad is not None
            if same_bits(plain.grad, planned.grad):
                continue
            error = float((plain.grad.double() - planned.grad.double()).abs().max())
            if not error < float("inf"):
                raise CheckFailed(
                    f"the gradient of {name} is not finite in step {step}, plain training's is: the plan lets an "
                    "operation read memory before it was written (a missing wait)"
                )
            # Where only the bits differ, zeros have different signs: the smallest error stands for them.
            worst = max(worst, error, float.fromhex("0x1p-1074"))
        return worst


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors of one shape and type hold the same bits; two equal NaNs are the same."""
    return torch.equal(a, b) or torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
