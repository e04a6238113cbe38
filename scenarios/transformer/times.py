"""How long a part of a layer takes: its products, its other kernels, and what GPUs tell each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.roofline import Compute
from loadahead.scenarios.transformer.work import Collective, Part, Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Says how long parts take on a GPU; ``collectives`` is None where what GPUs tell each other takes no time."""

    compute: Compute
    collectives: Collectives | None
    element: int

    def forward(self, part: Part) -> int:
        """Return how long a part's FORWARD takes, in ns."""
        return (
            self._products(part.products, 1)
            + self.compute.flash_ns(part.flash)
            + self.compute.stepped_ns(part.forward.nbytes, part.forward.kernels)
            + self.told(part.told)
        )

    def backward(self, part: Part) -> int:
        """Return how long a part's BACKWARD takes, in ns: each product comes twice, for its two inputs' gradients."""
        return (
            self._products(part.products, 2)
            + self.compute.flash_backward_ns(part.flash)
            + self.compute.stepped_ns(part.backward.nbytes, part.backward.kernels)
            + self.told(part.told_backward)
        )

    def core(self, part: Part) -> int:
        """Return how long it takes to make attention's core again, in ns."""
        return self._products(part.core_products, 1) + self.compute.stepped_ns(
            part.core_forward.nbytes, part.core_forward.kernels
        )

    def told(self, collectives: Iterable[Collective]) -> int:
        """Return how long collectives take one after the other, in ns."""
        if self.collectives is None:
            return 0
        return sum(
            getattr(self.collectives, each.kind)(getattr(self.collectives, each.among), each.nbytes)
            for each in collectives
        )

    def _products(self, products: Iterable[Product], times: int) -> int:
        return sum(
            max(
                self.compute.products_ns(times * each.count * each.flops, each.flops),
                self.compute.moved_ns(times * each.count * self.element * each.elements, 0),
            )
            for each in products
        )
