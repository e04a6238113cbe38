"""Compares a step with plain training, and says where they differ first and whose fault that can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from loadahead.executor.training.oracle import PlainTraining, same_bits
from loadahead.executor.training.session import Session
from loadahead.sim.errors import CheckFailed, InputError

# Where only the bits of two numbers differ, zeros have different signs; the smallest number stands for that.
_SIGN_OF_ZERO = float.fromhex("0x1p-1074")
DEPENDS = (
    "RECOMPUTE saw other values than FORWARD, as the unit depends on something outside it that has changed since then, "
    "such as an object that layers share, or a random generator that torch, Python and numpy do not know; hand such "
    "values from layer to layer, or keep them in buffers"
)
_MISSING_WAIT = "the plan lets an operation read memory before it was written (a missing wait)"


@dataclass(slots=True)
class Differences:
    """Collects what differs between a plan's run and plain training.

    Attributes:
        worst: the largest difference of a gradient, a loss or a buffer so far.
        allowed: the largest that the order of a sum explains, over all weights that several units share.
        first: what differs first that nothing explains, in a sentence; None where nothing does.
    """

    worst: float = 0.0
    allowed: float = 0.0
    first: str | None = None
    _rounded: float = 0.0
    _shared: tuple[str, int] | None = None

    @property
    def allowed_now(self) -> float:
        """Return the largest difference that is allowed: none once something differs that rounding does not explain."""
        return self.allowed if self.first is None and self.rounding is not None else 0.0

    @property
    def rounding(self) -> str | None:
        """Return the sentence about weights that several units share; None as long as none of them differs."""
        if self._shared is None:
            return None
        share, step = self._shared
        return (
            f"{share}: its gradient adds up in the order of their BACKWARDs, plain training adds each microbatch's "
            f"parts first; from step {step} on it differs by up to {self._rounded:.3g}, which is within the rounding "
            f"of the sum ({self.allowed:.3g})"
        )

    @property
    def sentence(self) -> str | None:
        """Return what there is to say, None where all is equal."""
        return self.first or self.rounding

    def compare(
        self,
        step: int,
        session: Session,
        plain: PlainTraining,
        losses: Sequence[float],
        plain_losses: Sequence[float],
    ) -> None:
        """Compare one step's losses, gradients and buffers, after the plan's optimizer step and before the other's.

        Raises CheckFailed where the plan's losses or gradients are not finite and plain training's are: they come from
        memory that was read before it was written.
        """
        unequal_loss = _first_unequal(losses, plain_losses)
        found = self._gradients(step, session, plain)
        found = found or self._buffers(step, session, plain)
        if unequal_loss is not None:
            microbatch, error = unequal_loss
            if not error < math.inf:
                raise CheckFailed(
                    f"the loss of microbatch {microbatch} is not finite in step {step}, plain training's is: "
                    f"{_MISSING_WAIT}"
                )
            self.worst = max(self.worst, error)
        if self.first is None and (found or unequal_loss is not None):
            what = [found] if found else []
            if unequal_loss is None:
                what.append("the losses are equal")
            elif found:
                what.append(f"the loss of microbatch {unequal_loss[0]} differs as well")
            else:
                what.append(f"the loss of microbatch {unequal_loss[0]} differs by {unequal_loss[1]:.6g}")
            self.first = f"step {step}: {'; '.join(what)}{_explained(session, unequal_loss is not None)}"

    def _gradients(self, step: int, session: Session, plain: PlainTraining) -> str | None:
        """Return which gradient differs first and by how much, in words."""
        named = {name: p for name, p in session.model.module.named_parameters() if p.requires_grad}
        shared, unused, gradients = session.in_units.shared_weights(), session.unused(), session.gradients()
        first = None
        for name, parameter in named.items():
            ours, theirs = gradients.get(id(parameter)), plain.named[name].grad
            if theirs is not None and theirs.layout is not torch.strided:
                theirs = theirs.to_dense()
            if ours is not None and ours.layout is not torch.strided:
                ours = ours.to_dense()
            if ours is None and theirs is None:
                continue
            if ours is None:
                ours = torch.zeros_like(parameter)
            if theirs is None or id(parameter) in unused:
                if theirs is not None or id(parameter) not in unused:
                    largest = float((ours if theirs is None else theirs).abs().max())
                    whose = "plain training" if theirs is None else "the plan's run"
                    first = first or f"{whose} has no gradient of {name}{_unit(session, name)}, and the other has one"
                    self.worst = max(self.worst, largest, _SIGN_OF_ZERO)
                continue
            if same_bits(ours, theirs):
                continue
            error = _largest_difference(ours, theirs)
            if not error < math.inf:
                if not bool(torch.isfinite(theirs).all()):
                    continue  # what is not finite in plain training either is said elsewhere
                raise CheckFailed(
                    f"the gradient of {name} is not finite in step {step}, plain training's is: {_MISSING_WAIT}"
                )
            error = max(error, _SIGN_OF_ZERO)
            if name in shared and self._is_rounding(step, name, shared[name], ours, theirs, error, session):
                # From here on both take the same step, so that all else stays comparable bit for bit.
                plain.named[name].grad = ours.clone()
                self.worst = max(self.worst, error)
                continue
            first = first or f"the gradient of {name}{_unit(session, name)} differs by up to {error:.6g}"
            self.worst = max(self.worst, error)
        return first

    def _is_rounding(
        self,
        step: int,
        name: str,
        units: Sequence[str],
        ours: torch.Tensor,
        theirs: torch.Tensor,
        error: float,
        session: Session,
    ) -> bool:
        """Return whether the order of a sum over units and microbatches explains a difference, and note it."""
        terms = len(units) * session.microbatches
        largest = float(torch.maximum(ours.abs(), theirs.abs()).max())
        eps = torch.finfo(ours.dtype).eps
        if any(unit.autocasts for unit in session.in_units.units.values()):
            # Plain training casts the weight once and adds up the gradients of that; a unit adds its own in full.
            eps = max(eps, torch.finfo(session.in_units.autocast or torch.bfloat16).eps)
        bound = 4 * terms * eps * largest
        if error > bound:
            return False
        self.allowed, self._rounded = max(self.allowed, bound), max(self._rounded, error)
        if self._shared is None:
            self._shared = f"units {', '.join(units[:-1])} and {units[-1]} share the weight {name}", step
        return True

    def _buffers(self, step: int, session: Session, plain: PlainTraining) -> str | None:
        """Return which of the module's buffers differs first."""
        theirs = dict(plain.module.named_buffers())
        for name, buffer in session.model.module.named_buffers():
            other = theirs.get(name)
            if other is None or buffer.layout is not torch.strided or buffer.is_quantized:
                continue
            if other.shape != buffer.shape or other.dtype != buffer.dtype:
                self.worst = max(self.worst, _SIGN_OF_ZERO)
                return f"the buffer {name}{_unit(session, name)} has another shape or type"
            if not same_bits(buffer, other):
                error = _largest_difference(buffer, other)
                self.worst = max(self.worst, error if error < math.inf else 0.0, _SIGN_OF_ZERO)
                return f"the buffer {name}{_unit(session, name)} differs by up to {error:.6g}"
        return None


