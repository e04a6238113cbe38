"""What the simulator knows of hosts and the CPU's emulated links do not is said beside a run."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.runs import not_emulated
from loadahead.sim.costs import SharedLinks
from loadahead.sim.engines import simulate
from loadahead.sim.placement import Placement
from tests.support.plans import GB, uniform_costs, uniform_plan

NETWORK = (
    "the prediction has sends go over the network or over links to the host; the CPU emulates each with hardware.p2p "
    "and hardware.p2p_bandwidth alone"
)
SHARED = (
    "the prediction shares host_memory_bandwidth; the CPU's emulated links are not shared, so what goes over them "
    "comes out quicker when measured"
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"placement": Placement(gpus_per_host=1)}, []),
        ({"placement": Placement(gpus_per_host=1), "network_latency_ns": 5}, [NETWORK]),
        ({"p2p_link": "pcie"}, [NETWORK]),
        ({"p2p_link": "pcie", "p2p_bandwidth": GB // 2}, []),
        ({"placement": Placement(tensor=4), "shared": SharedLinks(host_memory_bandwidth=GB)}, [SHARED]),
        ({"placement": Placement(tensor=4, gpus_per_host=4), "gpu_network_bandwidth": GB // 9}, [NETWORK]),
    ],
)
def test_what_is_not_emulated(changes: dict[str, Any], said: list[str]) -> None:
    # Copies are there where it is about them: sends alone share nothing here.
    plan = uniform_plan(ranks=2, microbatches=8, horizon=1, offload=said == [SHARED])
    costs = uniform_costs(2, **changes)
    predicted = simulate(plan, costs)
    assert not_emulated(plan, costs, predicted, "cpu") == said
    assert not_emulated(plan, costs, predicted, "cuda") == []
