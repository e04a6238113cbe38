"""How long each stage's copies take beside its computing, and what follows from that.

The field's ratio is k, the time of a stage's copies out and back over that of its FORWARDs, RECOMPUTEs and BACKWARDs,
each per microbatch (Wan et al., "PipeOffload: Improving Scalability of Pipeline Parallelism with Memory Optimization",
2025). A copy's time is that at the bandwidth which its link is left when all GPUs of its host copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadahead.inspection.hiding import CopyTimes, Free, Horizon, Lane
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.planner import Policy
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.routes import LinkTable
from loadahead.sim.units import counted, format_number
from loadahead.sim.workload import UnitShape, Workload

_NOT_CHECKPOINTED = "Without activation checkpointing no boundary leaves the GPU, so that there is no k."
_NOT_CALIBRATED = "k is not known: calibrate, and give the costs."


_Unit = tuple[UnitShape, UnitCost]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """Holds a stage's copies over its computing, for one microbatch; None where it computes in no time.

    Attributes:
        k: copies out and back over forward, recompute and backward.
        alone: the same where no other GPU copies and each direction has the link to itself.
        out: copies out over forward.
        back: copies back over recompute and backward.
        busier_direction: copies out, or back where these take longer, over forward, recompute and backward.
    """

    k: float | None
    alone: float | None
    out: float | None
    back: float | None
    busier_direction: float | None

    @property
    def each_behind_its_own(self) -> bool:
        """Return whether copies out take no longer than forwards, and copies back no longer than what they are for."""
        return self.out is not None and self.back is not None and self.out <= 1 and self.back <= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCopies:
    """Says what a stage has resident, and how its copies go with its computing.

    Attributes:
        rank: the rank of the pipeline that has it.
        ratios: None where times are not known, and without activation checkpointing.
        free: from which horizon on no copy is waited for; None where there is none, and where not all copies could hide
            behind passes of their own kind.
        steady: the same between passes that take turns, one forward and one backward; None where there is none.
        sentence: what that means.
    """

    stage: int
    rank: int
    static_bytes: int
    ratios: Ratios | None
    free: Free | None
    steady: Horizon | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return the stage as plain data (DESIGN, section 4, inspect)."""
        ratios = self.ratios or Ratios(k=None, alone=None, out=None, back=None, busier_direction=None)
        return {
            "stage": self.stage,
            "rank": self.rank,
            "static_bytes": self.static_bytes,
            "copy_to_compute": ratios.k,
            "copy_to_compute_alone": ratios.alone,
            "out": ratios.out,
            "back": ratios.back,
            "busier_direction": ratios.busier_direction,
            "free": None if self.free is None else asdict(self.free),
            "steady": None if self.steady is None else asdict(self.steady),
            "sentence": self.sentence,
        }


def stages_of(
    workload: Workload, policy: Policy, costs: Costs | None, static_bytes: Sequence[int]
) -> tuple[StageCopies, ...]:
    """Return every stage's copies; ``static_bytes`` holds what each stage has resident."""
    order = order_for(workload, policy)
    tasks = tasks_of(units_of(workload, order), order, workload.frozen_units)
    if costs is None or not policy.checkpoint:
        why = _NOT_CALIBRATED if policy.checkpoint else _NOT_CHECKPOINTED
        return tuple(
            StageCopies(
                stage=stage,
                rank=rank,
                static_bytes=static_bytes[stage],
                ratios=None,
                free=None,
                steady=None,
                sentence=why,
            )
            for stage, rank in enumerate(tasks.stage_rank.tolist())
        )
    return _with_ratios(tasks, workload, policy, costs, static_bytes)


def _with_ratios(
    tasks: Tasks, workload: Workload, policy: Policy, costs: Costs, static_bytes: Sequence[int]
) -> tuple[StageCopies, ...]:
    alone = CopyTimes(costs=costs, out_rate=costs.d2h_bandwidth, back_rate=costs.h2d_bandwidth)
    times, apart = _times(costs, tasks.ranks), _apart(costs, tasks.ranks)
    lanes: dict[int, Lane] = {}
    out = []
    for stage, rank in enumerate(tasks.stage_rank.tolist()):
        if rank not in lanes:
            lanes[rank] = Lane.of(tasks, rank, workload, policy, costs, times[rank])
        ratios = _ratios(stage, tasks, workload, policy, costs, times[rank], alone)
        free = lanes[rank].freedom(policy.release_window) if ratios.each_behind_its_own else None
        steady = None if tasks.several_stages else _steady(stage, tasks, workload, policy, costs, times[rank])
        can_leave = lanes[rank].can_leave(policy.release_window)
        out.append(
            StageCopies(
                stage=stage,
                rank=rank,
                static_bytes=static_bytes[stage],
                ratios=ratios,
                free=free,
                steady=steady,
                sentence=meaning(ratios, can_leave, free, steady, policy, apart),
            )
        )
    return tuple(out)


def _times(costs: Costs, ranks: int) -> list[CopyTimes]:
    """Return each rank's copies at the bandwidth that its link is left whatever the other copies do."""
    rates = LinkTable.of(_without_sends(costs), ranks).slowest()
    return [CopyTimes(costs=costs, out_rate=rates[2 * rank], back_rate=rates[2 * rank + 1]) for rank in range(ranks)]


def _without_sends(costs: Costs) -> Costs:
    """Return the costs of hosts on which sends share nothing with copies."""
    shared = None if costs.shared is None else costs.shared.model_copy(update={"network_bandwidth": None})
    return costs.model_copy(update={"shared": shared, "p2p_link": None, "gpu_network_bandwidth": None})


