"""The best plan of one workload, order and goal is looked for here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning.answer import Candidate, Tuning
from loadahead.sim.tuning.bound import Bound
from loadahead.sim.tuning.bound_of_order import bound_of
from loadahead.sim.tuning.horizons import horizon_candidates
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.solve import Solver
from loadahead.sim.tuning.trial import Trial
from loadahead.sim.workload import Workload

# A budget is halved until what is left of the range is so small a share of it.
_FINEST = 0.002
# How much of the effort for one budget is made for each that is only looked at on the way.
_ON_THE_WAY = 0.2
# So many of the best horizons are where a search starts, beside other sets.
_STARTS = 4


def tune(
    workload: Workload,
    costs: Costs,
    policy: Policy,
    goal: Goal,
    tell: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Return the plan that reaches the goal best, of the policy's order and with its checkpointing.

    ``tell`` is called before work that takes about a second or more, with what is done. Raise InputError where
    workload, costs and policy do not go together.
    """
    return Tuner(workload, costs, policy, tell).tune(goal)


class Tuner:
    """Looks for plans of one workload, costs and order, under one goal after another."""

    def __init__(
        self, workload: Workload, costs: Costs, policy: Policy, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.trial = Trial(workload, costs, policy)
        self.keep_all = self.trial.keep_all()
        self.may_offload = policy.checkpoint and policy.offload
        self.tell = tell
        self._solver: Solver | None = None
        self._horizons: list[Candidate] | None = None
        self._bounds: dict[Limits, Bound] = {}

    @property
    def solver(self) -> Solver:
        """Return what searches under one budget; it is made when it is first asked for."""
        if self._solver is None:
            self._solver = Solver(self.trial)
        return self._solver

    @property
    def horizons(self) -> list[Candidate]:
        """Return the plan of each horizon that a tuned one is held against; they are timed when first asked for."""
        if self._horizons is None:
            self.tell("timing horizons")
            self._horizons = horizon_candidates(self.trial) if self.may_offload else []
        return self._horizons

    def bound(self, limits: Limits) -> Bound:
        """Return what no plan of the order under the limits is faster than."""
        if limits not in self._bounds:
            self._bounds[limits] = bound_of(self.trial, limits, self.keep_all)
        return self._bounds[limits]

    def tune(self, goal: Goal, known: Iterable[Candidate] = (), share: float = 1.0) -> Tuning:
        """Return the plan that reaches the goal best.

        ``known`` are plans from which the search may start too, ``share`` is how much of the usual effort is made.
        """
        limits = Limits.of(goal, self.trial.costs)
        if goal.within is not None:
            return self._least_memory(goal, limits)
        chosen = self.fastest(limits, known, share)
        return self._answer(goal, limits, chosen, None, _shortest)

    def fastest(self, limits: Limits, known: Iterable[Candidate] = (), share: float = 1.0) -> Candidate:
        """Return the fastest plan found under the limits; where none keeps them, the one that lacks least."""
        if not self.may_offload or not limits.missing(self.keep_all.row).total:
            return self.keep_all
        known = [*known, *sorted(self._fitting(limits), key=_shortest)[:_STARTS]]
        self.tell("looking for the best plan")
        found = [*self.solver.solve(limits, self.bound(limits).step_time_ns, known, share), *known]
        fitting = [one for one in found if not limits.missing(one.row).total]
        if fitting:
            return min(fitting, key=_shortest)
        others = [self.keep_all, self.solver.leave_all(), *self.horizons, *found]
        return min(others, key=lambda one: (limits.missing(one.row).total, *_shortest(one)))

    def _fitting(self, limits: Limits) -> list[Candidate]:
        return [one for one in self.horizons if not limits.missing(one.row).total]

    def _answer(
        self,
        goal: Goal,
        limits: Limits,
        chosen: Candidate,
        limit_ns: int | None,
        better: Callable[[Candidate], tuple[int, ...]],
    ) -> Tuning:
        allowed = [one for one in self._fitting(limits) if limit_ns is None or one.row.step_time_ns <= limit_ns]
        return Tuning(
            goal=goal,
            limits=limits,
            chosen=chosen,
            missing=limits.missing(chosen.row),
            keep_all=self.keep_all,
            horizon=min(allowed, key=better, default=None),
            horizons=len(self.horizons),
            bound=self.bound(limits),
            limit_ns=limit_ns,
        )

    def _least_memory(self, goal: Goal, limits: Limits) -> Tuning:
        """Return the plan that needs least memory in a step that is no longer than the goal allows."""
        assert goal.within is not None, "the goal says how much longer a step may be"
        limit_ns = int(self.keep_all.row.step_time_ns * (1 + goal.within))
        of_boundaries = goal.boundary_memory is not None

        def needs(one: Candidate) -> tuple[int, ...]:
            return (_peak(one, of_boundaries), *_shortest(one))

        def is_allowed(one: Candidate) -> bool:
            return one.row.step_time_ns <= limit_ns and not limits.missing(one.row).host_bytes

        allowed = [one for one in [self.keep_all, *self.horizons] if is_allowed(one)]
        best = min(allowed, key=needs)
        if self.may_offload:
            least = _peak(self.solver.leave_all(), of_boundaries)
            finest = max(int((_peak(self.keep_all, of_boundaries) - least) * _FINEST), 1)
            low, high, share = least - 1, _peak(best, of_boundaries), _ON_THE_WAY
            while high - low > finest:
                budget = (low + high) // 2
                found = self.fastest(_limited(limits, budget, of_boundaries), [best], share)
                if is_allowed(found) and _peak(found, of_boundaries) <= budget:
                    best, high = found, _peak(found, of_boundaries)
                else:
                    low = budget
        return self._answer(goal, _limited(limits, _peak(best, of_boundaries), of_boundaries), best, limit_ns, needs)


def _limited(limits: Limits, budget: int, of_boundaries: bool) -> Limits:
    """Return limits whose budget is this one, where it is less than they allow."""
    name = "boundary_bytes" if of_boundaries else "device_bytes"
    most = getattr(limits, name)
    return replace(limits, **{name: budget if most is None else min(budget, most)})


def _peak(one: Candidate, of_boundaries: bool) -> int:
    return one.row.peak_boundary_bytes if of_boundaries else one.row.peak_device_bytes


def _shortest(one: Candidate) -> tuple[int, ...]:
    """Return what makes a plan better: a shorter step, then less that leaves, then less memory."""
    row = one.row
    return row.step_time_ns, row.offloaded, row.host_bytes, row.peak_device_bytes
