"""A scenario may name a machine and nothing else of the hardware."""

from __future__ import annotations

from typing import Any

import pytest

import loadahead as la
from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.links import with_stated_links
from loadahead.scenarios.loader import load_scenario, scenario_from_dict, scenario_to_dict
from loadahead.scenarios.prepare import prepare
from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.errors import InputError

UNIFORM = {"kind": "uniform", "units_per_stage": 2, "forward": "1 ms", "backward": "2 ms", "boundary": "64 MiB"}
TRANSFORMER = {"kind": "transformer", "preset": "gpt3-1.3b"}


def tables(hardware: dict[str, Any], model: dict[str, Any] = UNIFORM) -> dict[str, Any]:
    return {"model": model, "hardware": hardware, "parallel": {"microbatches": 4, "pipeline_parallel_degree": 2}}


@pytest.mark.parametrize("model", [UNIFORM, TRANSFORMER], ids=["uniform", "transformer"])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_alone_is_enough(machine: str, model: dict[str, Any]) -> None:
    row, gpu = MACHINES[machine], ACCELERATORS[MACHINES[machine].preset]
    scenario = load_scenario(tables({"machine": machine}, model))
    costs = prepare(scenario).costs
    assert (costs.d2h_bandwidth, costs.h2d_bandwidth) == (row.d2h or gpu.d2h, row.h2d or gpu.h2d)
    assert (costs.memory_bytes, costs.host_memory_bytes) == (gpu.memory, row.host_memory)
    assert (costs.p2p_bandwidth, costs.p2p_link) == (gpu.p2p_bandwidth, row.p2p_link)
    shared = costs.shared or SharedLinks()
    for figure in ("gpus_per_switch", "uplink_d2h", "uplink_h2d", "host_memory_bandwidth", "network_bandwidth"):
        assert getattr(shared, figure) == getattr(row, figure)
    assert la.simulate(scenario).metrics.step_time_ns > 0


@pytest.mark.parametrize(("preset", "link"), [("rtx-4090", "pcie"), ("l40s", "pcie"), ("h100-sxm", None)])
def test_gpus_without_nvlink_send_over_their_links_to_the_host(preset: str, link: str | None) -> None:
    assert prepare(load_scenario(tables({"preset": preset}))).costs.p2p_link == link


def test_slower_links_to_the_host_take_longer() -> None:
    """A p4d.24xlarge has a DGX A100's GPUs behind links of half their speed; copies alone tell them apart."""
    model = UNIFORM | {"boundary": "1 GiB"}
    slow, fast = (la.simulate(tables({"machine": name}, model)).metrics for name in ("p4de", "dgx-a100"))
    assert slow.step_time_ns > 1.5 * fast.step_time_ns


