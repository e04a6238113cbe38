"""Warns about what is said of hosts, and of what their GPUs share, without effect."""

from __future__ import annotations

from dataclasses import dataclass, fields

from loadahead.scenarios.communication.groups import Group, Groups
from loadahead.scenarios.parallelism import communicating
from loadahead.scenarios.placement import placement_of
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.tables import Hardware
from loadahead.sim.placement import Placement

# Keys of sends between hosts.
_NETWORK = ("network_bandwidth", "gpu_network_bandwidth", "network_latency", "gpus_per_nic")
# What the processes of one host share, apart from all other hosts'.
_OF_A_HOST = ("host_memory_bandwidth", *_NETWORK, "host_memory")
_OF_A_SWITCH = ("uplink_d2h", "uplink_h2d")


def cautions_of_hosts(scenario: Scenario) -> list[str]:
    """Return a sentence for each setting without effect, and for what is taken in place of one that is missing."""
    found = _Sends.of(scenario)
    if scenario.hardware.is_ideal:
        return _placement(scenario, found)
    return [*_links(scenario.hardware, found), *_network(scenario.hardware, found), *_placement(scenario, found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sends:
    """Says how many processes there are on how many hosts, and what ranks send."""

    placement: Placement
    processes: int
    any: bool
    between_hosts: bool
    over_links: bool
    # Whether the model's times have in them what GPUs add up and gather, in groups, and whether on several hosts.
    groups: bool
    groups_between_hosts: bool

    @classmethod
    def of(cls, scenario: Scenario) -> _Sends:
        hardware, ranks = scenario.hardware, scenario.parallel.pipeline_parallel_degree
        placement = placement_of(scenario.parallel, hardware)
        between = placement.is_apart(ranks)
        counts = scenario.model.times is None
        groups = _each(communicating(scenario.parallel, hardware)) if counts else []
        networked = between and _known(hardware, "network_bandwidth", "gpu_network_bandwidth")
        return cls(
            placement=placement,
            processes=placement.processes(ranks),
            any=ranks > 1,
            between_hosts=between,
            groups=any(group.gpus > 1 for group in groups),
            groups_between_hosts=any(group.hosts > 1 for group in groups),
            over_links=networked or (ranks > 1 and hardware.value_of("p2p_link") == "pcie"),
        )


def _each(groups: Groups) -> list[Group]:
    return [getattr(groups, each.name) for each in fields(groups)]


def _known(hardware: Hardware, *keys: str) -> bool:
    return any(hardware.value_of(key) is not None for key in keys)


def _links(hardware: Hardware, sends: _Sends) -> list[str]:
    out = []
    over_pcie = sends.any and hardware.value_of("p2p_link") == "pcie"
    if hardware.gpus_per_switch is not None and not _known(hardware, *_OF_A_SWITCH):
        if not over_pcie:
            out.append("hardware.gpus_per_switch has no effect: neither uplink_d2h nor uplink_h2d is given")
        elif not _known(hardware, "host_memory_bandwidth"):
            out.append(
                "hardware.gpus_per_switch has no effect: neither an uplink nor host_memory_bandwidth is given, which "
                "sends between switches go through"
            )
    weights = [key for key in ("d2h_weight", "h2d_weight") if getattr(hardware, key) is not None]
    if weights and not _known(hardware, "duplex", "host_memory_bandwidth") and not sends.over_links:
        out.append(
            f"hardware.{weights[0]} has no effect: copies of both directions meet only in duplex or "
            "host_memory_bandwidth, and neither is given"
        )
    if sends.groups and not _known(hardware, "p2p_bandwidth"):
        out.append(
            "hardware.p2p_bandwidth is not given: what GPUs of one host add up and gather takes its latency, and no "
            "time for its bytes"
        )
    if hardware.p2p_link is not None and not (sends.any or sends.groups):
        out.append("hardware.p2p_link has no effect: the one rank of the pipeline sends nothing")
    elif hardware.p2p_link == "nvlink" and not _known(hardware, "p2p_bandwidth"):
        out.append("hardware.p2p_link has no effect: p2p_bandwidth is not given, which an NVLink port has")
    return out


def _network(hardware: Hardware, sends: _Sends) -> list[str]:
    written = [key for key in _NETWORK if getattr(hardware, key) is not None]
    leaves = sends.between_hosts or sends.groups_between_hosts
    if written and not leaves:
        if sends.placement.gpus_per_host is not None:
            why = "no rank sends to another host"
        else:
            stand = "the one process stands" if sends.processes == 1 else f"all {sends.processes} processes stand"
            why = f"{stand} on one host"
        return [_without_effect([f"hardware.{key}" for key in written], why)]
    if "gpus_per_nic" in written and not _known(hardware, "gpu_network_bandwidth"):
        return [_without_effect(["hardware.gpus_per_nic"], "gpu_network_bandwidth is not given, which a card has")]
    has_network = _known(hardware, "network_bandwidth", "gpu_network_bandwidth")
    of_hosts = _known(hardware, *_OF_A_HOST, *_OF_A_SWITCH, "p2p_link", "gpus_per_host")
    if not leaves or has_network or not (of_hosts or sends.groups_between_hosts):
        return []
    who = "ranks send" if sends.between_hosts else "replicas or parts of layers send"
    return [
        f"{who} to other hosts, and neither hardware.network_bandwidth nor gpu_network_bandwidth is given: these sends "
        "are taken to be as quick as inside a host"
    ]


def _placement(scenario: Scenario, sends: _Sends) -> list[str]:
    hardware = scenario.hardware
    known = _known(hardware, *_OF_A_HOST, *_OF_A_SWITCH, "p2p_link")
    if not known:
        return _unheard(scenario)
    if sends.placement.gpus_per_host is None or hardware.value_of("gpus_per_host") is not None:
        return []
    return [
        f"hardware.gpus_per_host is not given: {sends.processes} processes are taken to stand on hosts of "
        f"{sends.placement.gpus_per_host} GPUs"
    ]


def _unheard(scenario: Scenario) -> list[str]:
    """Return that a placement decides nothing, where nothing is known that depends on it."""
    hosts = "hardware.gpus_per_host"
    is_written = scenario.hardware.gpus_per_host is not None and hosts not in scenario.notes.by_default
    keys = [hosts] if is_written else []
    parallel = scenario.parallel
    if "placement_strategy" in parallel.model_fields_set and parallel.placement_strategy != "cluster":
        keys.append("parallel.placement_strategy")
    because = "nothing is given that the GPUs of a host share: name hardware.machine, or write e.g. host_memory"
    have = "have" if len(keys) > 1 else "has"
    return [f"{', '.join(keys)} {have} no effect on times and memory: {because}"] if keys else []


def _without_effect(keys: list[str], why: str) -> str:
    return f"{', '.join(keys)} {'have' if len(keys) > 1 else 'has'} no effect: {why}"
