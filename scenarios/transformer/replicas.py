"""Replicas add up their gradients, and with ZeRO gather weights: what of that no computation hides takes time.

With DistributedDataParallel's buckets (Li et al., "PyTorch Distributed", 2020, section 3.2.3) a layer's gradients are
added up while the layers before it go backward. ZeRO's second stage scatters them after each BACKWARD, as no GPU has
room for whole ones; the third gathers a layer's weights for each pass, while the layer before it computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.communication.groups import Group
from loadahead.scenarios.layers import Weights
from loadahead.scenarios.transformer.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Says how long replicas of weights take to agree; ``collectives`` is None where it takes no time."""

    state: State
    collectives: Collectives | None

    @property
    def is_alone(self) -> bool:
        """Return whether there is nothing to agree on."""
        return self.collectives is None or self.state.sharing.data == 1

    def gathering(self, weights: Weights) -> int:
        """Return how long it takes to gather a layer's weights for a pass, in ns."""
        return 0 if self.state.sharing.zero_stage < 3 else self._gather(weights)

    def scattering(self, weights: Weights) -> int:
        """Return how long it takes to add up and scatter a layer's gradients after a BACKWARD, in ns."""
        return 0 if self.state.sharing.zero_stage < 2 else self._scatter(weights)

    def beside(self, compute_ns: int, told_ns: int) -> int:
        """Return what of communication a pass of so many ns does not hide."""
        return max(0, told_ns - compute_ns) if self.state.sharing.overlap else told_ns

    def closing(self, layers: Iterable[tuple[int, Weights]]) -> int:
        """Return what a rank waits after its last BACKWARD, before and after its optimizer's step, in ns.

        ``layers`` holds how long each layer's BACKWARD takes, and its weights, from the last layer to the first.
        """
        layers = list(layers)
        whole = sum((weights for _, weights in layers), Weights())
        if self.state.sharing.overlap:
            computed = told = 0
            for busy, weights in layers:
                computed += busy
                told = max(told, computed) + self._last(weights)
            # Frameworks add up small layers together: it takes no longer than all at once in the end.
            waits = min(told - computed, self._last(whole))
        else:
            waits = self._last(whole)
        return waits + (self._gather(whole) if self.state.sharing.zero_stage in (1, 2) else 0)

    def _last(self, weights: Weights) -> int:
        """Return how long replicas take to agree on gradients once a step."""
        if self.state.sharing.zero_stage == 0:
            return self._each(weights, self.state.gradient, "all_reduce", "data")
        scattered = self._scatter(weights) if self.state.sharing.zero_stage == 1 else 0
        return scattered + self._among_copies(weights)

    def _gather(self, weights: Weights) -> int:
        return self._each(weights, self.state.weight, "all_gather", "shard")

    def _scatter(self, weights: Weights) -> int:
        return self._each(weights, self.state.gradient, "reduce_scatter", "shard")

    def _among_copies(self, weights: Weights) -> int:
        """Return how long GPUs that hold the same shard take to add up its gradients."""
        sharing = self.state.sharing
        part = Weights(dense=-(-weights.dense // sharing.shard), expert=-(-weights.expert // sharing.expert_shard))
        return self._each(part, self.state.gradient, "all_reduce", "copies")

    def _each(self, weights: Weights, nbytes: int, kind: str, among: str) -> int:
        """Return how long a collective takes of the dense weights' bytes, and then of the experts'."""
        if self.collectives is None:
            return 0
        groups: list[tuple[int, Group]] = [
            (weights.dense, getattr(self.collectives, among)),
            (weights.expert, getattr(self.collectives, f"expert_{among}")),
        ]
        told = getattr(self.collectives, kind)
        return sum(told(group, nbytes * count) for count, group in groups if count and group.gpus > 1)
