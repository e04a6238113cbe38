"""Collectives take a time that follows from their bytes, their group and what the GPUs are connected by."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.scenarios.communication.groups import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives:
    """Says how long collectives take, each of ``nbytes``: the whole tensor, before a scatter or after a gather.

    Attributes:
        tensor: the GPUs that share a layer's work.
        expert: the GPUs among which a layer's experts are dealt out.
        data: the GPUs that hold the same part of the model in other replicas.
        shard: those of them among which state is divided.
        copies: the GPUs that hold the same shard of it.
        expert_data, expert_shard, expert_copies: the same of the experts' weights, of which fewer replicas have a copy.
    """

    tensor: Group = Group()
    expert: Group = Group()
    data: Group = Group()
    shard: Group = Group()
    copies: Group = Group()
    expert_data: Group = Group()
    expert_shard: Group = Group()
    expert_copies: Group = Group()

    def all_reduce(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has the sum of a tensor of so many bytes, in ns."""
        return 0

    def reduce_scatter(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has its part of the sum of a tensor of so many bytes, in ns."""
        return 0

    def all_gather(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has a tensor of so many bytes, of which it had a part, in ns."""
        return 0

    def all_to_all(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has sent each other its part of so many bytes, in ns."""
        return 0
