"""A send takes what NCCL reckons with for its route, what is written, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.cautions import cautions_beside_model
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.sim.costs import Costs
from loadahead.sim.placement import Reach

UNIFORM = {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "8 MB"}
WRITTEN = {"d2h": "10 GB/s", "h2d": "10 GB/s"}


def tables(hardware: dict[str, Any], ranks: int = 16) -> dict[str, Any]:
    return {"model": UNIFORM, "hardware": hardware, "parallel": {"microbatches": 8, "pipeline_parallel_degree": ranks}}


def costs_of(hardware: dict[str, Any]) -> Costs:
    costs = prepare(load_scenario(tables(hardware))).costs
    assert costs is not None
    return costs


@pytest.mark.parametrize(
    ("hardware", "inside", "between"),
    [
        # NCCL's base latency of a call and a step of protocol Simple: 8.4 us, and 3.4, 5.7 or 14 us.
        ({"preset": "h100-sxm"}, 11_800, 11_800),
        ({"preset": "l40s"}, 14_100, 14_100),
        ({"machine": "dgx-h100"}, 11_800, 22_400),
        ({"machine": "p3.16xlarge"}, 11_800, 22_400),
        ({"machine": "p4d.24xlarge"}, 11_800, 75_000),
        ({"machine": "8x-l40s"}, 14_100, 14_100),
        ({"preset": "h100-sxm", "network_bandwidth": "100 GB/s"}, 11_800, 22_400),
        ({"machine": "dgx-h100", "p2p": "2 us", "network_latency": "5 us"}, 2_000, 5_000),
        ({"machine": "dgx-h100", "p2p": 0}, 0, 22_400),
        (WRITTEN, 0, 0),
        (WRITTEN | {"network_bandwidth": "100 GB/s", "p2p": "3 us"}, 3_000, 3_000),
    ],
)
def test_a_sends_latency_follows_from_its_route(hardware: dict[str, Any], inside: int, between: int) -> None:
    costs = costs_of(hardware)
    assert (costs.send_link(Reach.HOST)[0], costs.send_link(Reach.NETWORK)[0]) == (inside, between)


@pytest.mark.parametrize("hardware", [{"preset": "h100-sxm"}, {"machine": "p4d.24xlarge"}, {"machine": "8x-l40s"}])
def test_where_communication_is_ideal_sends_take_no_time(hardware: dict[str, Any]) -> None:
    own = {"communication": "ideal", "p2p": "1 ms", "network_bandwidth": "1 GB/s", "network_latency": "1 s"}
    for written in ({"communication": "ideal"}, own):
        costs = costs_of(hardware | written)
        assert [costs.send_link(reach) for reach in Reach] == [(0, None)] * 3
        assert not costs.has_network
    assert cautions_beside_model(load_scenario(tables(hardware | own)))[0] == (
        "hardware.p2p, hardware.network_bandwidth, hardware.network_latency have no effect: hardware.communication is "
        '"ideal", so that sends take no time'
    )
    assert cautions_beside_model(load_scenario(tables(hardware | {"communication": "ideal"}))) == []


def test_costs_that_are_given_have_no_sends_either_where_communication_is_ideal() -> None:
    given = costs_of({"machine": "p4d.24xlarge"})
    ideal = load_scenario(tables({"machine": "p4d.24xlarge", "communication": "ideal"}))
    found = prepare(ideal, costs=given)
    assert found.costs is not None
    assert [found.costs.send_link(reach) for reach in Reach] == [(0, None)] * 3
    assert (found.costs.units, found.costs.d2h_bandwidth) == (given.units, given.d2h_bandwidth)
    # A GPU's links are its own.
    on_gpu = prepare(ideal, costs=given, physical=True)
    assert on_gpu.costs is not None and on_gpu.costs.send_link(Reach.NETWORK) == given.send_link(Reach.NETWORK)
    assert 'hardware.communication = "ideal" has no effect on a GPU, whose links are its own' in on_gpu.warnings
