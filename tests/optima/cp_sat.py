"""The best plan of an instance, with a proof, by OR-tools' CP-SAT.

The model is written from DESIGN's text and knows nothing of the planner's memory or clock. All times are in the
greatest common divisor of an instance's durations. Every constraint on times says "not before", and the step time is
to be least, so a solution's decisions take exactly as long when the engines replay them.

Per boundary that could leave there are two rows of literals that rise with the slot: ``gone[k]``, its RELEASE stands in
slot k or before, and ``back[k]``, its ACQUIRE does. It is away during task k where ``gone[k]`` holds and ``back[k]``
does not.

Three things are asked for without loss, since moving a solution's slots makes it so and no step longer:

* A RELEASE stands only where its slot also takes memory. In any other slot it may as well stand one later.
* On a rank whose boundaries all have one size, prefetches stand in the order in which they are needed, and releases in
  the order of the FORWARDs: of two in the other order the slots can be exchanged, or, where the one that is needed
  sooner left only once the other was back, the other can stay away for both.
* There an ACQUIRE stands only where memory was freed just before, in its slot or by the BACKWARD before it: else it, if
  it is the first of its slot, may as well stand one earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations, pairwise
from math import gcd
from typing import Any

import ortools
from ortools.sat.python import cp_model

from tests.optima.layout import Boundary, Layout, Task, layout_of
from tests.optima.problem import Instance

SOLVER = f"OR-tools {ortools.__version__} CP-SAT"
SEED = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What the solver found.

    Attributes:
        status: ``"OPTIMAL"``, or ``"FEASIBLE"`` where ``bound_ns`` is less than ``step_ns``.
        rows: the decisions on the boundaries that leave, as a plan file has them.
        seconds: what the search took.
    """

    status: str
    step_ns: int
    bound_ns: int
    rows: tuple[dict[str, int], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Leaver:
    """A boundary that could leave, with its literals by slot and when its copies have ended."""

    boundary: Boundary
    leaves: Any
    gone: dict[int, Any]
    back: dict[int, Any]
    out_end: Any
    back_end: Any
    out_steps: int
    back_steps: int

    def is_back(self, slot: int) -> Any:
        """Whether its ACQUIRE stands in a slot or before; 0 before any can."""
        return 0 if slot < self.boundary.forward + 2 else self.back[slot]


class _Model:
    def __init__(self, instance: Instance, layout: Layout, send_queue: bool) -> None:
        self.instance, self.layout, self.send_queue = instance, layout, send_queue
        durations = [
            ns
            for own in layout.tasks
            for task in own
            for ns in (task.costs.forward_ns, task.costs.recompute_ns, task.costs.backward_ns)
        ]
        sizes = {b.nbytes for own in layout.boundaries for b in own}
        copies = [way(size) for size in sizes for way in (instance.out_ns, instance.back_ns)]
        self.step = reduce(gcd, [*durations, *copies])
        self.byte = reduce(gcd, sizes)
        self.model = cp_model.CpModel()
        self.latest = self._serial(durations)
        self.slot = [[self._time(f"slot {r}.{k}") for k in range(len(own) + 1)] for r, own in enumerate(layout.tasks)]
        self.end = [[self._time(f"end {r}.{k}") for k in range(len(own))] for r, own in enumerate(layout.tasks)]
        self.sent = [[self._time(f"sent {r}.{i}") for i in range(len(own))] for r, own in enumerate(layout.sends)]
        self.makespan = self._time("step")
        self.leavers = [self._leavers(rank) for rank in range(instance.ranks)]
        for rank in range(instance.ranks):
            self._compute(rank)
            self._send(rank)
            self._memory(rank)
            self._out(rank)
            self._back(rank)
            self._links(rank)
        self.model.minimize(self.makespan)

    def _serial(self, durations: list[int]) -> int:
        """A step time in which nothing overlaps at all."""
        tasks = sum(
            task.costs.recompute_ns + task.costs.backward_ns if task.backward else task.costs.forward_ns
            for own in self.layout.tasks
            for task in own
        )
        copies = sum(
            self.instance.out_ns(b.nbytes) + self.instance.back_ns(b.nbytes)
            for own in self.layout.boundaries
            for b in own
        )
        return (tasks + copies) // self.step

    def _time(self, name: str) -> Any:
        return self.model.new_int_var(0, self.latest, name)

    def _leavers(self, rank: int) -> list[_Leaver]:
        out = []
        for b in self.layout.boundaries[rank]:
            if not b.can_leave:
                continue
            name, model = f"{b.unit}.{b.microbatch}", self.model
            gone = {k: model.new_bool_var(f"gone {name} {k}") for k in range(b.forward + 1, b.backward)}
            back = {k: model.new_bool_var(f"back {name} {k}") for k in range(b.forward + 2, b.backward + 1)}
            leaves = gone[b.backward - 1]
            for row in (gone, back):
                for k, following in pairwise(row):
                    model.add_implication(row[k], row[following])
            for k in back:
                model.add_implication(back[k], gone[k - 1])
            model.add(back[b.backward] == leaves)
            out.append(
                _Leaver(
                    b,
                    leaves,
                    gone,
                    back,
                    self._time(f"out {name}"),
                    self._time(f"in {name}"),
                    self.instance.out_ns(b.nbytes) // self.step,
                    self.instance.back_ns(b.nbytes) // self.step,
                )
            )
        return out

    def _compute(self, rank: int) -> None:
        """Tasks follow each other; each waits for its slot, for what it receives and for its PREFETCH."""
        model, slot, end, tasks = self.model, self.slot[rank], self.end[rank], self.layout.tasks[rank]
        number = {(r, made): i for r, own in enumerate(self.layout.sends) for i, (made, _, _) in enumerate(own)}
        away = {one.boundary.backward: one for one in self.leavers[rank]}
        for task in tasks:
            k = task.place
            if k:
                model.add(slot[k] >= end[k - 1])
            arrived = None if task.sender is None else self.sent[task.sender[0]][number[task.sender]]
            if not task.backward:
                forward = task.costs.forward_ns // self.step
                model.add(end[k] >= slot[k] + forward)
                if arrived is not None:
                    model.add(end[k] >= arrived + forward)
                continue
            again, backward = task.costs.recompute_ns // self.step, task.costs.backward_ns // self.step
            model.add(end[k] >= slot[k] + again + backward)
            if arrived is not None:
                model.add(end[k] >= arrived + backward)
            if k in away:
                model.add(end[k] >= away[k].back_end + again + backward).only_enforce_if(away[k].leaves)
        model.add(slot[len(tasks)] >= end[-1])
        model.add(self.makespan >= slot[len(tasks)])

    def _send(self, rank: int) -> None:
        """Sends follow each other, wait for their task and for the receiver's ACQUIRE, and hold up RELEASEs."""
        sent, ahead = self.sent[rank], self.instance.receive_ahead
        for i, (made, receiver, read) in enumerate(self.layout.sends[rank]):
            self.model.add(sent[i] >= self.end[rank][made])
            self.model.add(sent[i] >= self.slot[receiver][max(0, read - ahead)])
            if i and self.send_queue:
                self.model.add(sent[i] >= sent[i - 1])
        for slot, numbers in self.layout.released[rank].items():
            for i in numbers:
                self.model.add(self.slot[rank][slot] >= sent[i])

    def _away(self, rank: int, place: int) -> list[tuple[_Leaver, Any]]:
        """The boundaries that could be away during a task, each with 1 where it is."""
        return [
            (one, one.gone[place] - one.is_back(place))
            for one in self.leavers[rank]
            if one.boundary.forward < place < one.boundary.backward
        ]

    def _memory(self, rank: int) -> None:
        cap = self.instance.cap_bytes // self.byte
        for place, held in enumerate(self.layout.held(rank)):
            spare = sum(one.boundary.nbytes // self.byte * away for one, away in self._away(rank, place))
            if held > self.instance.cap_bytes:
                self.model.add(spare >= held // self.byte - cap)
        self._late_releases(rank)

    def _late_releases(self, rank: int) -> None:
        taken = {b.born for b in self.layout.boundaries[rank]}
        for slot in range(len(self.layout.tasks[rank])):
            if slot in taken:
                continue
            acquired = [self._acquired(one, slot) for one in self.leavers[rank] if slot in one.back]
            for one in self.leavers[rank]:
                if slot in one.gone:
                    before = one.gone.get(slot - 1, 0)
                    self.model.add(one.gone[slot] - before <= sum(acquired))

    def _acquired(self, one: _Leaver, slot: int) -> Any:
        """1 where the ACQUIRE stands in the slot."""
        return one.back[slot] - one.is_back(slot - 1)

    def _out(self, rank: int) -> None:
        """Offloads follow each other in the order of the FORWARDs that they wait for; a RELEASE waits for its own."""
        model, previous = self.model, None
        for one in self.leavers[rank]:
            b = one.boundary
            model.add(one.out_end >= self.end[rank][b.forward] + one.out_steps).only_enforce_if(one.leaves)
            if previous is not None:
                model.add(one.out_end >= previous + one.out_steps * one.leaves)
            for k, gone in one.gone.items():
                model.add(self.slot[rank][k] >= one.out_end).only_enforce_if(gone)
            previous = one.out_end

    def _back(self, rank: int) -> None:
        """A PREFETCH waits for its ACQUIRE; prefetches follow each other by slot, in a slot by when they are needed."""
        model = self.model
        needed = sorted(self.leavers[rank], key=lambda one: one.boundary.backward)
        alike = len({b.nbytes for b in self.layout.boundaries[rank]}) == 1
        for one in needed:
            for k, slot in enumerate(self.slot[rank]):
                # Not yet there before slot k, so that its ACQUIRE stands in it or later.
                if k in one.back:
                    start = [one.leaves] if k == one.boundary.forward + 2 else [one.leaves, ~one.back[k - 1]]
                    model.add(one.back_end >= slot + one.back_steps).only_enforce_if(start)
        if alike:
            self._by_need(rank, needed)
            return
        for first, second in combinations(needed, 2):
            if second.boundary.forward + 1 < first.boundary.backward:
                self._ordered(first, second)
            else:  # the first is back before the second can be away
                follows = model.add(second.back_end >= first.back_end + second.back_steps)
                follows.only_enforce_if(first.leaves, second.leaves)

    def _by_need(self, rank: int, needed: list[_Leaver]) -> None:
        """Where all have one size: prefetches in the order of need, releases in that of the FORWARDs."""
        for first, second in pairwise(needed):
            self.model.add(second.back_end >= first.back_end + second.back_steps * second.leaves)
        for first, second in combinations(needed, 2):
            for k, back in second.back.items():
                if k <= first.boundary.backward:
                    self._unless([back, first.leaves], first.is_back(k))
        for first, second in combinations(self.leavers[rank], 2):
            for k, gone in second.gone.items():
                if k in first.gone:
                    self._unless([gone, first.leaves], first.gone[k])
        self._early_acquires(rank)

    def _early_acquires(self, rank: int) -> None:
        tasks, own = self.layout.tasks[rank], self.leavers[rank]
        for slot in range(1, len(tasks)):
            if tasks[slot - 1].backward:
                continue
            released = [one.gone[slot] - one.gone.get(slot - 1, 0) for one in own if slot in one.gone]
            for one in own:
                if slot in one.back:
                    self.model.add(self._acquired(one, slot) <= sum(released))

    def _unless(self, all_of: list[Any], then: Any) -> None:
        """Not all of some literals hold, unless the last does; 0 never does."""
        never = isinstance(then, int)
        self.model.add_bool_or([~literal for literal in all_of] + ([] if never else [then]))

    def _ordered(self, first: _Leaver, second: _Leaver) -> None:
        """Of two the one that is needed sooner comes first, unless the second's ACQUIRE stands in a slot before."""
        in_order = self.model.new_bool_var("")
        for k, back in second.back.items():
            self._unless([back, first.leaves, in_order], first.is_back(min(k, first.boundary.backward)))
        for k, back in first.back.items():
            self._unless([back, second.leaves, ~in_order], second.is_back(k - 1))
        for earlier, later, order in ((first, second, in_order), (second, first, ~in_order)):
            follows = self.model.add(later.back_end >= earlier.back_end + later.back_steps)
            follows.only_enforce_if(first.leaves, second.leaves, order)

    def _links(self, rank: int) -> None:
        """What follows from all this for any stretch of a rank's queue; it helps the solver's bound.

        Whatever was offloaded after a FORWARD and released up to a slot has been copied out between the two, and what
        was acquired from a slot on and is needed up to a BACKWARD has been copied in.
        """
        own, slots, ends = self.leavers[rank], self.slot[rank], self.end[rank]
        last = {k: [one for one in own if k in one.gone] for k in range(len(slots))}
        for first in own:
            start = first.boundary.forward
            for k in range(start + 1, len(slots)):
                if not last[k]:
                    continue
                gone = [
                    one.out_steps * one.gone[min(k, one.boundary.backward - 1)]
                    for one in own
                    if start <= one.boundary.forward < k
                ]
                self.model.add(slots[k] >= ends[start] + sum(gone))
        for last_needed in own:
            task: Task = self.layout.tasks[rank][last_needed.boundary.backward]
            tail = (task.costs.recompute_ns + task.costs.backward_ns) // self.step
            for k in range(task.place + 1):
                back = [
                    one.back_steps * (one.leaves - one.is_back(k - 1))
                    for one in own
                    if k <= one.boundary.backward <= task.place
                ]
                if len(back) > 1:
                    self.model.add(ends[task.place] >= slots[k] + sum(back) + tail)


def solve(instance: Instance, seconds: float = 120, *, send_queue: bool = True, log: bool = False) -> Solution:
    """The best plan that the solver finds in a time; RuntimeError where it finds none.

    Without ``send_queue`` a SEND need not wait for the one before it: no plan of ours, but a published table's.
    """
    layout = layout_of(instance)
    model = _Model(instance, layout, send_queue)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = SEED
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.log_search_progress = log
    status = solver.solve(model.model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise RuntimeError(f"{instance.name}: {solver.status_name(status)} after {seconds} s")
    return Solution(
        status=solver.status_name(status),
        step_ns=round(solver.objective_value) * model.step,
        bound_ns=round(solver.best_objective_bound) * model.step,
        rows=tuple(_rows(model, solver)),
        seconds=solver.wall_time,
    )


def _rows(model: _Model, solver: cp_model.CpSolver) -> list[dict[str, int]]:
    first_unit = [0]
    for stage in model.instance.stages:
        first_unit.append(first_unit[-1] + len(stage))
    out = []
    for rank, own in enumerate(model.leavers):
        for one in own:
            if solver.boolean_value(one.leaves):
                out.append(
                    {
                        "stage": rank,
                        "unit": one.boundary.unit - first_unit[rank],
                        "microbatch": one.boundary.microbatch,
                        "release": min(k for k, gone in one.gone.items() if solver.boolean_value(gone)),
                        "acquire": min(k for k, back in one.back.items() if solver.boolean_value(back)),
                    }
                )
    return sorted(out, key=lambda row: (row["stage"], row["unit"], row["microbatch"]))
