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
from loadahead.inspection.meaning import NOT_CALIBRATED, NOT_CHECKPOINTED, Turns, Understood, meaning
from loadahead.inspection.ratios import Ratios
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.planner import Policy
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.orders import Order
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.routes import LinkTable
from loadahead.sim.workload import UnitShape, Workload

_Unit = tuple[UnitShape, UnitCost]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCopies:
    """Says what a stage has resident, and how its copies go with its computing.

    Attributes:
        rank: the rank of the pipeline that has it.
        ratios: None where times are not known, and without activation checkpointing.
        free: from which horizon on no copy of its rank is waited for; None where there is none.
        steady: the same between passes that take turns, one forward and one backward; None where there is none, and
            where the rank's passes never do.
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
        why = NOT_CALIBRATED if policy.checkpoint else NOT_CHECKPOINTED
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
    return _with_ratios(order, tasks, workload, policy, costs, static_bytes)


def _with_ratios(
    order: Order, tasks: Tasks, workload: Workload, policy: Policy, costs: Costs, static_bytes: Sequence[int]
) -> tuple[StageCopies, ...]:
    alone = CopyTimes(costs=costs, out_rate=costs.d2h_bandwidth, back_rate=costs.h2d_bandwidth)
    times, apart = _times(costs, tasks.ranks), _apart(costs, tasks.ranks)
    lanes: dict[int, tuple[Lane, Free | None]] = {}
    out = []
    for stage, rank in enumerate(tasks.stage_rank.tolist()):
        if rank not in lanes:
            lane = Lane.of(tasks, rank, workload, policy, costs, times[rank])
            lanes[rank] = lane, lane.freedom()
        lane, free = lanes[rank]
        ratios = _ratios(stage, tasks, workload, policy, costs, times[rank], alone)
        turns = _turns(stage, ratios, tasks, workload, policy, costs, times[rank]) if _take_turns(order, rank) else None
        understood = Understood(
            ratios=ratios,
            counts=lane.counts,
            free=free,
            own_in_time=_own_in_time(lane, free, policy),
            turns=turns,
        )
        out.append(
            StageCopies(
                stage=stage,
                rank=rank,
                static_bytes=static_bytes[stage],
                ratios=ratios,
                free=free,
                steady=None if turns is None else turns.steady,
                sentence=meaning(understood, policy, apart),
            )
        )
    return tuple(out)


def _own_in_time(lane: Lane, free: Free | None, policy: Policy) -> bool:
    """Return whether the scenario's horizon and release window make the rank wait no more than those of ``free``."""
    horizon, window = policy.horizon, policy.release_window
    allowed = 0 if free is None else free.first_wait_ns
    return lane.in_time(horizon, window) and lane.first_wait_ns(window) <= allowed


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


def _take_turns(order: Order, rank: int) -> bool:
    """Return whether a rank that holds one stage has two forwards and two backwards in turn, as in a steady state."""
    stages, kinds = order.passes[rank][:, 1], order.passes[rank][:, 0]
    turns = kinds[1:] != kinds[:-1]
    return bool((stages == stages[0]).all() and (turns[:-2] & turns[1:-1] & turns[2:]).any())


def _turns(
    stage: int, ratios: Ratios, tasks: Tasks, workload: Workload, policy: Policy, costs: Costs, times: CopyTimes
) -> Turns:
    units, trained = _trained(stage, tasks, workload, costs)
    lane = Lane.in_turns(units, len(units) - len(trained), policy, times)
    link_has_time = ratios.busier_direction is not None and ratios.busier_direction <= 1
    found, leave = lane.freedom(), lane.counts.boundaries - lane.counts.small
    return Turns(
        steady=None if found is None or found.leaving < leave or not link_has_time else found.at,
        own_in_time=lane.in_time(policy.horizon, policy.release_window),
    )


def _over(copies: int, computing: int) -> float | None:
    """Return the ratio; 0 where there are no copies, None where only the computing takes no time."""
    return copies / computing if computing else 0.0 if not copies else None
