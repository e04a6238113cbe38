"""The fastest plan under one budget is looked for here: starts, a search over what leaves, then one over slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from loadahead.sim.ir.decisions import STAYS
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.columns import few
from loadahead.sim.planner.deciding import (
    ACQUIRES,
    LEAVES,
    Q_LEAD,
    Q_URGENCY,
    RELEASES,
    Deciding,
    keep_what_is_away_for_nothing,
)
from loadahead.sim.tuning.answer import Candidate
from loadahead.sim.tuning.covers import cover
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.polish import polish, prune, value_of_slots
from loadahead.sim.tuning.search import LONGEST_STEP, STEP_WEIGHT, improve, value_of
from loadahead.sim.tuning.shape import NO_LIMIT, Shape
from loadahead.sim.tuning.trial import Trial

Words = npt.NDArray[np.uint64]

# How much is searched, in operations that are timed, and in sets of boundaries or of slots: a small plan is searched
# until nothing is left to be found, a large one for about as long as 2,000 points of a sweep take.
OPERATIONS, MOST_WALKS, FEWEST_WALKS = 25_000_000, 100_000, 150
# So many searches start from different sets, unless each would have fewer walks than so many. Half of its walks are
# over what leaves, half over slots.
SEARCHES, _EACH = 8, 10_000
# However few walks there are, so many see whether what leaves might stay, or, of many candidates, fewer.
_PRUNES, _FEWEST_PRUNES, _PRUNED = 400, 50, 40_000
# Late acceptance looks back so many walks out of these.
_LOOKS_BACK = 100
# Boundaries come back so many tasks before they are read at the most, and the time of some copies.
_LEAD = 64
# How urgent a boundary has to be at first to make others wait, in percent of the time it takes to come back.
_URGENCY = 100
# So many candidates are looked at, about, for the sets that searches start from.
_LOOKS = 2**28
# The numbers of tasks that lie between a boundary's own and a lack of room, in those sets.
_MARGINS = ((0, 0), (1, 1), (2, 2), (4, 4), (8, 8), (2, 0), (4, 0), (0, 2), (0, 4))
# Where transfers share links, copies are also thought to be so many times as slow, as others run beside them.
SLOWER = (1, 2, 4)


class Solver:
    """Looks for the fastest plan of one order under one budget after another."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.shape = Shape.of(trial.workload, trial.costs, trial.policy, trial.tasks)
        self._nothing = trial.slots_of_nothing()[0]
        self._hosts = trial.costs.placement.occupancy(trial.tasks.ranks)

    def least_missing(self, limits: Limits) -> bool:
        """Return whether no plan keeps the device's limits, whatever leaves."""
        most = limits.device_bytes
        too_much = most is not None and int(self.shape.optimizer.max()) > most
        return too_much or bool((self.shape.least() > self.shape.room(limits)).any())

    def leave_all(self) -> Candidate:
        """Return the plan that needs least: each boundary is away from its FORWARD to its BACKWARD."""
        shape, first = self.shape, self._first_of_rank()
        release, acquire = self.trial.slots_of_nothing()
        away = shape.may_leave
        release[away] = (shape.forward_at - first)[away] + 1
        acquire[away] = (shape.backward_at - first)[away]
        return self.trial.candidate(release, acquire)

    def _first_of_rank(self) -> Ints:
        tasks = self.trial.tasks
        out: Ints = tasks.start[np.repeat(tasks.rank, tasks.microbatches)]
        return out

    def solve(
        self, limits: Limits, enough: int, known: Iterable[Candidate] = (), share: float = 1.0
    ) -> list[Candidate]:
        """Return plans that were found, which keep the device's limits; none where no plan does.

        ``enough`` is a step in ns than which none is shorter, ``known`` are plans to start from beside others, and
        ``share`` is how much of the effort is made.
        """
        problem = _Problem.of(self, limits, enough)
        if self.least_missing(limits) or problem is None:
            return []
        known = list(known)
        factors = (1,) if self.trial.private else SLOWER
        return [one for factor in factors for one in self._search(problem, known, share / len(factors), factor)]

    def _search(self, problem: _Problem, known: list[Candidate], share: float, slower: int) -> list[Candidate]:
        rows = self.trial.group.arena.view(a.UNIT_ROWS)
        copies = [a.U_DURATION + Kind.OFFLOAD, a.U_DURATION + Kind.PREFETCH]
        before = rows[:, copies].copy()
        rows[:, copies] = before * slower
        try:
            slots = problem.search(known, share)
        finally:
            rows[:, copies] = before
        return [self.trial.candidate(*slots)]