def _than(session: Session) -> str:
    """Return the learning rate in words, where there is one."""
    optimizers = [stage.optimizer for stage in session.optimizers if stage.optimizer is not None]
    rates = {group["lr"] for optimizer in optimizers for group in optimizer.param_groups}
    return f" than {rates.pop()}" if len(rates) == 1 else ""


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((other.to(torch.complex128) - one.to(torch.complex128)).abs().max())


def _first_unequal(losses: Sequence[float], others: Sequence[float]) -> tuple[int, float] | None:
    """Return the first microbatch whose losses differ, and by how much."""
    for microbatch, (one, other) in enumerate(zip(losses, others, strict=True)):
        if one != other and math.isfinite(other):
            return microbatch, abs(one - other)
    return None


def _unit(session: Session, name: str) -> str:
    """Return which unit holds the parameter or buffer of this name, in words."""
    index = name.partition(".")[0]
    for (stage, unit), shape in zip(session.in_units.units, _layers(session), strict=True):
        if index.isdigit() and shape[0] <= int(index) < shape[1]:
            return f" (unit {stage}.{unit})"
    return ""


def _layers(session: Session) -> list[tuple[int, int]]:
    return [unit.layers for stage in session.in_units.workload.stages for unit in stage]


def recompute_differences(session: Session) -> tuple[str | None, str | None]:
    """Return what a RECOMPUTE found otherwise than its FORWARD, in its boundary and in what it saved; None: nothing."""
    reread = different = None
    for unit in session.in_units.units.values():
        for microbatch, what in sorted(unit.seen.reread.items()):
            reread = reread or f"RECOMPUTE of unit {unit.name}, microbatch {microbatch}: {what}"
        for microbatch, what in sorted(unit.seen.different.items()):
            different = different or f"RECOMPUTE of unit {unit.name}, microbatch {microbatch}: {what}"
    return reread, different


def _explained(session: Session, loss_differs: bool) -> str:
    """Return what else differs or does not, and whose fault it can be."""
    reread, different = recompute_differences(session)
    if reread is not None:
        return f"; {reread}: the plan or the backend is wrong, an operation has read memory in another's turn"
    if different is not None:
        return f"; {different}, though it read the same boundary: {DEPENDS}"
    if loss_differs:
        return (
            ", and no RECOMPUTE differs from its FORWARD: the units' FORWARDs do something else than the module called "
            "as it is, as they do where layers share an object that the order of microbatches changes"
        )
    return (
        ", and every RECOMPUTE saved what its FORWARD had saved: the difference arises in BACKWARD, in an autograd "
        "function that reads something changed since its FORWARD, or in memory that the plan or the backend gives to "
        "another too early"
    )


def require_finite(step: int, session: Session, losses: Sequence[float], loss: float, plain: bool) -> None:
    """Raise InputError where a loss or a gradient of the step is not finite, with advice that fits.

    ``plain`` says whether plain training's are the same.
    """
    same = ", and so it is in plain training" if plain else ""
    if not math.isfinite(loss):
        bad = next((m for m, value in enumerate(losses) if not math.isfinite(value)), 0)
        advice = (
            "no optimizer step has been taken yet: the model, its data or its loss makes it"
            if step == 0
            else f"the steps before were finite: a smaller learning rate{_than(session)} may help"
        )
        raise InputError(f"the loss of step {step} is {loss} (microbatch {bad}){same}; {advice}")
    for name, parameter in session.model.module.named_parameters():
        gradient = parameter.grad
        if gradient is not None and gradient.layout is not torch.strided:
            gradient = gradient.coalesce().values()
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            raise InputError(
                f"the gradient of {name}{_unit(session, name)} is not finite in step {step}{same}, though the loss is "
                f"({loss:.6g}): the optimizer makes the weights NaN; the model's backward pass divides by zero or "
                "meets infinity, e.g. in a softmax over a row that is masked throughout"
            )