def _apart(costs: Costs, ranks: int) -> str:
    """Return what the horizons from which on no copy is waited for leave out, where there is any of it."""
    over_network = costs.has_network and costs.placement.is_apart(ranks)
    left_out = [
        *(["launches"] if costs.launch_table().any() else []),
        *(["sends over the same links"] if ranks > 1 and (costs.p2p_link == "pcie" or over_network) else []),
    ]
    return f", {' and '.join(left_out)} apart" if left_out else ""


def _trained(stage: int, tasks: Tasks, workload: Workload, costs: Costs) -> tuple[list[_Unit], list[_Unit]]:
    """Return a stage's units, each as its shape and its cost, and those of them that have a BACKWARD."""
    first = int((tasks.stage < stage).sum())
    units = list(zip(workload.stages[stage], costs.units[stage], strict=True))
    return units, units[max(0, tasks.frozen_units - first) :]


def _ratios(
    stage: int, tasks: Tasks, workload: Workload, policy: Policy, costs: Costs, times: CopyTimes, alone: CopyTimes
) -> Ratios:
    units, trained = _trained(stage, tasks, workload, costs)
    sizes = [shape.boundary_bytes for shape, _ in trained if shape.boundary_bytes >= policy.min_bytes]
    forward = sum(cost.forward_ns for _, cost in units)
    backward = sum(cost.recompute_ns + cost.backward_ns for _, cost in trained)
    out, back = sum(map(times.out, sizes)), sum(map(times.back, sizes))
    return Ratios(
        k=_over(out + back, forward + backward),
        alone=_over(sum(map(alone.out, sizes)) + sum(map(alone.back, sizes)), forward + backward),
        out=_over(out, forward),
        back=_over(back, backward),
        busier_direction=_over(max(out, back), forward + backward),
    )


def _steady(
    stage: int, tasks: Tasks, workload: Workload, policy: Policy, costs: Costs, times: CopyTimes
) -> Horizon | None:
    units, trained = _trained(stage, tasks, workload, costs)
    frozen = len(units) - len(trained)
    leaving = [
        (frozen + place, times.out(shape.boundary_bytes), times.back(shape.boundary_bytes))
        for place, (shape, _) in enumerate(trained)
        if shape.boundary_bytes >= policy.min_bytes
    ]
    forward = [cost.forward_ns for _, cost in units]
    backward = [cost.recompute_ns + cost.backward_ns for _, cost in reversed(trained)]
    found = Lane.in_turns(forward, backward, leaving).freedom(policy.release_window)
    return None if found is None or found.leaving < found.boundaries else found.at


def _over(copies: int, computing: int) -> float | None:
    """Return the ratio; 0 where there are no copies, None where only the computing takes no time."""
    return copies / computing if computing else 0.0 if not copies else None


def meaning(
    ratios: Ratios, can_leave: bool, free: Free | None, steady: Horizon | None, policy: Policy, apart: str
) -> str:
    """Return what the ratios mean, in a sentence or two.

    Args:
        can_leave: whether any boundary of the rank leaves at the smallest horizon.
        free, steady: from where on no copy is waited for, ever, and while one forward and one backward take turns.
        apart: what both leave out, as words at the end of a sentence.
    """
    if ratios.k is None or ratios.busier_direction is None:
        return "The units take no time, so that no copy hides behind them."
    k = f"k = {format_number(ratios.k)}"
    if not can_leave:
        return f"{k}: none of the boundaries can leave, as each is needed again too soon."
    if ratios.busier_direction > 1:
        share = f"{1 / ratios.busier_direction:.0%}".replace("%", " %")
        return (
            f"{k}: in a steady state of one forward and one backward the link has the time for about {share} of the "
            "boundaries; more of them make the step wait."
        )
    if free is None:
        return f"{k}: {_in_turns(ratios, steady, apart)}"
    shorter = policy.release_window < free.at.release_window
    shorter |= policy.horizon_unit == "tasks" and policy.horizon < free.at.horizon
    horizon = counted(policy.horizon, policy.horizon_unit.removesuffix("s"))
    own = f" The scenario's are {horizon} and {policy.release_window}." if shorter else ""
    return f"{k}: every boundary that can leave can do so for free: {_no_waits(free.at)}{apart}.{own}"


def _no_waits(at: Horizon) -> str:
    return (
        f"with a horizon of {at.horizon} or more tasks and a release window of {at.release_window} no copy has to be "
        "waited for"
    )


def _in_turns(ratios: Ratios, steady: Horizon | None, apart: str) -> str:
    """Return that the link has the time on the whole, from where on that is enough, and where it may not be."""
    enough = "the link has the time" if steady is None else f"{_no_waits(steady)}{apart}"
    parts = [f"in a steady state of one forward and one backward {enough}."]
    alike = {
        "forwards follow each other (GPipe, the start of 1F1B) copies out": (ratios.out, "the forwards"),
        "backwards follow each other copies back": (ratios.back, "the recomputes and backwards"),
    }
    for what, (ratio, passes) in alike.items():
        if ratio is None:
            parts.append(f"Where {what} have nothing to hide behind, as {passes} take no time.")
        elif ratio > 1:
            parts.append(f"Where {what} take {format_number(ratio)} times as long as {passes}.")
    if len(parts) == 1:
        parts.append("Elsewhere single copies may take longer than the tasks that they have to hide behind.")
    return " ".join(parts)
