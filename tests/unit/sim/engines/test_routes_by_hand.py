"""Over what copies and sends go, and what they meet there: cases worked out by hand, with 1,000 B at 1 B/ns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.placement import Placement
from loadahead.sim.routes import LinkTable, are_private
from tests.support.plans import GB, uniform_costs

engines = pytest.mark.parametrize("engine", sorted(ENGINES))
NBYTES = 1000


def _costs(ranks: int, placement: Placement | None = None, shared: dict[str, Any] | None = None, **more: Any) -> Costs:
    hosts = {"placement": placement or Placement(), "shared": SharedLinks(**(shared or {}))}
    return uniform_costs(ranks, p2p_bandwidth=GB, **hosts, **more)


def _plan(ranks: int, *transfers: str) -> Plan:
    """One transfer each on a queue of its own: "d0" and "h0" are rank 0's copies, "0>1" a send."""
    builder = PlanBuilder()
    for rank in range(ranks):
        builder.op(rank, Kind.FORWARD, (rank, 0, 0))
    for name in transfers:
        rank = int(name[0] if ">" in name else name[1])
        kind = Kind.PREFETCH if name[0] == "h" else Kind.OFFLOAD
        if ">" in name:
            kind = Kind.SEND_ACTIVATION if int(name[2]) == rank + 1 else Kind.SEND_GRADIENT
        builder.op(rank, kind, (rank, 0, 0), nbytes=NBYTES)
    return builder.freeze("routes", ranks, 1, {})


def _took(engine: str, costs: Costs, *transfers: str) -> tuple[list[int], list[str]]:
    """How long each takes, in ns, where all begin at once, and what was contended."""
    plan = _plan(len(costs.units), *transfers)
    no_compute = tuple((unit.model_copy(update={"forward_ns": 0}),) for (unit,) in costs.units)
    step = simulate(plan, costs.model_copy(update={"units": no_compute}), engine)
    return step.end_ns[len(costs.units) :].tolist(), step.header["contended"]


@engines
def test_tensor_parallel_parts_share_an_uplink_with_each_other(engine: str) -> None:
    """Two GPUs behind a switch: of two ranks only one part each, or both parts of one rank."""
    shared = {"gpus_per_switch": 2, "uplink_d2h": GB}
    assert _took(engine, _costs(2, Placement(), shared), "d0") == ([1000], [])
    both = _took(engine, _costs(2, Placement(tensor=2), shared), "d0", "d1")
    assert both == ([2000, 2000], ["uplink_d2h of switch 0", "uplink_d2h of switch 1"])
    spread = _took(engine, _costs(2, Placement(order="TPD", tensor=2), shared), "d0", "d1")
    assert spread == ([2000, 2000], ["uplink_d2h of switch 0 (1 more alike)"])  # each has a part of either rank


@engines
def test_replicas_share_their_hosts_memory(engine: str) -> None:
    """Four GPUs on a host of 2 B/ns: half of the host's links at once, or all with two replicas."""
    shared = {"host_memory_bandwidth": 2 * GB}
    assert _took(engine, _costs(2, Placement(), shared), "d0", "d1") == ([1000, 1000], [])
    two = _took(engine, _costs(2, Placement(data=2), shared), "d0", "d1")
    assert two == ([2000, 2000], ["host_memory_bandwidth"])
    # On hosts of two GPUs each replica has a host for itself.
    assert _took(engine, _costs(2, Placement(data=2, gpus_per_host=2), shared), "d0", "d1") == ([1000, 1000], [])


@engines
def test_two_neighbours_that_send_to_one_gpu_share_its_nvlink_port(engine: str) -> None:
    costs = _costs(3, p2p_link="nvlink")
    assert _took(engine, costs, "0>1", "2>1") == ([2000, 2000], ["NVLink in of rank 1"])
    assert _took(engine, costs, "0>1", "1>2") == ([1000, 1000], [])
    assert _took(engine, costs.model_copy(update={"p2p_link": None}), "0>1", "2>1") == ([1000, 1000], [])


