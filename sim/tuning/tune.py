"""The best plan of one workload, order and goal is looked for here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
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
        self._tell, self._told = tell, set[str]()
        self._solver: Solver | None = None
        self._horizons: list[Candidate] | None = None
        self._bounds: dict[Limits, Bound] = {}

    def tell(self, what: str) -> None:
        """Tell what is done, where that was not told before."""
        if what not in self._told:
            self._told.add(what)
            self._tell(what)

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
            self._bounds[limits] = bound_of(self.trial, limits)
        return self._bounds[limits]

    def tune(self, goal: Goal, known: Iterable[Candidate] = (), share: float = 1.0) -> Tuning:
        """Return the plan that reaches the goal best.

        ``known`` are plans from which the search may start too, ``share`` is how much of the usual effort is made.
        """
        limits = Limits.of(goal, self.trial.costs)
        limit_ns = goal.limit_ns(self.keep_all.row.step_time_ns)
        if limit_ns is None:
            return self.answer(goal, self.fastest(limits, known, share))
        of_boundaries = goal.boundary_memory is not None

        def leanest(one: Candidate) -> tuple[int, ...]:
            return one.peak_bytes(of_boundaries), *_shortest(one)

        return self._answer(goal, limits, self._leanest(limits, limit_ns, of_boundaries), limit_ns, leanest)

    def fastest(self, limits: Limits, known: Iterable[Candidate] = (), share: float = 1.0) -> Candidate:
        """Return the fastest plan found under the limits; where none keeps them, the one that lacks least."""
        if not self.may_offload or not limits.missing(self.keep_all.row).total:
            return self.keep_all
        found = self._found(limits, [*known, *sorted(self._fitting(limits), key=_shortest)[:_STARTS]], share)
        fitting = [one for one in found if not limits.missing(one.row).total]
        if fitting:
            return min(fitting, key=_shortest)

        def lacks(one: Candidate) -> tuple[int, ...]:
            return limits.missing(one.row).total, *_shortest(one)

        nearest = min([self.keep_all, *self.leave_all(), *self.horizons, *found], key=lacks)
        # It may be slow for the memory that it takes.
        return min([nearest, *self._found(limits.raised_to(nearest.row), [nearest], share)], key=lacks)

    def _found(self, limits: Limits, known: list[Candidate], share: float) -> list[Candidate]:
        """Return the plans known, and those that a search under the limits finds from them."""
        if not self.trial.can_walk:
            return known
        self.tell("looking for the best plan")
        return [*self.solver.solve(limits, self.bound(limits).step_time_ns, known, share), *known]

    def leave_all(self) -> list[Candidate]:
        """Return the plan that needs the least memory of the device; none where nothing may leave."""
        if not self.may_offload:
            return []
        with suppress(InputError):
            return [self.solver.leave_all()]
        return []

    def _fitting(self, limits: Limits) -> list[Candidate]:
        return [one for one in self.horizons if not limits.missing(one.row).total]

    def answer(self, goal: Goal, chosen: Candidate) -> Tuning:
        """Return what is to be said of a plan that was chosen for the shortest step under a goal's limits."""
        return self._answer(goal, Limits.of(goal, self.trial.costs), chosen, None, _shortest)

    def _answer(
        self,
        goal: Goal,
        limits: Limits,
        chosen: Candidate,
        limit_ns: int | None,
        better: Callable[[Candidate], tuple[int, ...]],
    ) -> Tuning:
        allowed = [one for one in self._fitting(limits) if limit_ns is None or one.row.step_time_ns <= limit_ns]
        # The bound is of plans that take no more than this one where that is less than is allowed, or more.
        within = limits if limit_ns is None else limits.lowered_to(chosen.row, goal.boundary_memory is not None)
        return Tuning(
            goal=goal,
            limits=limits,
            chosen=chosen,
            missing=limits.missing(chosen.row),
            keep_all=self.keep_all,
            horizon=min(allowed, key=better, default=None),
            horizons=len(self.horizons),
            bound=self.bound(within.raised_to(chosen.row)),
            limit_ns=limit_ns,
        )

    def _leanest(self, limits: Limits, limit_ns: int, of_boundaries: bool) -> Candidate:
        """Return the plan that needs least memory in a step that is no longer than this; or the one that lacks least.

        Other limits come first: a plan that breaks one is no answer while another one keeps it.
        """
        others = limits.without(of_boundaries)

        def lacks(one: Candidate) -> tuple[int, ...]:
            return others.missing(one.row).total, one.peak_bytes(of_boundaries), *_shortest(one)

        best = min((one for one in [self.keep_all, *self.horizons] if one.row.step_time_ns <= limit_ns), key=lacks)
        least = [one.peak_bytes(of_boundaries) for one in self.leave_all()]
        if not least:
            return best
        low, high = least[0] - 1, best.peak_bytes(of_boundaries)
        finest = max(int((self.keep_all.peak_bytes(of_boundaries) - low) * _FINEST), 1)
        while high - low > finest:
            budget = (low + high) // 2
            found = self.fastest(others.with_budget(budget, of_boundaries), [best], _ON_THE_WAY)
            keeps = found.row.step_time_ns <= limit_ns and found.peak_bytes(of_boundaries) <= budget
            if keeps and lacks(found) <= lacks(best):
                best, high = found, found.peak_bytes(of_boundaries)
            else:
                low = budget
        return best


def _shortest(one: Candidate) -> tuple[int, ...]:
    """Return what makes a plan better: a shorter step, then less that leaves, then less memory."""
    row = one.row
    return row.step_time_ns, row.offloaded, row.host_bytes, row.peak_device_bytes
