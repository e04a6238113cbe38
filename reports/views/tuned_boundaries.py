"""Shows which boundaries of a tuned plan leave, by unit and microbatch, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.reports import run_directory
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import NOTHING, Grid
from loadahead.reports.views.base import Missing
from loadahead.sim.away import away_ns
from loadahead.sim.ir.decisions import STAYS, Decisions
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.units import counted, format_bytes, format_duration

TITLE = "Which boundaries leave, and for how long"
# A cell's colour says for which share of the step a boundary is away, at most so much; the last one: more than all.
LEVELS = (0.1, 0.25, 0.5)
# A cell of a boundary that stays, and one of a unit on which nothing is decided.
STAY, NONE = -1, -2


def level(away: int, step_ns: int) -> int:
    """Return which of the colours a boundary has that is away for so many ns, from 0."""
    return sum(away > share * step_ns for share in LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRows:
    """Holds one stage: its rank, and by unit and microbatch a level of :func:`level`, :data:`STAY` or :data:`NONE`."""

    stage: int
    rank: int
    levels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCounts:
    """Counts one rank's boundaries: how many leave, what they hold, and for how long they are away, in ns."""

    rank: int
    boundaries: int
    leave: int
    leave_bytes: int
    shortest_ns: int | None
    longest_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBoundaries:
    """Holds the model's stages from its first, each with its units, and what of each rank leaves."""

    microbatches: int
    step_ns: int
    stages: tuple[StageRows, ...]
    ranks: tuple[RankCounts, ...]

    @property
    def title(self) -> str:
        """Return the figure's title."""
        return TITLE

    @property
    def units(self) -> int:
        """Return how many units the model has: one row each."""
        return sum(len(stage.levels) for stage in self.stages)

    @property
    def sentences(self) -> list[str]:
        """Return what the figure shows, in words."""
        leave, every = (sum(getattr(rank, name) for rank in self.ranks) for name in ("leave", "boundaries"))
        if not leave:
            return [f"All {every} boundaries stay on the device."]
        verb = "leaves" if leave == 1 else "leave"
        parts = [
            f"A row is a unit, from the model's first at the top, and a column a microbatch: {leave} of {every} "
            f"boundaries {verb}, {every - leave} stay.",
            *self._spread(),
            self._times(),
        ]
        if any(NONE in row for stage in self.stages for row in stage.levels):
            parts.append("Units that are not trained have no boundary that waits, and no cells.")
        return parts

    def _spread(self) -> list[str]:
        """Return which ranks keep everything, and which lets most leave."""
        if len(self.ranks) < 2:
            return []
        most = max(self.ranks, key=lambda rank: (rank.leave, -rank.rank))
        keeping = sum(not rank.leave for rank in self.ranks)
        said = f"Most leave on rank {most.rank}, {most.leave} of {most.boundaries}"
        if not keeping:
            return [f"{said}; no rank keeps everything."]
        return [f"{said}; {counted(keeping, 'rank')} {'keeps' if keeping == 1 else 'keep'} everything."]

    def _times(self) -> str:
        """Return for how long boundaries are away."""
        shortest = min(rank.shortest_ns for rank in self.ranks if rank.shortest_ns is not None)
        longest = max(rank.longest_ns for rank in self.ranks if rank.longest_ns is not None)
        span = format_duration(longest)
        if shortest != longest:
            span = f"{format_duration(shortest)} to {span}"
        share = f", at most {100 * longest / self.step_ns:.0f} % of the step" if self.step_ns else ""
        return f"Colours say how long each is away, from RELEASE to ACQUIRE: {span}{share}."

    @property
    def numbers(self) -> Grid:
        """Return what of each rank leaves as a table."""
        rows = [
            (
                str(rank.rank),
                str(rank.boundaries),
                str(rank.leave),
                format_bytes(rank.leave_bytes),
                NOTHING if rank.shortest_ns is None else format_duration(rank.shortest_ns),
                NOTHING if rank.longest_ns is None else format_duration(rank.longest_ns),
            )
            for rank in self.ranks
        ]
        headers = ("rank", "boundaries", "leave", "bytes that leave", "shortest away", "longest away")
        return Grid(headers=headers, rows=tuple(rows), text_columns=frozenset())


def tuned_boundaries(data: RunData) -> TunedBoundaries | Missing:
    """Return the map of a tuned run; Missing where there is no plan with its predicted operations."""
    if data.tuning is None:
        return Missing(title=TITLE, reason=f"there is no {run_directory.TUNING}", absent=True)
    plan, step = data.plan, data.predicted
    if plan is None or step is None or len(step.start_ns) != len(plan):
        return Missing(title=TITLE, reason="it needs the plan and the operations of the predicted step")
    decisions = Decisions.of(plan)
    if not decisions.offloaded:
        return Missing(title=TITLE, reason="nothing is offloaded")
    step_ns = step.step_time_ns
    away = away_ns(plan, step).tolist()
    names = list(zip(decisions.stage.tolist(), decisions.unit.tolist(), decisions.microbatch.tolist(), strict=True))
    leaves = (decisions.acquire != STAYS).tolist()
    cells = {name: level(away[place], step_ns) if leaves[place] else STAY for place, name in enumerate(names)}
    stages = tuple(
        StageRows(
            stage=stage,
            rank=rank,
            levels=tuple(
                tuple(cells.get((stage, unit, microbatch), NONE) for microbatch in range(plan.microbatches))
                for unit in range(units)
            ),
        )
        for stage, (units, rank) in enumerate(zip(plan.units, plan.stage_rank.tolist(), strict=True))
        if units
    )
    return TunedBoundaries(
        microbatches=plan.microbatches,
        step_ns=step_ns,
        stages=stages,
        ranks=tuple(_counts(data, rank, stages, names, leaves, away) for rank in range(plan.ranks)),
    )


def _counts(
    data: RunData,
    rank: int,
    stages: tuple[StageRows, ...],
    names: list[tuple[int, int, int]],
    leaves: list[bool],
    away: list[int],
) -> RankCounts:
    assert data.plan is not None, "whoever asks has looked"
    mine = {stage.stage for stage in stages if stage.rank == rank}
    here = [place for place, (stage, _, _) in enumerate(names) if stage in mine]
    times = [away[place] for place in here if leaves[place]]
    return RankCounts(
        rank=rank,
        boundaries=len(here),
        leave=len(times),
        leave_bytes=int(data.plan.ops.nbytes[data.plan.queue_ops(rank, Queue.D2H)].sum()),
        shortest_ns=min(times, default=None),
        longest_ns=max(times, default=None),
    )