class _Problem:
    """Holds one budget's part of a search: which boundaries could make room, and the walk's state."""

    def __init__(self, solver: Solver, limits: Limits, room: Ints, candidates: Ints, enough: int) -> None:
        self.enough = min(enough, LONGEST_STEP - 2)
        trial, shape = solver.trial, solver.shape
        self.trial, self.shape, self.room, self.hosts = trial, shape, room, solver._hosts
        rank = np.repeat(trial.tasks.rank, trial.tasks.microbatches)[candidates]
        order = np.lexsort((shape.forward_at[candidates], rank))
        self.candidates, rank = candidates[order], rank[order]
        self.starts = np.searchsorted(rank, np.arange(trial.tasks.ranks + 1))
        first = trial.tasks.start[rank]
        self.first = shape.forward_at[self.candidates] - first + 1
        self.last = shape.backward_at[self.candidates] - first
        self.nothing, self.memory = solver._nothing, trial.group.arena.memory
        self.memory[a.RECEIVE_AHEAD] = few(trial.policy.receive_ahead)
        self.deciding = Deciding(trial.tasks, trial.group.arena, shape.kept, room, self._lead())
        self.deciding.ranks[:, Q_URGENCY] = _URGENCY
        most = (limits.device_bytes, limits.boundary_bytes, limits.host_bytes)
        self.most = np.asarray([NO_LIMIT if nbytes is None else nbytes for nbytes in most])

    @classmethod
    def of(cls, solver: Solver, limits: Limits, enough: int) -> _Problem | None:
        """Return the budget's problem; None where no boundary that may leave makes room that is lacking."""
        shape, room = solver.shape, solver.shape.room(limits)
        lacking = np.concatenate([[0], np.cumsum(shape.kept > room)])
        before, behind = np.minimum(shape.forward_at + 1, len(room)), np.maximum(shape.backward_at, 0)
        candidates = np.flatnonzero(shape.may_leave & (lacking[behind] > lacking[before]))
        return cls(solver, limits, room, candidates, enough) if len(candidates) else None

    def search(self, known: list[Candidate], share: float) -> tuple[Ints, Ints]:
        """Return the best slots found."""
        walks = self._walks(share)
        state = np.asarray([1], dtype=np.uint64)
        found = [self._slots_of(one) for one in known]
        starts = self._starts(known, min(max(walks // _EACH, 1), SEARCHES))
        each = max(walks // (2 * len(starts)), 1)
        for leaves in starts:
            if any(self._value_of_slots(*one) < (self.enough + 1) * STEP_WEIGHT for one in found):
                break
            self._improve(leaves, each, state)
            slots = self._slots(leaves)
            self._polish(slots, each, state)
            found.append(slots)
        best = min(found, key=lambda one: self._value_of_slots(*one))
        if self.trial.private:  # else the walk's clock is not the engines'
            prune(self.memory, self.candidates, self.hosts, self.most, *best, max(walks // 10, self._prunes()))
        return best

    def _starts(self, known: list[Candidate], count: int) -> list[Ints]:
        """Return so many sets to search from: the best, and where there are several the one in which all leave.

        That one is far from what leaves in the end, and so unlike the others.
        """
        every, *others = self._rated(known)
        ranked = sorted(others, key=lambda one: one[0])
        chosen = [every, *ranked[: count - 1]] if count > 1 else sorted([every, *ranked], key=lambda one: one[0])[:1]
        return [leaves for _, leaves in chosen]

    def _prunes(self) -> int:
        return max(min(_PRUNES, _PRUNED // len(self.candidates)), _FEWEST_PRUNES)

    def _lead(self) -> int:
        """Return by how many tasks boundaries come back before they are read where there is room: some copies' time."""
        units = self.trial.group.arena.view(a.UNIT_ROWS)
        tasks = units[:, [a.U_DURATION + kind for kind in (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD)]]
        copies = units[:, [a.U_DURATION + kind for kind in (Kind.OFFLOAD, Kind.PREFETCH)]]
        per_copy = int(copies.max()) * 2 * len(units) // max(int(tasks.sum()), 1)
        return _LEAD + min(8 * per_copy, 2**20)

    def _polish(self, slots: tuple[Ints, Ints], effort: int, state: Words) -> None:
        places = (self.candidates, self.starts, self.first, self.last)
        polish(
            self.memory,
            *places,
            self.hosts,
            self.most,
            *slots,
            self.enough,
            effort,
            max(effort // _LOOKS_BACK, 5),
            state,
        )

    def _walks(self, share: float) -> int:
        operations = 8 * self.trial.tasks.boundaries
        return max(int(min(OPERATIONS // operations, MOST_WALKS) * share), FEWEST_WALKS)

    def _improve(self, best: Ints, effort: int, state: Words) -> int:
        self.deciding.ranks[:, Q_URGENCY], self.deciding.ranks[:, Q_LEAD] = _URGENCY, self._lead()
        self.deciding.view(LEAVES)[:] = 0
        self.deciding.view(LEAVES)[self.candidates] = best
        return int(
            improve(
                *(self.memory, self.deciding.memory, self.nothing, self.candidates, self.starts, self.hosts),
                *(self.most[2], self.enough, effort, max(effort // _LOOKS_BACK, 5), state, best),
            )
        )

    def _rated(self, known: list[Candidate]) -> Iterator[tuple[int, Ints]]:
        """Yield the sets that searches may start from, each once, with how bad each is."""
        seen = set()
        for leaves in self._sets(known):
            if leaves.tobytes() not in seen:
                seen.add(leaves.tobytes())
                self.deciding.view(LEAVES)[:] = 0
                self.deciding.view(LEAVES)[self.candidates] = leaves
                value = int(value_of(self.memory, self.deciding.memory, self.nothing, self.hosts, self.most[2]))
                yield value, self.deciding.view(LEAVES)[self.candidates].copy()

    def _sets(self, known: list[Candidate]) -> Iterator[Ints]:
        yield np.ones(len(self.candidates), dtype=np.int64)
        # A cover looks at all candidates for each that it chooses.
        widest = int(np.diff(self.starts).max())
        for before, behind in _MARGINS[: max(_LOOKS // widest**2, 1)]:
            for first in (True, False):
                yield self._cover(before, behind, first)
        for one in known:
            yield (self._slots_of(one)[1][self.candidates] >= 0).astype(np.int64)

    def _cover(self, before: int, behind: int, first: bool) -> Ints:
        out, tasks, shape = np.zeros(len(self.candidates), dtype=np.int64), self.trial.tasks, self.shape
        for rank in range(tasks.ranks):
            own = slice(int(self.starts[rank]), int(self.starts[rank + 1]))
            rows = slice(int(tasks.start[rank]), int(tasks.start[rank + 1]))
            places = (self.first[own] - 1, self.last[own], shape.sizes[self.candidates[own]])
            cover(shape.kept[rows].copy(), self.room[rows], *places, before, behind, first, out[own])
        return out

    def _slots(self, leaves: Ints) -> tuple[Ints, Ints]:
        """Return the slots that the deciding walk gives these boundaries."""
        deciding = self.deciding
        deciding.view(LEAVES)[:] = 0
        deciding.view(LEAVES)[self.candidates] = leaves
        value_of(self.memory, deciding.memory, self.nothing, self.hosts, self.most[2])
        keep_what_is_away_for_nothing(deciding.memory)
        return deciding.view(RELEASES).copy(), deciding.view(ACQUIRES).copy()

    def _slots_of(self, one: Candidate) -> tuple[Ints, Ints]:
        release, acquire = self.trial.slots_of_nothing()
        first = self.trial.tasks.frozen_boundaries
        release[first:], acquire[first:] = one.decisions.release, one.decisions.acquire
        # What is no candidate makes no room that is lacking.
        keeps = np.ones(len(release), dtype=np.bool_)
        keeps[self.candidates] = False
        release[keeps] = acquire[keeps] = STAYS
        return release, acquire

    def _value_of_slots(self, release: Ints, acquire: Ints) -> int:
        return int(value_of_slots(self.memory, release, acquire, self.hosts, self.most))
