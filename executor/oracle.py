"""The oracle: the same model, microbatch order and random seeds under plain autograd - no plan, no checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from loadahead.executor.checkpoint import autocast, one_line
from loadahead.executor.randomness import seeded_state, set_state
from loadahead.executor.session import Session, primed_optimizer
from loadahead.executor.spec import Batch
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan


def backward_order(plan: Plan) -> list[int]:
    """The order in which microbatches' gradients add up; InputError if it differs between units.

    Sums of floating-point numbers depend on their order, so plain training has to use the plan's.
    """
    orders: dict[tuple[int, int], list[int]] = {}
    for op in plan:
        if op.kind == Kind.BACKWARD:
            orders.setdefault((op.stage, op.unit), []).append(op.microbatch)
    first = next(iter(orders.values()), [])
    for (stage, unit), order in orders.items():
        if order != first:
            raise InputError(
                f"unit {stage}.{unit} back-propagates microbatches in the order {order[:8]}, others in {first[:8]}; "
                "gradients can be checked only where all units have one order, run with --no-check"
            )
    return first


class PlainTraining:
    """A deep copy of a session's model, trained beside it. Make it before the session's first step."""

    def __init__(self, session: Session, order: Sequence[int]) -> None:
        self._session, self._order = session, order
        self._module = copy.deepcopy(session.model.module)
        self._parameters = [p for p in self._module.parameters() if p.requires_grad]
        self._optimizer = primed_optimizer(session.spec, self._parameters)

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        """Accumulate the step's gradients and take the optimizer's step; returns the loss."""
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=False)
        with one_line("in plain training, without a plan"):
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
        """Largest difference of the session's gradients from these: 0.0 means every bit is equal.

        CheckFailed where the plan's gradient is not finite and this one is: the mark of memory that was read before it
        was written.
        """
        worst = 0.0
        names = [name for name, p in self._module.named_parameters() if p.requires_grad]
        theirs = [p for p in self._session.model.module.parameters() if p.requires_grad]
        for name, mine, their in zip(names, self._parameters, theirs, strict=True):
            assert mine.grad is not None and their.grad is not None
            if same_bits(mine.grad, their.grad):
                continue
            error = float((mine.grad.double() - their.grad.double()).abs().max())
            if not error < float("inf"):
                raise CheckFailed(
                    f"the gradient of {name} is not finite in step {step}, plain training's is: the plan lets an "
                    "operation read memory before it was written (a missing wait)"
                )
            # Bits that differ where numbers do not are zeros of different sign.
            worst = max(worst, error, float.fromhex("0x1p-1074"))
        return worst


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape and type hold the same bits; two equal NaNs are the same."""
    return torch.equal(a, b) or torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
