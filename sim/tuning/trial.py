"""A trial times one order's plans of given slots, one after the other, as the engines would time them.

Where links are private no plan is made for it (:mod:`loadahead.sim.policy_metrics`); where transfers slow each other
down each is planned and simulated.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loadahead.sim.costs import Costs
from loadahead.sim.engines.simulate import simulate
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.arena import UnitSizes
from loadahead.sim.planner.horizon import decisions_on
from loadahead.sim.policy_metrics import Group
from loadahead.sim.routes import are_private
from loadahead.sim.step_metrics import Room, SweepRow
from loadahead.sim.tuning.answer import Candidate
from loadahead.sim.workload import Workload


class Trial:
    """Times plans of one workload, costs and order.

    Attributes:
        policy: its choices beside what leaves and when.
        group: the order's tasks and the arena that the walk runs in.
        can_walk: whether all sums of a step are sure to fit 64 bits in the walk.
        private: whether no transfer can slow another down, so that steps are timed without plans.
    """

    def __init__(self, workload: Workload, costs: Costs, policy: Policy) -> None:
        self.workload, self.costs = workload, costs
        self.policy = replace(policy, offload=True)
        sizes = UnitSizes.of(workload)
        costs.require_units(tuple(map(len, workload.stages)))
        self.group = Group.of(workload, self.policy, sizes)
        fits = self.group.put(sizes, costs.table(), costs)
        self.can_walk = fits
        self.private = fits and are_private(costs, policy.ranks, policy.stage_rank)
        self.tasks = self.group.tasks
        self.sizes = workload.boundary_bytes()
        self.room = Room(capacity_bytes=costs.memory_bytes, host_capacity_bytes=costs.host_memory_bytes)

    def candidate(self, release: Ints, acquire: Ints, policy: Policy | None = None) -> Candidate:
        """Return the plan of these slots, both of shape (boundaries,), -1 where one stays, with what its step takes.

        ``policy`` is the one whose horizon made them; None: they are decisions of their own.
        """
        decisions = decisions_on(self.tasks, release.copy(), acquire.copy(), self.policy.checkpoint)
        if self.private:
            row = self.group.row_of_slots(release, acquire, self.costs.placement, self.room, self.policy.receive_ahead)
        else:
            plan = build_plan(self.workload, self.policy, decisions=decisions)
            row = SweepRow.of({}, simulate(plan, self.costs).metrics, self.room)
        chosen = self.policy if policy is None else policy
        return Candidate(policy=chosen, decisions=decisions, row=row, by_horizon=policy is not None)

    def keep_all(self) -> Candidate:
        """Return the plan that keeps every boundary on the device."""
        return replace(self.candidate(*self.slots_of_nothing()), policy=replace(self.policy, offload=False))

    def slots_of_nothing(self) -> tuple[Ints, Ints]:
        """Return the slots of keeping all."""
        return np.full(self.tasks.boundaries, -1, dtype=np.int64), np.full(self.tasks.boundaries, -1, dtype=np.int64)
