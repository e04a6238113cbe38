"""Describes the connections that a run uses: to the host, from the host, and between ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loadahead.executor.backends import Link
from loadahead.sim.costs import Costs
from loadahead.sim.units import format_duration, format_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Describes a scenario's ``[hardware]``: the links that a backend emulates or finds, and device and host memory.

    Bandwidths in bytes/s (None: unlimited), latencies in ns, memory in bytes (None: not known).
    """

    d2h_bandwidth: int
    h2d_bandwidth: int
    memory_bytes: int
    d2h_latency_ns: int = 0
    h2d_latency_ns: int = 0
    p2p_latency_ns: int = 0
    p2p_bandwidth: int | None = None
    host_memory_bytes: int | None = None

    @classmethod
    def of(cls, costs: Costs) -> Hardware:
        """Return the hardware as it was configured, whether the costs were given or calibrated."""
        names = cls.__dataclass_fields__
        configured = costs.configured()
        return cls(**{name: configured.get(name, getattr(costs, name)) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON holds them."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Holds the connections that every rank has."""

    d2h: Link
    h2d: Link
    p2p: Link

    @classmethod
    def of(cls, hardware: Hardware) -> Links:
        """Return the links of the hardware."""
        return cls(
            d2h=Link(bandwidth=hardware.d2h_bandwidth, latency_ns=hardware.d2h_latency_ns),
            h2d=Link(bandwidth=hardware.h2d_bandwidth, latency_ns=hardware.h2d_latency_ns),
            p2p=Link(bandwidth=hardware.p2p_bandwidth, latency_ns=hardware.p2p_latency_ns),
        )

    def in_words(self, ranks: int) -> str:
        """Return each link's bandwidth and latency; nothing of a link between ranks where there is one rank."""
        named = {"d2h": self.d2h, "h2d": self.h2d} | ({"between ranks": self.p2p} if ranks > 1 else {})
        return ", ".join(
            f"{name} {'unlimited' if link.bandwidth is None else format_rate(link.bandwidth)} after "
            f"{format_duration(link.latency_ns)}"
            for name, link in named.items()
        )
