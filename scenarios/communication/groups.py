"""GPUs that communicate form groups: those of one tensor-parallel layer, those of one layer's replicas, ...

Which host each GPU stands on follows from the order of placement (sim/placement.py). Groups of a kind differ in that;
all run in step, so that the one on the most hosts is what everybody waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from loadahead.scenarios.sharing import Sharing
from loadahead.sim.ir.plan import Ints
from loadahead.sim.placement import Placement, RankMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Says how many GPUs a collective has and on how many hosts they stand.

    Attributes:
        gpus: how many take part; with one nothing has to be communicated.
        hosts: on how many hosts they stand, at the most.
        lanes: how many such groups have GPUs on one host and on others too, at the most, and so share its network.
    """

    gpus: int = 1
    hosts: int = 1
    lanes: int = 1

    @property
    def on_host(self) -> int:
        """Return how many of its GPUs a host has, at the most."""
        return -(-self.gpus // self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Holds a group of each kind.

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


@lru_cache(maxsize=256)
def groups_of(placement: Placement, pipeline: int, sharing: Sharing) -> Groups:
    """Return the groups of all processes of so many ranks of the pipeline.

    Consecutive replicas deal out experts, and consecutive replicas divide state, as Megatron-LM's groups do.
    """
    at = placement.table(pipeline)
    d, shard, expert, own = at.d, sharing.shard, sharing.expert, sharing.expert_shard
    # The replicas that hold the same experts are counted from 0.
    holder = d // expert
    of_replicas = {
        "expert": (expert, d // expert),
        "data": (sharing.data, np.zeros_like(d)),
        "shard": (shard, d // shard),
        "copies": (sharing.data // shard, d % shard),
        "expert_data": (sharing.data // expert, d % expert),
        "expert_shard": (own, d % expert + expert * (holder // own)),
        "expert_copies": (sharing.data // (expert * own), d % expert + expert * (holder % own)),
    }
    found = {name: _group(at, gpus, at.p, at.t, which) for name, (gpus, which) in of_replicas.items()}
    return Groups(tensor=_group(at, sharing.tensor, at.p, d), **found)


def _group(at: RankMap, gpus: int, *same: Ints) -> Group:
    """Return the group of so many GPUs that agree in what is given; all arrays have shape (processes,)."""
    if gpus == 1:
        return Group()
    if at.hosts == 1:
        return Group(gpus=gpus)
    number = np.zeros_like(at.rank)
    for part in same:
        number = number * (int(part.max()) + 1) + part
    pairs = np.unique(number * at.hosts + at.host)
    group, host = np.divmod(pairs, at.hosts)
    _, back, hosts = np.unique(group, return_inverse=True, return_counts=True)
    spans = hosts[back] > 1
    lanes = np.bincount(host[spans], minlength=1)
    return Group(gpus=gpus, hosts=int(hosts.max()), lanes=max(1, int(lanes.max())))
