"""Groups of GPUs that communicate are those that a walk over every process finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields

import pytest

from loadahead.scenarios.communication.groups import Group, Groups, groups_of
from loadahead.scenarios.sharing import Sharing
from loadahead.sim.placement import PLACEMENT_ORDERS, Placement

Place = dict[str, int]


def walked(placement: Placement, pipeline: int, sharing: Sharing) -> Groups:
    """The groups by a walk over the processes, from what each kind's members have in common."""
    rows = placement.table(pipeline).rows()
    shard, expert = sharing.shard, sharing.expert
    of_experts = max(1, shard // expert) if shard % expert == 0 else 1
    same: dict[str, Callable[[Place], object]] = {
        "tensor": lambda at: (at["d"], at["p"]),
        "data": lambda at: (at["p"], at["t"]),
        # Runs of consecutive replicas.
        "shard": lambda at: (at["p"], at["t"], at["d"] // shard),
        "copies": lambda at: (at["p"], at["t"], at["d"] % shard),
        "expert": lambda at: (at["p"], at["t"], at["d"] // expert),
        "expert_data": lambda at: (at["p"], at["t"], at["d"] % expert),
        # The same experts, in one run of replicas that divide state.
        "expert_shard": lambda at: (at["p"], at["t"], at["d"] % expert, at["d"] // (expert * of_experts)),
        "expert_copies": lambda at: (at["p"], at["t"], at["d"] % expert, at["d"] // expert % of_experts),
    }
    return Groups(**{name: _counted(rows, key) for name, key in same.items()})


def _counted(rows: list[Place], key: Callable[[Place], object]) -> Group:
    members: dict[object, list[int]] = defaultdict(list)
    for at in rows:
        members[key(at)].append(at["host"])
    sizes = {len(hosts) for hosts in members.values()}
    assert len(sizes) == 1, "groups of a kind are of one size"
    (gpus,) = sizes
    if gpus == 1:
        return Group()
    on_host: dict[int, int] = defaultdict(int)
    for hosts in members.values():
        if len(set(hosts)) > 1:
            for host in set(hosts):
                on_host[host] += 1
    return Group(
        gpus=gpus,
        hosts=max(len(set(hosts)) for hosts in members.values()),
        lanes=max(on_host.values(), default=1),
    )


@pytest.mark.parametrize("order", PLACEMENT_ORDERS)
@pytest.mark.parametrize("gpus_per_host", [None, 4, 6, 8])
@pytest.mark.parametrize(
    ("tensor", "pipeline", "data", "shard", "expert"),
    [(1, 1, 1, 1, 1), (8, 2, 4, 4, 1), (2, 3, 12, 4, 2), (4, 2, 8, 2, 4), (1, 4, 16, 16, 8), (3, 2, 6, 3, 2)],
)
def test_groups_are_those_of_a_walk_over_all_processes(
    order: str, gpus_per_host: int | None, tensor: int, pipeline: int, data: int, shard: int, expert: int
) -> None:
    placement = Placement.model_validate(
        {"order": order, "data": data, "tensor": tensor, "gpus_per_host": gpus_per_host}
    )
    sharing = Sharing(tensor=tensor, data=data, shard=shard, expert=expert, zero_stage=1)
    assert groups_of(placement, pipeline, sharing) == walked(placement, pipeline, sharing)


def test_replicas_of_a_megatron_layout_share_each_hosts_network_eight_ways() -> None:
    # Eight tensor-parallel parts fill a host: a part's replicas stand on a host each, and each host has eight parts.
    placement = Placement(order="DPT", data=4, tensor=8, gpus_per_host=8)
    groups = groups_of(placement, 2, Sharing(tensor=8, data=4))
    assert groups.tensor == Group(gpus=8, hosts=1, lanes=1)
    assert groups.data == Group(gpus=4, hosts=4, lanes=8)


def test_the_largest_map_has_groups() -> None:
    placement = Placement(order="DPT", data=1_562, tensor=8, gpus_per_host=8)
    sharing = Sharing(tensor=8, data=1_562, shard=781, expert=2, zero_stage=1)
    groups = groups_of(placement, 16, sharing)
    assert {each.name for each in fields(groups)} >= {"tensor", "data"}
    assert groups.shard == Group(gpus=781, hosts=781, lanes=8)
    assert groups.copies == Group(gpus=2, hosts=2, lanes=8)
