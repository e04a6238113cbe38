"""What the comparison of a run with plain training found: one verdict, for texts, pages and the exit status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_ERROR, ALLOWED, DIFFERENCES = "max_grad_error", "grad_error_allowed", "differences"
EQUAL = "every gradient, loss and buffer equals plain training's, bit for bit"
NOT_CHECKED = "gradients were not checked"

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCheck:
    """Holds how a run's steps differ from those of the same model without plan or offload.

    Attributes:
        max_grad_error: the largest difference of any gradient; None where nothing was compared.
        grad_error_allowed: how large it may be: above 0 where units share a weight, whose gradient adds up in another
            order.
        differences: a sentence about what differs, and why that is allowed where it is; None where nothing does.
    """

    max_grad_error: float | None = None
    grad_error_allowed: float = 0.0
    differences: str | None = None

    @property
    def equal(self) -> bool:
        """Whether it was compared, and every bit is equal."""
        return self.max_grad_error == 0 and self.differences is None

    @property
    def holds(self) -> bool:
        """Whether nothing was compared, every bit is equal, or gradients alone differ by no more than they may."""
        error = self.max_grad_error
        return error is None or self.equal or 0 < error <= self.grad_error_allowed

    @property
    def sentence(self) -> str:
        """What was found, in words; it begins with a small letter."""
        if self.max_grad_error is None:
            return NOT_CHECKED
        if self.equal:
            return EQUAL
        return self.told if self.holds else f"TRAINED OTHERWISE than without a plan: {self.told}"

    @property
    def told(self) -> str:
        """What differs; of results that do not say it, by how much gradients do."""
        return self.differences or f"gradients differ from plain training's by up to {self.max_grad_error:.2g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the check by the keys of a run's result."""
        return {MAX_ERROR: self.max_grad_error, ALLOWED: self.grad_error_allowed, DIFFERENCES: self.differences}


def worst(checks: Mapping[Key, TrainingCheck]) -> tuple[Key, TrainingCheck] | None:
    """Return the key and the check of the first that does not hold, else that is not equal; None where all are."""
    compared = {key: check for key, check in checks.items() if check.max_grad_error is not None}
    failed = [(key, check) for key, check in compared.items() if not check.holds]
    unequal = [(key, check) for key, check in compared.items() if not check.equal]
    return next(iter([*failed, *unequal]), None)
