"""Says in words what a scenario runs on: its hosts, its GPUs, and the link between them."""

from __future__ import annotations

from loadahead.scenarios.tables import Hardware
from loadahead.sim.costs import Costs
from loadahead.sim.units import counted, format_bytes, format_rate


def machine_in_words(hardware: Hardware, costs: Costs, ranks: int) -> str | None:
    """Return the hosts, e.g. ``2 x p5.48xlarge``; None where nothing is said of them."""
    placement = costs.placement
    hosts = placement.table(ranks).hosts
    if hardware.machine is not None:
        return f"{hosts} x {hardware.machine}"
    return counted(hosts, "host") if hosts > 1 else None


def device_in_words(hardware: Hardware, costs: Costs) -> str:
    """Return the GPU and its memory, e.g. ``h100-sxm, 79.65 GiB``."""
    return f"{hardware.accelerator or 'a GPU'}, {format_bytes(costs.memory_bytes)}"


def link_in_words(costs: Costs) -> str:
    """Return how fast copies are, alone on their link, e.g. ``400 MB/s out, 30 MB/s back``."""
    out, back = format_rate(costs.d2h_bandwidth), format_rate(costs.h2d_bandwidth)
    return f"{out} each way" if out == back else f"{out} out, {back} back"