@engines
def test_sends_over_pcie_share_the_gpus_links_with_copies(engine: str) -> None:
    costs = _costs(2, p2p_link="pcie")
    assert _took(engine, costs, "0>1", "d0") == ([2000, 2000], ["link to the host of rank 0"])
    assert _took(engine, costs, "0>1", "h1") == ([2000, 2000], ["link from the host of rank 1"])
    assert _took(engine, costs, "0>1", "h0", "d1") == ([1000, 1000, 1000], [])
    # Without a bandwidth of their own they reach what the links do.
    slow = costs.model_copy(update={"p2p_bandwidth": None, "h2d_bandwidth": GB // 2})
    assert _took(engine, slow, "0>1") == ([2000], [])


@engines
def test_a_send_over_pcie_goes_through_the_host_where_switches_differ(engine: str) -> None:
    """It is written to the host's memory and read from it, so that 1 B/ns of memory carries half of it."""
    shared = {"gpus_per_switch": 1, "host_memory_bandwidth": GB, "uplink_d2h": GB // 4}
    alone = _took(engine, _costs(2, p2p_link="pcie", shared={**shared, "uplink_d2h": None}), "0>1")
    assert alone == ([2000], ["host_memory_bandwidth"])
    assert _took(engine, _costs(2, p2p_link="pcie", shared=shared), "0>1")[0] == [4000]
    below = _costs(2, p2p_link="pcie", shared={**shared, "gpus_per_switch": 2})
    assert _took(engine, below, "0>1") == ([1000], [])


@engines
def test_a_send_between_hosts_takes_the_network(engine: str) -> None:
    """Rank 1 is alone on its host; two parts of each rank would share what the hosts have."""
    placement = Placement(gpus_per_host=1)
    network = {"network_bandwidth": GB // 2}
    assert _took(engine, _costs(2, placement), "0>1") == ([1000], [])  # nothing is known of a network
    assert _took(engine, _costs(2, placement, network), "0>1") == ([2000], [])
    assert _took(engine, _costs(2, placement, network, network_latency_ns=300), "0>1") == ([2300], [])
    assert _took(engine, _costs(2, placement, network, gpu_network_bandwidth=GB // 4), "0>1") == ([4000], [])
    parts = _took(engine, _costs(2, Placement(tensor=2, gpus_per_host=2), network), "0>1")
    assert parts == ([4000], ["network out of host 0 (1 more alike)"])  # the same sends fill the network into host 1
    inside = _took(engine, _costs(2, Placement(order="TPD", tensor=2, gpus_per_host=2), network), "0>1")
    assert inside == ([1000], [])  # each host has both ranks of a part


@engines
def test_a_network_card_is_its_gpus_own_or_shared(engine: str) -> None:
    """Two neighbours on other hosts send to rank 1's card; two parts of a rank send over one card, or over two."""
    costs = _costs(3, Placement(gpus_per_host=1), gpu_network_bandwidth=GB // 4)
    assert _took(engine, costs, "0>1", "2>1") == ([8000, 8000], ["network card in of card 0 of host 1"])
    parts = Placement(tensor=2, gpus_per_host=2)
    two = _costs(2, parts, {"network_bandwidth": GB}, gpu_network_bandwidth=GB // 2)
    assert _took(engine, two, "0>1") == ([2000], [])
    one = _costs(2, parts, {"network_bandwidth": GB, "gpus_per_nic": 2}, gpu_network_bandwidth=GB // 2)
    assert _took(engine, one, "0>1") == ([4000], ["network card out of card 0 of host 0 (1 more alike)"])


@engines
def test_peers_of_which_some_send_to_another_host(engine: str) -> None:
    """Hosts of three: replica 0 is on one, replica 1 on two. Both take the longer latency and the smaller bandwidth."""
    placement = Placement(data=2, gpus_per_host=3)
    quick = _costs(2, placement, {"network_bandwidth": 4 * GB}, network_latency_ns=1, p2p_latency_ns=300)
    assert _took(engine, quick, "0>1") == ([1300], [])
    slow = _costs(2, placement, {"network_bandwidth": GB // 2}, network_latency_ns=700, p2p_latency_ns=300)
    assert _took(engine, slow, "0>1") == ([2700], [])


@engines
def test_where_no_network_is_known_a_send_between_hosts_is_one_inside(engine: str) -> None:
    costs = _costs(2, Placement(gpus_per_host=1), {"duplex": GB}, p2p_link="pcie")
    assert _took(engine, costs, "0>1", "h0") == ([2000, 2000], ["duplex of rank 0"])
    bare = costs.model_copy(update={"p2p_bandwidth": None})
    assert _took(engine, bare, "0>1") == ([1000], [])


@engines
def test_what_leaves_for_the_network_goes_over_the_gpus_link(engine: str) -> None:
    costs = _costs(2, Placement(gpus_per_host=1), {"network_bandwidth": 4 * GB, "duplex": GB})
    assert _took(engine, costs, "0>1", "d0") == ([2000, 2000], ["duplex of rank 0", "link to the host of rank 0"])
    assert _took(engine, costs, "1>0", "d0")[0] == [2000, 2000]  # both directions of rank 0's link meet in the cap


def test_only_what_can_have_too_little_is_looked_at() -> None:
    wide = {"host_memory_bandwidth": 4 * GB, "network_bandwidth": 8 * GB}
    assert are_private(_costs(2, Placement(), wide), 2)
    assert not are_private(_costs(2, Placement(data=2), wide), 2)
    assert are_private(_costs(2, p2p_link="nvlink"), 2)
    assert not are_private(_costs(3, p2p_link="nvlink"), 3)
    # Peers have resources alike, and so have hosts: one of each stands for all.
    many = _costs(2, Placement(data=64, tensor=8, gpus_per_host=8), {"host_memory_bandwidth": GB, "duplex": GB})
    assert len(LinkTable.of(many, 2).names) == 4
    assert LinkTable.of(many, 2).names == (
        "duplex of rank 0",
        "duplex of rank 1",
        "host_memory_bandwidth of host 0 (63 more alike)",
        "host_memory_bandwidth of host 1 (63 more alike)",
    )


def test_an_order_may_send_to_other_ranks_than_neighbours() -> None:
    costs = _costs(3, p2p_link="pcie")
    sender, receiver = np.divmod(np.arange(9), 3)
    links = LinkTable.of(costs, 3, [0, 2, 1]).send(sender, receiver)
    # Each rank's way to its host and back are the first six.
    assert links.reshape(3, 3).tolist() == [[-1, -1, 6], [-1, -1, 7], [8, 9, -1]]
    assert LinkTable.of(_costs(3), 3).send(sender, receiver).tolist() == [-1] * 9