def test_other_spellings_are_brought_to_the_catalogues_name() -> None:
    for spelled in ("ml.p4d.24xlarge", "p4d", "P4D.24xlarge"):
        scenario = load_scenario(tables({"machine": spelled}))
        assert scenario.hardware.machine == "p4d.24xlarge"
        assert scenario == load_scenario(tables({"machine": "p4d.24xlarge"}))
        assert scenario_from_dict(scenario_to_dict(scenario), "a plan") == scenario


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("p4d.48xlarge", "did you mean p4d.24xlarge? It must be one of p3.16xlarge, p3dn.24xlarge, "),
        ("abacus", "it must be one of p3.16xlarge, p3dn.24xlarge, "),
        (8, "it must be one of p3.16xlarge, p3dn.24xlarge, "),
    ],
)
def test_an_unknown_machine_is_one_line(machine: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(tables({"machine": machine}))
    line = str(caught.value)
    assert f"hardware.machine = {machine!r}: {said}" in line
    assert line.endswith(", ".join(MACHINES))
    assert "\n" not in line


def test_what_is_written_replaces_the_machines() -> None:
    own = {"d2h": "20 GB/s", "gpus_per_switch": 4, "host_memory": "1 TiB", "memory": "40 GiB", "p2p_link": "pcie"}
    costs = prepare(load_scenario(tables({"machine": "dgx-a100"} | own))).costs
    row = MACHINES["dgx-a100"]
    assert costs.shared is not None
    assert (costs.d2h_bandwidth, costs.h2d_bandwidth) == (20 * 10**9, ACCELERATORS[row.preset].h2d)
    assert (costs.shared.gpus_per_switch, costs.shared.uplink_d2h) == (4, row.uplink_d2h)
    assert (costs.host_memory_bytes, costs.memory_bytes, costs.p2p_link) == (2**40, 40 * 2**30, "pcie")


def test_its_own_preset_may_be_written_and_another_is_refused() -> None:
    same = load_scenario(tables({"machine": "p5", "preset": "h100-sxm"}))
    assert prepare(same).costs == prepare(load_scenario(tables({"machine": "p5"}))).costs
    with pytest.raises(InputError) as caught:
        load_scenario(tables({"machine": "p5", "preset": "h200-sxm"}))
    assert str(caught.value) == (
        "scenario: hardware: machine is p5.48xlarge, whose GPUs are h100-sxm, and preset is h200-sxm; leave one of "
        "them out, or write the figures that are other ones"
    )


def test_an_uplink_of_ones_own_may_stand_on_the_machines_switches() -> None:
    costs = prepare(load_scenario(tables({"machine": "p5en", "uplink_d2h": "55 GB/s"}))).costs
    assert costs.shared is not None
    assert (costs.shared.gpus_per_switch, costs.shared.uplink_d2h, costs.shared.uplink_h2d) == (2, 55 * 10**9, None)
    with pytest.raises(InputError, match="uplink_d2h is given and gpus_per_switch is not"):
        load_scenario(tables({"machine": "p3dn", "uplink_d2h": "12 GB/s"}))


LINKS = {
    "d2h_bandwidth": 20 * 10**9,
    "h2d_bandwidth": 12 * 10**9,
    "d2h_latency_ns": 10_000,
    "h2d_latency_ns": 10_000,
    "p2p_bandwidth": 300 * 10**9,
    "memory_bytes": ACCELERATORS["a100-sxm-40gb"].memory,
}


def given(source: str) -> tuple[Costs, tuple[str, ...]]:
    """What costs of this source become on a p4d.24xlarge, and what is said."""
    unit = UnitCost(forward_ns=10, recompute_ns=5, backward_ns=20)
    costs = Costs(units=((unit,),), static_bytes=(0,), source=source, **LINKS)
    return with_stated_links(costs, load_scenario(tables({"machine": "p4d"})).hardware, {})


def test_costs_that_were_written_get_the_machines_links_and_what_it_shares() -> None:
    costs, said = given("by hand")
    row = MACHINES["p4d.24xlarge"]
    assert costs.d2h_bandwidth == row.d2h
    assert said[0] == (
        "hardware.d2h = 12 GB/s, as the machine p4d.24xlarge has it, stands in place of the costs' 20 GB/s"
    )
    assert (
        "hardware.gpus_per_switch = 2, as the machine p4d.24xlarge has it, stands in place of the costs' none" in said
    )
    assert costs.shared is not None
    assert (costs.shared.gpus_per_switch, costs.shared.uplink_h2d) == (2, row.uplink_h2d)
    assert not any("preset" in text for text in said)


def test_costs_that_were_measured_keep_their_links_and_get_what_is_shared() -> None:
    costs, said = given("calibrated on cuda")
    assert costs.d2h_bandwidth == LINKS["d2h_bandwidth"]
    assert costs.shared is not None
    assert costs.shared.host_memory_bandwidth == MACHINES["p4d.24xlarge"].host_memory_bandwidth
    assert said[-1].startswith(
        "hardware.machine = p4d.24xlarge gives way to what the costs measured: write hardware.d2h, "
    )
