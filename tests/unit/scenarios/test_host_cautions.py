"""What is said of hosts that has no effect, or is missing: the uniform scenario of four ranks with these keys."""

from __future__ import annotations

from typing import Any

import pytest

import loadahead as la
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.sim.errors import InputError

RANKS = {"parallel.pipeline_parallel_degree": 4}
ONE = {"parallel.pipeline_parallel_degree": 1}
PCIE = {"hardware.p2p_link": "pcie"}
MODEL = {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB"}
NETWORK = {"hardware.network_bandwidth": "1 GB/s"}
NO_NETWORK = (
    "ranks send to other hosts, and neither hardware.network_bandwidth nor gpu_network_bandwidth is given: these sends "
    "are taken to be as quick as inside a host"
)
NOTHING_SHARED = "nothing is given that the GPUs of a host share: name hardware.machine, or write e.g. host_memory"
REPLICAS = (
    "parallel.data_parallel_degree = {}: one replica is planned, others run in step with it; the all-reduce of "
    "gradients between replicas is not modelled"
)


def said(keys: dict[str, Any]) -> list[str]:
    given = {key if "." in key else f"hardware.{key}": value for key, value in keys.items()}
    return list(prepare(load_scenario("uniform", {**RANKS, **given})).warnings)


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        ({**NETWORK}, ["hardware.network_bandwidth has no effect: all 4 processes stand on one host"]),
        (
            {**NETWORK, "network_latency": "1 us", **ONE},
            ["hardware.network_bandwidth, hardware.network_latency have no effect: the one process stands on one host"],
        ),
        (
            {**NETWORK, "gpus_per_host": 4, "parallel.data_parallel_degree": 2},
            [REPLICAS.format(2), "hardware.network_bandwidth has no effect: no rank sends to another host"],
        ),
        ({**NETWORK, "gpus_per_host": 2}, []),
        (
            {**NETWORK, "gpus_per_host": 2, "gpus_per_nic": 2},
            ["hardware.gpus_per_nic has no effect: gpu_network_bandwidth is not given, which a card has"],
        ),
        ({"gpus_per_host": 2, "host_memory": "1 TiB"}, [NO_NETWORK]),
        ({**PCIE, **ONE}, ["hardware.p2p_link has no effect: the one rank of the pipeline sends nothing"]),
        (
            {"p2p_link": "nvlink"},
            ["hardware.p2p_link has no effect: p2p_bandwidth is not given, which an NVLink port has"],
        ),
        ({"p2p_link": "nvlink", "p2p_bandwidth": "9 GB/s"}, []),
        (
            {**PCIE, "gpus_per_switch": 2},
            [
                "hardware.gpus_per_switch has no effect: neither an uplink nor host_memory_bandwidth is given, which "
                "sends between switches go through"
            ],
        ),
        ({**PCIE, "gpus_per_switch": 2, "host_memory_bandwidth": "9 GB/s"}, []),
        ({**PCIE, "h2d_weight": 3}, []),
        (
            {"h2d_weight": 3},
            [
                "hardware.h2d_weight has no effect: copies of both directions meet only in duplex or "
                "host_memory_bandwidth, and neither is given"
            ],
        ),
        (
            {"gpus_per_host": 2},
            [NO_NETWORK, f"hardware.gpus_per_host has no effect on times and memory: {NOTHING_SHARED}"],
        ),
        (
            {**PCIE, "parallel.data_parallel_degree": 4},
            [
                REPLICAS.format(4),
                "hardware.gpus_per_host is not given: 16 processes are taken to stand on hosts of 8 GPUs",
            ],
        ),
        (
            {"parallel.data_parallel_degree": 5, "gpus_per_switch": 16, "uplink_d2h": "9 GB/s"},
            [
                REPLICAS.format(5),
                "hardware.gpus_per_host is not given: 20 processes are taken to stand on hosts of 16 GPUs",
            ],
        ),
    ],
)
def test_what_is_said(keys: dict[str, Any], sentences: list[str]) -> None:
    assert said(keys) == sentences


def test_a_weight_that_is_said_to_have_no_effect_has_none_and_the_others_have_one() -> None:
    """Sends over PCIe meet prefetches, and have the weight of copies out."""
    base = {"parallel.microbatches": 16, "offload.activation_loading_horizon": 1, "model.boundary": "2 MB"}
    for more, differs in (({}, False), (PCIE, True)):
        times = {
            la.simulate("uniform", {**RANKS, **base, **more, "hardware.h2d_weight": weight}).step_time_ns
            for weight in (1, 50)
        }
        assert (len(times) == 2) is differs


def test_a_machine_with_fewer_gpus_in_use_has_no_more_of_them_behind_a_switch() -> None:
    found = load_scenario("uniform", {"hardware.machine": "p4d", "hardware.gpus_per_host": 1})
    assert found.hardware.value_of("gpus_per_switch") == 1
    with pytest.raises(InputError, match=r"gpus_per_host is 16 and a p4d\.24xlarge has 8 GPUs; it must be at most 8"):
        load_scenario("uniform", {"hardware.machine": "p4d", "hardware.gpus_per_host": 16})


def test_a_machine_that_is_set_brings_its_gpus() -> None:
    """A sweep over machines begins from any preset."""
    given = {"parallel.microbatches": 4, "offload.activation_loading_horizon": 1}
    machines = ["dgx-a100", "dgx-h100"]
    scenarios = [load_scenario("four-rank", {**given, "hardware.machine": name}) for name in machines]
    assert [each.hardware.accelerator for each in scenarios] == ["a100-sxm-80gb", "h100-sxm"]
    gives_way = "hardware.preset = h100-sxm gives way to the GPUs of hardware.machine, which is set"
    assert all(gives_way in prepare(each).warnings for each in scenarios)
    table = la.sweep("four-rank", {"hardware.machine": machines}, overrides=given)
    assert [row.step_time_ns for row in table.rows] == [la.simulate(each).step_time_ns for each in scenarios]
    assert gives_way in table.warnings


def test_a_machine_that_is_set_leaves_what_the_scenario_writes() -> None:
    found = load_scenario("slow-link", {"hardware.machine": "p5"})
    assert found.hardware.value_of("d2h") == load_scenario("slow-link").hardware.d2h
    (stays,) = [text for text in prepare(found).warnings if "stay" in text]
    assert stays.startswith("hardware.d2h, hardware.h2d, ")
    assert stays.endswith("as written beside hardware.machine, which is set: only other figures are the machine's")
    # Written in the scenario, both are the author's.
    tables = {"model": MODEL, "hardware": {"machine": "p5", "d2h": "1 GB/s"}}
    assert not [text for text in prepare(load_scenario(tables)).warnings if "stay" in text]
