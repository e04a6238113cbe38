"""``costs = "estimate"`` asks for a module's times by roofline: the GPU that the hardware names, or describes."""

from __future__ import annotations

from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.tables import COMPUTE_KEYS, Hardware
from loadahead.sim.costs import ESTIMATE
from loadahead.sim.errors import InputError
from loadahead.sim.units import format_flops, format_rate


def require_gpu(hardware: Hardware) -> None:
    """Raise InputError where the hardware does not say how fast its GPU computes and moves bytes."""
    missing = [f"hardware.{key}" for key in ("flops", "memory_bandwidth") if hardware.value_of(key) is None]
    if missing:
        raise InputError(
            f'costs = "{ESTIMATE}" needs to know the GPU, and {" and ".join(missing)} {_are(missing)} missing; write '
            f"hardware.preset = one of {', '.join(ACCELERATORS)}, or hardware.machine, e.g. p4d.24xlarge, or "
            "hardware.flops and hardware.memory_bandwidth"
        )


def estimate_source(hardware: Hardware) -> str:
    """Return what costs that are estimated for this hardware say of themselves."""
    return f"{ESTIMATE} {_by_roofline(hardware)}"


def counted_source(hardware: Hardware) -> str:
    """Return what costs say of themselves whose times follow from a scenario's shapes, which nobody asked for."""
    return f"scenario, {_by_roofline(hardware)}"


def _by_roofline(hardware: Hardware) -> str:
    written = [f"hardware.{key}" for key in COMPUTE_KEYS if getattr(hardware, key) is not None]
    if hardware.accelerator is not None:
        own = f" with {', '.join(written)} as written" if written else ""
        return f"by roofline for {hardware.accelerator}{own}"
    flops, bandwidth = hardware.value_of("flops"), hardware.value_of("memory_bandwidth")
    known = [*([f"{format_flops(flops)}/s"] if flops else []), *([format_rate(bandwidth)] if bandwidth else [])]
    share = [] if hardware.efficiency is None else [f"with an efficiency of {hardware.efficiency:g}"]
    return " ".join(["by roofline for a GPU of", " and ".join(known), *share])


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
