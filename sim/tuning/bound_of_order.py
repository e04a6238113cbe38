"""The bound of an order under memory limits is reckoned here; docs/bound.md says why no plan beats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.costs import MOST_TOTAL
from loadahead.sim.engines.compiled_engine import run_alone
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.planner import build_plan
from loadahead.sim.step_metrics import step_time
from loadahead.sim.tuning.bound import COMPUTE, CRITICAL_PATH, LINK, Bound
from loadahead.sim.tuning.bound_cases import Case, Cases
from loadahead.sim.tuning.bound_needs import Needs
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial


def bound_of(trial: Trial, limits: Limits) -> Bound:
    """Return the bound of the order under the limits, whatever leaves and at whatever slots.

    Where no plan keeps the limits it says nothing beyond what keeping all takes.
    """
    plan = build_plan(trial.workload, replace(trial.policy, offload=False))
    times = run_alone(plan, trial.costs)
    critical = step_time(int(times.start_ns.min()), int(times.end_ns.max()))
    rank, compute = _compute(plan, trial, times.start_ns)
    link = _link(plan, trial, limits, int(times.start_ns.min()))
    step = max(compute, critical, 0 if link is None else link.step_time_ns)
    limited_by = COMPUTE if compute == step else CRITICAL_PATH if critical == step else LINK
    whose = {COMPUTE: rank, CRITICAL_PATH: None, LINK: None if link is None else link.rank}
    return Bound(
        step_time_ns=step,
        limited_by=limited_by,
        rank=whose[limited_by],
        compute_ns=compute,
        link_ns=0 if link is None else link.step_time_ns,
        critical_path_ns=critical,
        link_bytes=link.nbytes if link is not None and limited_by == LINK else 0,
    )


def _compute(plan: Plan, trial: Trial, start: Ints) -> tuple[int, int]:
    """Return the rank whose tasks take longest, with what comes before and after them, and how long that is, in ns."""
    durations, ops = trial.costs.durations(plan), plan.ops
    behind = np.zeros(len(plan), dtype=np.int64)
    _behind(durations, plan.previous_in_queue, ops.after.starts, ops.after.values, behind)
    sums = []
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        own = own[ops.kind[own] <= Kind.BACKWARD_WEIGHT]
        sums.append(int(start[own[0]] - start.min() + durations[own].sum() + behind[own[-1]]) if len(own) else 0)
    longest = max(range(plan.ranks), key=sums.__getitem__)
    return longest, sums[longest]


@compiled
def _behind(duration, previous, starts, values, behind):  # type: ignore[no-untyped-def]
    """Fill how long what has to follow each operation takes at the least, of shape (operations,)."""
    for i in range(len(duration) - 1, -1, -1):
        from_here = behind[i] + duration[i]
        if previous[i] >= 0:
            behind[previous[i]] = max(behind[previous[i]], from_here)
        for e in range(starts[i], starts[i + 1]):
            behind[values[e]] = max(behind[values[e]], from_here)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """Holds the bound by links: the step's time, the rank whose link it is, and the bytes that must leave that one."""

    step_time_ns: int
    rank: int
    nbytes: int


def _link(plan: Plan, trial: Trial, limits: Limits, first_ns: int) -> _Link | None:
    """Return the bound by links; None where nothing must leave, or nothing can. ``first_ns`` is when plans begin."""
    if not trial.policy.checkpoint or not _fits(plan, trial):
        return None
    needs = Needs.of(plan, trial, limits)
    if not needs.any:
        return None
    least = Cases(plan, trial.costs, needs).least()
    parts = [needs.parts_that_leave(rank) for rank in range(plan.ranks)]
    rank, step = _most_waited_for(least, parts), least.step_time_ns
    copies = [-(-of_rank // largest) for of_rank, largest in zip(parts, needs.largest, strict=True)]
    issuing, issued = _issued(plan, trial, copies)
    if issued - first_ns > step:
        rank, step = issuing, issued - first_ns
    return _Link(step_time_ns=step, rank=rank, nbytes=parts[rank] * needs.part[rank])


def _most_waited_for(least: Case, parts: Sequence[int]) -> int:
    """Return the rank on whose links the longest path waits longest; without such waits, the one that most leaves."""
    waited = [0] * len(parts)
    for wait in least.waits:
        waited[wait.rank] += wait.ns
    return max(range(len(parts)), key=lambda rank: (waited[rank], parts[rank]))


def _fits(plan: Plan, trial: Trial) -> bool:
    """Return whether all that the walk adds up is sure to fit 64 bits, were every boundary to leave."""
    sizes = trial.sizes
    copies = sum(trial.costs.transfer(kind, sizes).sum(dtype=np.float64) for kind in (Kind.OFFLOAD, Kind.PREFETCH))
    own = trial.costs.durations(plan).sum(dtype=np.float64) + trial.costs.launches(plan).sum(dtype=np.float64)
    launches = 4.0 * trial.tasks.boundaries * float(trial.costs.launch_table().max())
    return bool(own + launches + copies * trial.tasks.microbatches < MOST_TOTAL)


# What a boundary that leaves adds to the operations that its rank's host issues.
_ADDED = [Kind.OFFLOAD, Kind.RELEASE, Kind.ACQUIRE, Kind.PREFETCH]


def _issued(plan: Plan, trial: Trial, copies: Sequence[int]) -> tuple[int, int]:
    """Return the rank whose host is the last to have issued all, where so many boundaries leave each, and when."""
    added = int(trial.costs.launch_table()[_ADDED].sum())
    own = np.zeros(plan.ranks, dtype=np.int64)
    np.add.at(own, plan.ops.rank, trial.costs.launches(plan))
    ends = [int(end) + added * leaving for end, leaving in zip(own, copies, strict=True)]
    latest = max(range(plan.ranks), key=ends.__getitem__)
    return latest, ends[latest]
