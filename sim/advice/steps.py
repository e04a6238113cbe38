"""What a step takes under many policies of one workload, also where copies or launches are thought away.

Where links are private, steps are computed without plans (:mod:`loadahead.sim.policy_metrics`), else plan by plan.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loadahead.sim.advice.findings import Figures
from loadahead.sim.advice.names import LAUNCHES, OFFLOAD_STALLS, PREFETCH_STALLS
from loadahead.sim.costs import Costs
from loadahead.sim.engines.compiled_engine import run as run_shared
from loadahead.sim.engines.compiled_engine import run_alone
from loadahead.sim.engines.simulate import simulate
from loadahead.sim.host_memory import HostMemory
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.memory import walk
from loadahead.sim.metrics import offload_counts
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.routes import are_private
from loadahead.sim.step_metrics import step_time
from loadahead.sim.workload import Workload

# Operations that are timed in a second, on one core: without plans, and with a plan and flows that share links.
PLANLESS_PER_SECOND, SHARED_PER_SECOND = 40_000_000, 1_000_000
# What an operation beyond the tasks is: four for each boundary that leaves, some for what is sent.
_OPERATIONS_PER_BOUNDARY = 8


@dataclass(slots=True)
class Steps:
    """Times steps of one workload under its costs, without what is ``removed`` (:mod:`loadahead.sim.advice.names`)."""

    workload: Workload
    costs: Costs
    ranks: int
    stage_rank: Sequence[int] | None = None
    removed: frozenset[str] = frozenset()
    # A step in which no transfer slows another down, though the costs say where some could.
    alone: bool = False
    _groups: Groups = field(default_factory=Groups)
    # Whether no transfer can slow another down.
    private: bool = field(init=False)
    _costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        self.private = self.alone or are_private(self.costs, self.ranks, self.stage_rank)
        self._costs = _without(self.costs, self.removed, self.private)

    @property
    def monotone(self) -> bool:
        """Return whether a larger horizon never makes a step longer.

        Then all times are sums and maxima of earlier ones. A larger horizon takes waits away, and lets copies start
        earlier, in the same order; nothing else changes. Not so where a host issues operations one after the other, as
        what it issues earlier delays what it issued before, nor where a copy slows others down.
        """
        return self.private and not self._launches

    @property
    def _launches(self) -> bool:
        return bool(self._costs.launch_table().any())

    def lower_bound(self) -> Steps:
        """Return monotone steps of which none is longer than the one of these for the same policy.

        A copy alone on its link is at least as quick as one among others, and an operation that is issued at once as
        one that has to be issued.
        """
        if self.monotone:
            return self
        return replace(self, removed=self.removed | {LAUNCHES}, alone=True)

    def without(self, removed: Sequence[str]) -> Steps:
        """Return the same steps with more thought away."""
        return replace(self, removed=self.removed | set(removed))

    def seconds(self, policy: Policy) -> float:
        """Return about how long it takes to time one step."""
        return self.operations(policy) / (PLANLESS_PER_SECOND if self.private else SHARED_PER_SECOND)

    def operations(self, policy: Policy) -> int:
        """Return about how many operations one step has."""
        return _OPERATIONS_PER_BOUNDARY * policy.microbatches * sum(map(len, self.workload.stages))

    def waits_ns(self, policy: Policy) -> int:
        """Return how long the rank that does so most waits for its offloads and prefetches, in ns."""
        metrics = simulate(build_plan(self.workload, policy), self.costs).metrics
        return max(rank.stall_release_ns + rank.stall_prefetch_ns for rank in metrics.ranks)

    def figures(self, policy: Policy) -> Figures:
        """Return what the policy's plan takes."""
        horizon = policy.horizon if policy.offload and policy.checkpoint else None
        found = None
        if self.private:
            found = self._groups.with_peaks(self.workload, self._costs, policy)
        if found is not None:
            row, peaks = found
            return Figures(
                horizon=horizon,
                step_time_ns=row.step_time_ns,
                rank_device_bytes=tuple(peaks.tolist()),
                host_bytes=row.host_bytes,
                offloaded=row.offloaded,
            )
        plan = build_plan(self.workload, policy)
        memory = walk(plan, self.costs)
        return Figures(
            horizon=horizon,
            step_time_ns=self._of_plan(plan),
            rank_device_bytes=tuple(memory.peak_device.tolist()),
            host_bytes=HostMemory.of(memory.peak_host, self.costs.placement).nbytes,
            offloaded=offload_counts(plan)[0],
        )

    def _of_plan(self, plan: Plan) -> int:
        run = run_alone if self.private else run_shared
        times = run(_without_copies(plan, self.removed), self._costs)
        return step_time(int(times.start_ns.min()), int(times.end_ns.max()))


# The costs of each kind of copy: its bandwidth and its latency.
_COPIES = {
    OFFLOAD_STALLS: (Kind.OFFLOAD, "d2h_bandwidth", "d2h_latency_ns"),
    PREFETCH_STALLS: (Kind.PREFETCH, "h2d_bandwidth", "h2d_latency_ns"),
}


def _without(costs: Costs, removed: Set[str], private: bool) -> Costs:
    """Return costs in which what is removed takes no time. They are for the walk alone: no file can hold them."""
    changes: dict[str, Any] = {}
    if LAUNCHES in removed:
        changes |= {"launch_ns": 0, "launch_by_kind": {}}
    for name, (_, bandwidth, latency) in _COPIES.items():
        if name in removed:
            changes[latency] = 0
            if private:
                changes[bandwidth] = None  # on a link without a bandwidth bytes take no time
    return costs.model_copy(update=changes) if changes else costs


def _without_copies(plan: Plan, removed: Set[str]) -> Plan:
    """Return the plan with copies that move nothing, so that they neither take nor share bandwidth."""
    kinds = [kind for name, (kind, _, _) in _COPIES.items() if name in removed]
    if not kinds:
        return plan
    nbytes = np.where(np.isin(plan.ops.kind, kinds), 0, plan.ops.nbytes)
    return replace(plan, ops=replace(plan.ops, nbytes=nbytes))
