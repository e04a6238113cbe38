"""Where an instance's tasks stand on each rank, what each needs, and in which order sends and releases are listed.

Written from DESIGN's text, for one stage a rank: an oracle of its own beside the planner, which has the same rules.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.optima.problem import Instance, Unit

# The RELEASE of what a task sent stands before the second task after it.
_SENT_STAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The FORWARD or the BACKWARD of a unit, counted through the model, for one microbatch, on its rank's queue.

    ``sender`` is the (rank, place) of the task that sends it what it reads, None where nothing is sent.
    """

    rank: int
    place: int
    unit: int
    microbatch: int
    backward: bool
    costs: Unit
    sender: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """A unit's input for one microbatch, which a rank holds from the task ``born`` up to the task ``backward``.

    Only in tasks after ``forward`` and before ``backward`` can it be away.
    """

    unit: int
    microbatch: int
    nbytes: int
    born: int
    forward: int
    backward: int

    @property
    def can_leave(self) -> bool:
        """Whether a task stands between its FORWARD and its BACKWARD."""
        return self.backward > self.forward + 1

    def must_be_there(self, place: int) -> bool:
        """Whether every plan has it on the GPU during the task at a place."""
        return self.born <= place <= self.forward or place == self.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All that is the same whatever leaves.

    Attributes:
        tasks: of each rank, in order.
        boundaries: of each rank, in the order of their FORWARDs.
        sends: of each rank's send queue, in order: (place of the task that sends, receiving rank, place of the task
            that reads).
        released: of each rank, by slot, the numbers of the sends whose buffers are released there.
    """

    tasks: tuple[tuple[Task, ...], ...]
    boundaries: tuple[tuple[Boundary, ...], ...]
    sends: tuple[tuple[tuple[int, int, int], ...], ...]
    released: tuple[dict[int, list[int]], ...]

    @property
    def keep_all_bytes(self) -> int:
        """The largest sum of boundary bytes on one rank where all stay."""
        return max(max(self.held(rank)) for rank in range(len(self.tasks)))

    @property
    def least_bytes(self) -> int:
        """The largest sum of boundary bytes on one rank where each is away as long as it can be."""
        return max(
            sum(b.nbytes for b in self.boundaries[task.rank] if b.must_be_there(task.place))
            for own in self.tasks
            for task in own
        )

    @property
    def could_leave(self) -> int:
        """How many boundaries could leave."""
        return sum(b.can_leave for own in self.boundaries for b in own)

    def held(self, rank: int) -> list[int]:
        """The boundary bytes that a rank holds during each of its tasks where all stay."""
        own = self.boundaries[rank]
        return [sum(b.nbytes for b in own if b.born <= place <= b.backward) for place in range(len(self.tasks[rank]))]


def layout_of(instance: Instance) -> Layout:
    """The layout of an instance; RuntimeError where its ranks would wait for each other in a circle."""
    tasks = _tasks(instance)
    sends, released = _sends(tasks, instance.receive_ahead)
    boundaries = tuple(_boundaries(own, instance.receive_ahead) for own in tasks)
    return Layout(tasks=tasks, boundaries=boundaries, sends=sends, released=released)


def _passes(instance: Instance, rank: int) -> list[tuple[bool, int]]:
    """A rank's passes, (is it a backward, microbatch): so many forwards ahead, then one backward and one forward."""
    count = instance.microbatches
    ahead = count if instance.pipeline == "simple" else min(instance.ranks - rank, count)
    out = [(False, microbatch) for microbatch in range(ahead)]
    for microbatch in range(count):
        out.append((True, microbatch))
        if ahead + microbatch < count:
            out.append((False, ahead + microbatch))
    return out


def _tasks(instance: Instance) -> tuple[tuple[Task, ...], ...]:
    named: list[list[tuple[int, int, bool, Unit]]] = []
    first = 0
    for rank, units in enumerate(instance.stages):
        own = []
        for backward, microbatch in _passes(instance, rank):
            steps = range(len(units))
            own += [
                (first + place, microbatch, backward, units[place])
                for place in (reversed(steps) if backward else steps)
            ]
        named.append(own)
        first += len(units)
    at = {task[:3]: (rank, place) for rank, own in enumerate(named) for place, task in enumerate(own)}
    out = []
    for rank, own in enumerate(named):
        row = []
        for place, (unit, microbatch, backward, costs) in enumerate(own):
            source = at.get((unit + 1 if backward else unit - 1, microbatch, backward))
            sender = source if source is not None and source[0] != rank else None
            row.append(
                Task(
                    rank=rank,
                    place=place,
                    unit=unit,
                    microbatch=microbatch,
                    backward=backward,
                    costs=costs,
                    sender=sender,
                )
            )
        out.append(tuple(row))
    return tuple(out)


