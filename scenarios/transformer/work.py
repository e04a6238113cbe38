"""A part of a layer says what it does for one microbatch on one GPU, without saying how long that takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Describes matrix products of one size: ``count`` of (m, k) times (k, n), which BACKWARD does twice each."""

    m: int
    k: int
    n: int
    count: int = 1

    @property
    def flops(self) -> int:
        """Return the FLOPs of one of them."""
        return 2 * self.m * self.k * self.n

    @property
    def elements(self) -> int:
        """Return how many elements one of them reads and writes."""
        return self.m * self.k + self.k * self.n + self.m * self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Describes what GPUs tell each other: ``nbytes`` is the whole tensor, before a scatter or after a gather."""

    kind: Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all"]
    among: Literal["tensor", "expert"]
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Holds the bytes that kernels other than products read and write, and how many kernels these are."""

    nbytes: int = 0
    kernels: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(nbytes=self.nbytes + other.nbytes, kernels=self.kernels + other.kernels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Describes a part of a layer, for one microbatch on one GPU.

    Attributes:
        parameters: of its weights; ``expert_parameters`` are those of experts, which fewer replicas have.
        products: its matrix products, of FORWARD.
        flash: FLOPs of fused attention in FORWARD; its BACKWARD has 2.5 times as many (Dao, "FlashAttention-2", 2023,
            section 4.1: five products for two).
        forward, backward: what its other kernels move.
        kept: bytes that its graph keeps beside the layer's input.
        core: what of ``kept`` selective recomputation makes again instead, by ``core_products`` and ``core_forward``.
        working: bytes of gradients of its activations that are there at one time.
        peak: the same with a weight's, which is made before it is added to those of earlier microbatches; 0: the same.
        told, told_backward: what GPUs tell each other in FORWARD and in BACKWARD.
    """

    parameters: int = 0
    expert_parameters: int = 0
    products: tuple[Product, ...] = ()
    flash: int = 0
    forward: Moved = Moved()
    backward: Moved = Moved()
    kept: int = 0
    core: int = 0
    core_products: tuple[Product, ...] = ()
    core_forward: Moved = Moved()
    working: int = 0
    peak: int = 0
    told: tuple[Collective, ...] = ()
    told_backward: tuple[Collective, ...] = ()

    @property
    def flops(self) -> int:
        """Return the FLOPs of its FORWARD."""
        return sum(product.flops * product.count for product in self.products) + self.flash

    @classmethod
    def together(cls, parts: Iterable[Part]) -> Part:
        """Return several parts as one, of which BACKWARD goes through one at a time."""
        parts = list(parts)
        return cls(
            parameters=sum(part.parameters for part in parts),
            expert_parameters=sum(part.expert_parameters for part in parts),
            products=tuple(chain.from_iterable(part.products for part in parts)),
            flash=sum(part.flash for part in parts),
            forward=sum((part.forward for part in parts), Moved()),
            backward=sum((part.backward for part in parts), Moved()),
            kept=sum(part.kept for part in parts),
            core=sum(part.core for part in parts),
            core_products=tuple(chain.from_iterable(part.core_products for part in parts)),
            core_forward=sum((part.core_forward for part in parts), Moved()),
            working=max(part.working for part in parts),
            peak=max(max(part.working, part.peak) for part in parts),
            told=tuple(chain.from_iterable(part.told for part in parts)),
            told_backward=tuple(chain.from_iterable(part.told_backward for part in parts)),
        )
