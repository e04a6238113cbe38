"""Warns about what is said of hosts, and of what their GPUs share, without effect."""

from __future__ import annotations

from loadahead.scenarios.placement import placement_of
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.tables import Hardware

# Keys of sends between hosts, and those of copies of both directions that meet.
_NETWORK = ("network_bandwidth", "gpu_network_bandwidth", "network_latency")
_BOTH_WAYS = ("duplex", "host_memory_bandwidth")
# What the processes of one host share, apart from all other hosts'.
_OF_A_HOST = ("host_memory_bandwidth", "network_bandwidth", "gpu_network_bandwidth", "network_latency", "host_memory")
_OF_A_SWITCH = ("uplink_d2h", "uplink_h2d")


def cautions_of_hosts(scenario: Scenario) -> list[str]:
    """Return a sentence for each setting without effect, and for what is taken in place of one that is missing."""
    return [*_links(scenario.hardware), *_placement(scenario)]


def _known(hardware: Hardware, *keys: str) -> bool:
    return any(hardware.value_of(key) is not None for key in keys)


def _links(hardware: Hardware) -> list[str]:
    out = []
    sends_over_pcie = hardware.value_of("p2p_link") == "pcie"
    if hardware.gpus_per_switch is not None and not _known(hardware, *_OF_A_SWITCH) and not sends_over_pcie:
        out.append("hardware.gpus_per_switch has no effect: neither uplink_d2h nor uplink_h2d is given")
    weights = [key for key in ("d2h_weight", "h2d_weight") if getattr(hardware, key) is not None]
    if weights and not _known(hardware, *_BOTH_WAYS):
        out.append(
            f"hardware.{weights[0]} has no effect: copies of both directions meet only in duplex or "
            "host_memory_bandwidth, and neither is given"
        )
    return out


def _placement(scenario: Scenario) -> list[str]:
    hardware, parallel = scenario.hardware, scenario.parallel
    placement, out = placement_of(parallel, hardware), []
    processes = placement.processes(parallel.pipeline_parallel_degree)
    shared = _known(hardware, *_OF_A_HOST)
    if placement.gpus_per_host is None:
        written = [key for key in _NETWORK if key in hardware.model_fields_set and getattr(hardware, key) is not None]
        if written:
            have = "have" if len(written) > 1 else "has"
            names = ", ".join(f"hardware.{key}" for key in written)
            which = "the one process stands" if processes == 1 else f"all {processes} processes stand"
            out.append(f"{names} {have} no effect: {which} on one host")
    elif hardware.value_of("gpus_per_host") is None and shared:
        out.append(
            f"hardware.gpus_per_host is not given: {processes} processes are taken to stand on hosts of "
            f"{placement.gpus_per_host} GPUs"
        )
    if not shared and not _known(hardware, *_OF_A_SWITCH, "p2p_link"):
        out += _unheard(scenario)
    return out


def _unheard(scenario: Scenario) -> list[str]:
    """Return that a placement decides nothing, where nothing is known that depends on it."""
    hosts = "hardware.gpus_per_host"
    is_written = scenario.hardware.gpus_per_host is not None and hosts not in scenario.notes.by_default
    keys = [hosts] if is_written else []
    parallel = scenario.parallel
    if "placement_strategy" in parallel.model_fields_set and parallel.placement_strategy != "cluster":
        keys.append("parallel.placement_strategy")
    have = "have" if len(keys) > 1 else "has"
    because = "nothing is given that the GPUs of a host share: name hardware.machine, or write e.g. host_memory"
    return [f"{', '.join(keys)} {have} no effect: {because}"] if keys else []