def _boundaries(tasks: tuple[Task, ...], receive_ahead: int) -> tuple[Boundary, ...]:
    """A rank's boundaries: taken by the FORWARD below, by an ACQUIRE ahead where received, by its own FORWARD else."""
    at = {(task.unit, task.microbatch, task.backward): task.place for task in tasks}
    out = []
    for task in tasks:
        if task.backward:
            continue
        below = at.get((task.unit - 1, task.microbatch, False))
        ahead = task.place if task.sender is None else max(0, task.place - receive_ahead)
        out.append(
            Boundary(
                unit=task.unit,
                microbatch=task.microbatch,
                nbytes=task.costs.boundary_bytes,
                born=ahead if below is None else below,
                forward=task.place,
                backward=at[task.unit, task.microbatch, True],
            )
        )
    return tuple(out)


class _Walk:
    """Lists what the ranks do, taking turns with one task each, to find the order of each rank's sends.

    A SEND is listed as soon as its task is and the ACQUIRE of what it is sent into, behind those that the receiver
    reads before it from the same rank. A slot is listed once the SENDs are for which its RELEASEs wait.
    """

    def __init__(self, tasks: tuple[tuple[Task, ...], ...], receive_ahead: int) -> None:
        self.tasks, self.ahead = tasks, receive_ahead
        self.done = [0] * len(tasks)
        self.opened = [0] * len(tasks)  # how many slots are listed
        self.sends: list[list[tuple[int, int, int]]] = [[] for _ in tasks]
        self.number: dict[tuple[int, int], int] = {}
        self.due: list[dict[int, list[int]]] = [defaultdict(list) for _ in tasks]
        self.unread: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)  # (place sent, place read)
        for own in tasks:
            for task in own:
                if task.sender is not None:
                    rank, place = task.sender
                    self.unread[rank, task.rank].append((place, task.place))
                    slot = min(place + _SENT_STAYS, len(tasks[rank]))
                    self.due[rank][slot].append(place)

    def _list_sends(self) -> None:
        for (rank, receiver), waiting in self.unread.items():
            while waiting and waiting[0][0] < self.done[rank] and waiting[0][1] < self.opened[receiver] + self.ahead:
                made, read = waiting.pop(0)
                self.number[rank, made] = len(self.sends[rank])
                self.sends[rank].append((made, receiver, read))

    def turn(self, rank: int) -> bool:
        """Let a rank list its next slot and task, as far as it can; whether it could."""
        place, own = self.done[rank], self.tasks[rank]
        if place == len(own):
            return False
        moved = False
        if self.opened[rank] == place:
            if any((rank, made) not in self.number for made in self.due[rank][place]):
                return False
            self.opened[rank], moved = place + 1, True
            self._list_sends()
        sender = own[place].sender
        if sender is None or sender in self.number:
            self.done[rank], moved = place + 1, True
            self._list_sends()
        return moved

    def run(self) -> None:
        """List everything."""
        moved = True
        while moved:
            turns = [self.turn(rank) for rank in range(len(self.tasks))]
            moved = any(turns)
        if self.done != [len(own) for own in self.tasks]:
            raise RuntimeError(f"the ranks wait in a circle, at tasks {self.done}")


def _sends(
    tasks: tuple[tuple[Task, ...], ...], receive_ahead: int
) -> tuple[tuple[tuple[tuple[int, int, int], ...], ...], tuple[dict[int, list[int]], ...]]:
    walk = _Walk(tasks, receive_ahead)
    walk.run()
    released = tuple(
        {slot: [walk.number[rank, made] for made in places] for slot, places in own.items() if places}
        for rank, own in enumerate(walk.due)
    )
    return tuple(map(tuple, walk.sends)), released
