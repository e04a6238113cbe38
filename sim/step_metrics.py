"""A step's metrics are typed results, which :mod:`loadahead.sim.metrics` computes and everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMetrics:
    """Holds one rank's metrics under the keys of the command line's JSON (DESIGN, section 4), in ns and bytes.

    ``compute_ns`` is the time from start to end of all tasks, also where one waits inside for the host to issue its
    later kernels; ``idle_ns`` is the rest of the step's time, stalls included. ``overlap`` is the time in which a copy
    and compute run at once over the time in which any copy runs; 0.0 without copies.
    """

    rank: int
    peak_device_bytes: int
    peak_boundary_bytes: int
    peak_host_bytes: int
    compute_ns: int
    idle_ns: int
    stall_release_ns: int
    stall_prefetch_ns: int
    stall_recv_ns: int
    copy_ns: int
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """Holds the step's time in ns and every rank's metrics."""

    step_time_ns: int
    ranks: tuple[RankMetrics, ...]

    @property
    def peak_device_bytes(self) -> int:
        """Return the peak of device memory, in bytes, of the rank that has most."""
        return max((rank.peak_device_bytes for rank in self.ranks), default=0)

    @property
    def peak_host_bytes(self) -> int:
        """Return the peak of host memory, in bytes, of the rank that has most."""
        return max((rank.peak_host_bytes for rank in self.ranks), default=0)

    @classmethod
    def from_dict(cls, summary: Mapping[str, Any]) -> Self:
        """Return the metrics that :meth:`to_dict` made a dictionary of; other keys are left out."""
        names = [field.name for field in fields(RankMetrics)]
        ranks = tuple(RankMetrics(**{name: rank[name] for name in names}) for rank in summary["ranks"])
        return cls(step_time_ns=summary["step_time_ns"], ranks=ranks)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain data."""
        return {"step_time_ns": self.step_time_ns, "ranks": [asdict(rank) for rank in self.ranks]}
