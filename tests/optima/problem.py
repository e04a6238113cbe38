"""A small problem: how long each task and copy takes, and a cap on boundary bytes.

The order of the tasks is fixed; which boundaries leave, and in which slots their RELEASE and ACQUIRE stand, is free.
There is no time between ranks, no latency and no launch time, and copies of both directions do not slow each other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs, UnitCost
from loadahead.sim.planner import Policy
from loadahead.sim.workload import UnitShape, Workload

_PIPELINES = ("simple", "interleaved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a unit costs for one microbatch."""

    forward_ns: int
    recompute_ns: int
    backward_ns: int
    boundary_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A problem: the model on its ranks, the order, the links and the cap.

    Attributes:
        pipeline: ``"simple"`` (GPipe) or ``"interleaved"`` (1F1B).
        stages: the units of each rank's stage.
        d2h_bandwidth, h2d_bandwidth: in bytes per second; every copy takes a whole number of ns.
        receive_ahead: tasks between the ACQUIRE of what is received and the task that reads it.
        cap_bytes: the most boundary bytes that a rank may hold at any time, ``peak_boundary_bytes``.
    """

    name: str
    pipeline: str
    microbatches: int
    stages: tuple[tuple[Unit, ...], ...]
    d2h_bandwidth: int
    h2d_bandwidth: int
    receive_ahead: int
    cap_bytes: int

    def __post_init__(self) -> None:
        if self.pipeline not in _PIPELINES:
            raise ValueError(f"{self.name}: pipeline is {self.pipeline!r}; it must be one of {', '.join(_PIPELINES)}")
        for unit in (unit for stage in self.stages for unit in stage):
            for bandwidth in (self.d2h_bandwidth, self.h2d_bandwidth):
                if unit.boundary_bytes * NANOSECONDS_PER_SECOND % bandwidth:
                    raise ValueError(f"{self.name}: {unit.boundary_bytes} bytes at {bandwidth} B/s take no whole ns")

    @property
    def ranks(self) -> int:
        """How many ranks there are, of one stage each."""
        return len(self.stages)

    @property
    def digest(self) -> str:
        """A digest of all that the optimum depends on."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def out_ns(self, nbytes: int) -> int:
        """How long so many bytes take to the host."""
        return nbytes * NANOSECONDS_PER_SECOND // self.d2h_bandwidth

    def back_ns(self, nbytes: int) -> int:
        """How long so many bytes take from the host."""
        return nbytes * NANOSECONDS_PER_SECOND // self.h2d_bandwidth

    def problem(self) -> tuple[Workload, Costs, Policy]:
        """The instance as the planner and the engines take it; the policy's horizon is none of the instance's."""
        shapes = [
            tuple(UnitShape(boundary_bytes=u.boundary_bytes, gradient_bytes=u.boundary_bytes) for u in stage)
            for stage in self.stages
        ]
        times = [
            tuple(
                UnitCost(forward_ns=u.forward_ns, recompute_ns=u.recompute_ns, backward_ns=u.backward_ns) for u in stage
            )
            for stage in self.stages
        ]
        costs = Costs(
            units=tuple(times),
            static_bytes=(0,) * self.ranks,
            d2h_bandwidth=self.d2h_bandwidth,
            h2d_bandwidth=self.h2d_bandwidth,
            memory_bytes=2**50,
        )
        policy = Policy(
            pipeline=self.pipeline,
            microbatches=self.microbatches,
            ranks=self.ranks,
            receive_ahead=self.receive_ahead,
        )
        return Workload(stages=tuple(shapes)), costs, policy

    def scenario(self) -> dict[str, Any] | None:
        """The instance as a scenario's tables; None where stages differ, which kind uniform cannot say."""
        if len(set(self.stages)) > 1:
            return None
        (units,) = set(self.stages)
        model: dict[str, Any] = {"kind": "uniform", "units_per_stage": len(units)}
        for key, of_unit in (("forward", "forward_ns"), ("recompute", "recompute_ns"), ("backward", "backward_ns")):
            model[key] = [f"{getattr(unit, of_unit)} ns" for unit in units]
        model["boundary"] = [f"{unit.boundary_bytes} B" for unit in units]
        return {
            "name": self.name,
            "model": model,
            "hardware": {
                "d2h": f"{self.d2h_bandwidth} B/s",
                "h2d": f"{self.h2d_bandwidth} B/s",
                "memory": f"{2**50} B",
            },
            "parallel": {
                "microbatches": self.microbatches,
                "pipeline_parallel_degree": self.ranks,
                "pipeline": self.pipeline,
            },
            "offload": {"receive_ahead": self.receive_ahead},
        }
