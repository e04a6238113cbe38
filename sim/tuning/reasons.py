"""Why a tuned plan is as it is follows from the plan and its costs: what had to leave, for how long, and what waits.

Everything here is read off simulated steps: that of the plan, of keeping all, and of the best horizon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from loadahead.sim.away import away_ns
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import STAYS, Decisions
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.planner import build_plan
from loadahead.sim.step_metrics import RankMetrics, bytes_missing
from loadahead.sim.timeline import Timeline
from loadahead.sim.tuning.answer import Candidate, Tuning
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.workload import Workload

# From a first to a last number, both of them inside.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Names boundaries that leave: of consecutive units of one stage, the same microbatches of each.

    Attributes:
        rank, stage: where they are.
        units: the first and the last unit, counted within the stage.
        microbatches: as spans, in rising order.
    """

    rank: int
    stage: int
    units: Span
    microbatches: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankReasons:
    """Says what leaves one rank's device and why. Times are in ns, sizes in bytes.

    Attributes:
        rank: its number.
        boundaries: how many there are on which is decided.
        leave: how many of them leave.
        leave_bytes: what these hold together; as much is copied in each direction.
        keep_all_device_bytes, keep_all_boundary_bytes: its peaks where all stay.
        peak_device_bytes, peak_boundary_bytes: its peaks in the tuned plan.
        too_much_bytes: by how much keeping all is beyond a limit; 0 where this rank could keep all.
        away_tasks: the fewest and the most tasks between RELEASE and ACQUIRE of what leaves; None where nothing does.
        away_ns: the shortest and the longest time between the two; None likewise.
        d2h_ns, h2d_ns: how long copies out and copies back run.
        waits_ns: how long its compute queue waits for copies.
        horizon_waits_ns: the same in the plan of the best horizon; None without one.
    """

    rank: int
    boundaries: int
    leave: int
    leave_bytes: int
    keep_all_device_bytes: int
    keep_all_boundary_bytes: int
    peak_device_bytes: int
    peak_boundary_bytes: int
    too_much_bytes: int
    away_tasks: Span | None
    away_ns: Span | None
    d2h_ns: int
    h2d_ns: int
    waits_ns: int
    horizon_waits_ns: int | None

    @property
    def stay(self) -> int:
        """Return how many boundaries stay."""
        return self.boundaries - self.leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """Holds what is to be said of each rank, and which boundaries leave."""

    ranks: tuple[RankReasons, ...]
    leaving: tuple[Leaving, ...]

    @property
    def leave_bytes(self) -> int:
        """Return what all boundaries that leave hold together."""
        return sum(rank.leave_bytes for rank in self.ranks)

    @property
    def beyond(self) -> tuple[RankReasons, ...]:
        """Return the ranks that cannot keep all under the limits."""
        return tuple(rank for rank in self.ranks if rank.too_much_bytes)


def reasons_of(tuning: Tuning, workload: Workload, costs: Costs) -> Reasons:
    """Return why the chosen plan is as it is; raise InputError where workload and costs are not those of the tuning."""
    plan, step = _simulated(tuning.chosen, workload, costs)
    _, kept = _simulated(tuning.keep_all, workload, costs)
    waits = None
    if tuning.horizon is not None:
        waits = [_waits(rank) for rank in _simulated(tuning.horizon, workload, costs)[1].metrics.ranks]
    decisions, at = Decisions.of(plan), _ranks_of(plan)
    leaves, away = decisions.acquire != STAYS, away_ns(plan, step)
    rank_of = np.asarray([at[stage] for stage in decisions.stage.tolist()], dtype=np.int64)
    ranks = []
    for own, before in zip(step.metrics.ranks, kept.metrics.ranks, strict=True):
        here = rank_of == own.rank
        out = here & leaves
        ranks.append(
            RankReasons(
                rank=own.rank,
                boundaries=int(here.sum()),
                leave=int(out.sum()),
                leave_bytes=_copied(plan, own.rank),
                keep_all_device_bytes=before.peak_device_bytes,
                keep_all_boundary_bytes=before.peak_boundary_bytes,
                peak_device_bytes=own.peak_device_bytes,
                peak_boundary_bytes=own.peak_boundary_bytes,
                too_much_bytes=_too_much(before, tuning.limits),
                away_tasks=_span((decisions.acquire - decisions.release)[out]),
                away_ns=_span(away[out]),
                d2h_ns=_busy(plan, step, own.rank, Queue.D2H),
                h2d_ns=_busy(plan, step, own.rank, Queue.H2D),
                waits_ns=_waits(own),
                horizon_waits_ns=None if waits is None else waits[own.rank],
            )
        )
    return Reasons(ranks=tuple(ranks), leaving=leaving(decisions, at))


def leaving(decisions: Decisions, rank_of: dict[int, int]) -> tuple[Leaving, ...]:
    """Return which boundaries leave, in as few entries as consecutive units with the same microbatches allow.

    ``rank_of`` has each stage's rank.
    """
    units: dict[tuple[int, int], list[int]] = {}
    out = decisions.acquire != STAYS
    columns = (decisions.stage[out], decisions.unit[out], decisions.microbatch[out])
    for stage, unit, microbatch in sorted(zip(*(column.tolist() for column in columns), strict=True)):
        units.setdefault((stage, unit), []).append(microbatch)
    found: list[Leaving] = []
    for (stage, unit), microbatches in units.items():
        those, last = spans(microbatches), found[-1] if found else None
        first = unit
        if last is not None and (last.stage, last.units[1], last.microbatches) == (stage, unit - 1, those):
            first = last.units[0]
            found.pop()
        found.append(Leaving(rank=rank_of[stage], stage=stage, units=(first, unit), microbatches=those))
    return tuple(found)


def spans(numbers: Iterable[int]) -> tuple[Span, ...]:
    """Return numbers, which rise, as spans: 1, 2, 3, 7 are 1 to 3 and 7 to 7."""
    out: list[Span] = []
    for number in numbers:
        if out and out[-1][1] == number - 1:
            out[-1] = (out[-1][0], number)
        else:
            out.append((number, number))
    return tuple(out)


def _simulated(one: Candidate, workload: Workload, costs: Costs) -> tuple[Plan, Timeline]:
    plan = build_plan(workload, one.policy, decisions=one.decisions)
    return plan, simulate(plan, costs)


def _ranks_of(plan: Plan) -> dict[int, int]:
    """Return each stage's rank."""
    forwards = plan.ops.kind == Kind.FORWARD
    stages, first = np.unique(plan.ops.stage[forwards], return_index=True)
    return dict(zip(stages.tolist(), plan.ops.rank[forwards][first].tolist(), strict=True))


def _copied(plan: Plan, rank: int) -> int:
    """Return the bytes that a rank copies out."""
    return int(plan.ops.nbytes[plan.queue_ops(rank, Queue.D2H)].sum())


def _busy(plan: Plan, step: Timeline, rank: int, queue: Queue) -> int:
    rows = plan.queue_ops(rank, queue)
    return int((step.end_ns[rows] - step.start_ns[rows]).sum())


def _waits(rank: RankMetrics) -> int:
    return rank.stall_release_ns + rank.stall_prefetch_ns


def _too_much(rank: RankMetrics, limits: Limits) -> int:
    return max(
        bytes_missing(rank.peak_device_bytes, limits.device_bytes),
        bytes_missing(rank.peak_boundary_bytes, limits.boundary_bytes),
    )


def _span(values: Ints) -> Span | None:
    return (int(values.min()), int(values.max())) if len(values) else None
