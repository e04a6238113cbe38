"""The planner once more, in plain Python with an object per operation: what the compiled one is tested against.

It is written for reading, from DESIGN, section 2, and shares with the compiled one only the orders and the columns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner.horizon import AS_GIVEN, NO_CHECKPOINTING, SWITCHED_OFF, TOO_SOON, outcome_sentence
from loadahead.sim.planner.policy import Policy
from loadahead.sim.workload import UnitShape, Workload

BoundaryKey = tuple[int, int, int]  # (stage, unit, microbatch)


def slow_plan(
    workload: Workload, policy: Policy, name: str = "plan", decisions: Iterable[Mapping[str, Any]] | None = None
) -> Plan:
    """The same plan as :func:`loadahead.sim.planner.build_plan`; ``decisions`` are rows as a plan's file has them."""
    tasks = rank_tasks(workload, policy)
    given = None if decisions is None else list(decisions)
    offloads = [decide(mine, policy) if given is None else as_given(mine, given) for mine in tasks]
    rows, last_uses = Lowering(workload, policy, tasks, offloads).run()
    kept: Counter[str] = sum((decided.kept for decided in offloads), Counter())
    offloaded = sum(len(decided.release_slot) for decided in offloads)
    outcome: dict[str, Any] = {"offloaded": offloaded, "kept": kept.total(), "kept_because": dict(kept)}
    choices = policy.to_dict()
    if given is None:
        sentence = outcome_sentence(offloaded, kept, policy)
    else:
        sentence = f"{offloaded} of {offloaded + kept.total()} boundaries are offloaded, as the decisions given say."
        choices = {key: choices[key] for key in choices if key not in ("offload", "horizon", "horizon_unit")}
    return rows.freeze(
        name, policy.ranks, policy.microbatches, choices | outcome | {"sentence": sentence}, frees=last_uses
    )


@dataclass(frozen=True, slots=True)
class RankTasks:
    """One rank's tasks. Position in the lists is the position on the compute queue, counted in tasks.

    ``key[k]`` is the (stage, unit, microbatch) of task k, ``backward[k]`` its direction. ``forward_at`` and
    ``backward_at`` give the positions of the two tasks of a boundary.
    """

    key: list[BoundaryKey]
    backward: list[bool]
    forward_at: dict[BoundaryKey, int]
    backward_at: dict[BoundaryKey, int]

    def __len__(self) -> int:
        return len(self.key)


def rank_tasks(workload: Workload, policy: Policy) -> list[RankTasks]:
    """The tasks of every rank: stages' passes cut into units, forwards up and backwards down."""
    units = [len(stage) for stage in workload.stages]
    order = policy.make_order()
    out = []
    for passes in order.passes:
        tasks = RankTasks([], [], {}, {})
        for backward, stage, microbatch in passes.tolist():
            steps = range(units[stage])
            for unit in reversed(steps) if backward else steps:
                key = (stage, unit, microbatch)
                (tasks.backward_at if backward else tasks.forward_at)[key] = len(tasks)
                tasks.key.append(key)
                tasks.backward.append(bool(backward))
        out.append(tasks)
    return out


@dataclass(frozen=True, slots=True)
class Offloads:
    """One rank's decisions: the slots of RELEASE and ACQUIRE of each offloaded boundary, and why others stay."""

    release_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    acquire_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)


def decide(tasks: RankTasks, policy: Policy) -> Offloads:
    """Offload a boundary only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU."""
    out = Offloads()
    if not policy.checkpoint or not policy.offload:
        reason = SWITCHED_OFF if policy.checkpoint else NO_CHECKPOINTING
        out.kept[reason] += len(tasks.backward_at)
        return out
    acquire = _acquire_by_tasks if policy.horizon_unit == "tasks" else _acquire_by_layers
    slots = acquire(tasks, policy)
    for key, made in tasks.forward_at.items():
        if key in slots:
            out.release_slot[key] = made + policy.release_window + 1
            out.acquire_slot[key] = slots[key]
        else:
            out.kept[TOO_SOON] += 1
    return out


def as_given(tasks: RankTasks, decisions: list[Mapping[str, Any]]) -> Offloads:
    """Offload the rank's boundaries that the decisions say, in their slots."""
    out = Offloads()
    for row in decisions:
        key = (row["stage"], row["unit"], row["microbatch"])
        if key in tasks.forward_at and row["acquire"] >= 0:
            out.release_slot[key], out.acquire_slot[key] = row["release"], row["acquire"]
    if len(out.release_slot) < len(tasks.forward_at):
        out.kept[AS_GIVEN] = len(tasks.forward_at) - len(out.release_slot)
    return out


def _acquire_by_tasks(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """smp v1: the ACQUIRE stands directly before task k - h, when k is the BACKWARD that needs the boundary."""
    slots = {}
    for key, made in tasks.forward_at.items():
        slot = tasks.backward_at[key] - policy.horizon
        if slot > made + policy.release_window:
            slots[key] = slot
    return slots


def _acquire_by_layers(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """SMP v2: at most h offloaded boundaries on the GPU; the next ACQUIRE follows the BACKWARD that frees one.

    The first h are taken before the rank's first BACKWARD.
    """
    slots: dict[BoundaryKey, int] = {}
    needed: list[int] = []  # BACKWARD positions of the offloaded boundaries so far
    first = tasks.backward.index(True)
    for key, at in tasks.backward_at.items():
        slot = first if len(needed) < policy.horizon else needed[-policy.horizon] + 1
        if slot > tasks.forward_at[key] + policy.release_window:
            slots[key] = slot
            needed.append(at)
    return slots


@dataclass(slots=True)
class _Rank:
    """What lowering remembers of one rank while it walks the rank's tasks. Values are operation or buffer positions."""

    rank: int
    tasks: RankTasks
    offloads: Offloads
    acquires: dict[int, list[BoundaryKey]]
    next: int = 0
    boundary: dict[BoundaryKey, int] = field(default_factory=dict)
    gradient: dict[BoundaryKey, int] = field(default_factory=dict)
    saved: dict[BoundaryKey, int] = field(default_factory=dict)
    forward: dict[BoundaryKey, int] = field(default_factory=dict)
    received: dict[BoundaryKey, int] = field(default_factory=dict)
    received_gradient: dict[BoundaryKey, int] = field(default_factory=dict)
    offload: dict[BoundaryKey, int] = field(default_factory=dict)
    prefetch: dict[BoundaryKey, int] = field(default_factory=dict)
    slot: dict[BoundaryKey, int] = field(default_factory=dict)
    emptied_by: dict[int, int] = field(default_factory=dict)
    free_slots: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    releases: dict[int, list[tuple[BoundaryKey, int, int]]] = field(default_factory=lambda: defaultdict(list))


def _slots(places: dict[BoundaryKey, int], tasks: RankTasks) -> dict[int, list[BoundaryKey]]:
    """Boundaries by slot, the one needed soonest first."""
    out: dict[int, list[BoundaryKey]] = defaultdict(list)
    for key in sorted(places, key=lambda key: (places[key], tasks.backward_at[key])):
        out[places[key]].append(key)
    return out


class Lowering:
    """Builds one plan; see :meth:`run`."""

    def __init__(self, workload: Workload, policy: Policy, tasks: list[RankTasks], offloads: list[Offloads]) -> None:
        self._stages = workload.stages
        self._policy = policy
        self._out = PlanBuilder()
        self._sent: dict[BoundaryKey, int] = {}  # SEND_ACTIVATION by the key of the boundary it becomes
        self._sent_gradient: dict[BoundaryKey, int] = {}  # SEND_GRADIENT by the key of the BACKWARD that needs it
        self._ranks = [
            _Rank(rank, mine, decided, _slots(decided.acquire_slot, mine))
            for rank, (mine, decided) in enumerate(zip(tasks, offloads, strict=True))
        ]

    def run(self) -> tuple[PlanBuilder, list[tuple[int, int]]]:
        """The plan's rows, and the (PREFETCH, host slot) pairs in which a slot is given back."""
        waiting = list(self._ranks)
        while waiting:
            moved = False
            for rank in waiting:
                if rank.next < len(rank.tasks) and self._ready(rank):
                    self._task(rank)
                    moved = True
            waiting = [rank for rank in waiting if rank.next < len(rank.tasks)]
            if waiting and not moved:
                stuck = waiting[0]
                raise InputError(f"deadlock: rank {stuck.rank} waits for what {stuck.tasks.key[stuck.next]} reads")
        for rank in self._ranks:
            self._releases(rank, len(rank.tasks))
            self._out.op(rank.rank, Kind.OPTIMIZER_STEP)
        return self._out, [pair for rank in self._ranks for pair in self._last_uses(rank)]

    def _shape(self, key: BoundaryKey) -> UnitShape:
        return self._stages[key[0]][key[1]]

    def _above(self, key: BoundaryKey) -> BoundaryKey | None:
        """The unit that reads what this one writes; None at the model's end."""
        stage, unit, microbatch = key
        if unit + 1 < len(self._stages[stage]):
            return stage, unit + 1, microbatch
        return (stage + 1, 0, microbatch) if stage + 1 < len(self._stages) else None

    def _below(self, key: BoundaryKey) -> BoundaryKey | None:
        """The unit whose output this one reads; None at the model's start."""
        stage, unit, microbatch = key
        if unit:
            return stage, unit - 1, microbatch
        return (stage - 1, len(self._stages[stage - 1]) - 1, microbatch) if stage else None

    def _ready(self, rank: _Rank) -> bool:
        key = rank.tasks.key[rank.next]
        if rank.tasks.backward[rank.next]:
            return self._above(key) is None or key in rank.gradient or key in self._sent_gradient
        return self._below(key) is None or key in rank.boundary or key in self._sent

    def _task(self, rank: _Rank) -> None:
        at, key = rank.next, rank.tasks.key[rank.next]
        self._releases(rank, at)
        for wanted in rank.acquires.get(at, ()):
            self._load(rank, wanted)
        if rank.tasks.backward[at]:
            self._backward(rank, key)
        else:
            self._forward(rank, key)
        rank.next += 1

    def _releases(self, rank: _Rank, slot: int) -> None:
        for key, waited, buffer in rank.releases.pop(slot, ()):
            self._out.op(rank.rank, Kind.RELEASE, key, after=[waited], frees=[buffer])

    def _release_later(self, rank: _Rank, key: BoundaryKey, waited: int, buffer: int) -> None:
        sent = min(rank.next + self._policy.release_window + 1, len(rank.tasks))
        slot = rank.offloads.release_slot[key] if waited == rank.offload.get(key) else sent
        rank.releases[slot].append((key, waited, buffer))

    def _load(self, rank: _Rank, key: BoundaryKey) -> None:
        """ACQUIRE and PREFETCH of an offloaded boundary, into a buffer of its own."""
        nbytes, slot = self._shape(key).boundary_bytes, rank.slot[key]
        buffer = self._out.buffer(rank.rank, Space.DEVICE, nbytes, Role.BOUNDARY, key)
        acquire = self._out.op(rank.rank, Kind.ACQUIRE, key, allocs=[buffer])
        after = [acquire, rank.offload[key]]
        load = self._out.op(rank.rank, Kind.PREFETCH, key, after=after, reads=[slot], writes=[buffer], nbytes=nbytes)
        rank.boundary[key] = buffer
        rank.prefetch[key] = rank.emptied_by[slot] = load

    def _receive(self, rank: _Rank, kind: Kind, key: BoundaryKey, send: int) -> tuple[int, int]:
        """ACQUIRE and RECV directly before the task that reads; returns (buffer, RECV)."""
        shape = self._shape(key) if kind == Kind.RECV_ACTIVATION else None
        above = self._above(key)
        if shape is not None:
            role, nbytes = Role.BOUNDARY, shape.boundary_bytes
        else:
            assert above is not None
            role, nbytes = Role.GRADIENT, self._shape(above).gradient_bytes
        buffer = self._out.buffer(rank.rank, Space.DEVICE, nbytes, role, key)
        acquire = self._out.op(rank.rank, Kind.ACQUIRE, key, allocs=[buffer])
        after = [send, acquire]
        return buffer, self._out.op(rank.rank, kind, key, after=after, writes=[buffer], nbytes=nbytes)

    def _forward(self, rank: _Rank, key: BoundaryKey) -> None:
        allocs, writes, after = [], [], []
        if key in self._sent:
            rank.boundary[key], receive = self._receive(rank, Kind.RECV_ACTIVATION, key, self._sent[key])
            after.append(receive)
        elif self._below(key) is None:
            nbytes = self._shape(key).boundary_bytes
            rank.boundary[key] = self._out.buffer(rank.rank, Space.DEVICE, nbytes, Role.BOUNDARY, key)
            allocs.append(rank.boundary[key])
            writes.append(rank.boundary[key])
        output = self._output(rank, key)
        if output is not None:
            allocs.append(output)
            writes.append(output)
        if not self._policy.checkpoint and self._shape(key).saved_bytes:
            nbytes = self._shape(key).saved_bytes
            rank.saved[key] = self._out.buffer(rank.rank, Space.DEVICE, nbytes, Role.WORKSPACE, key)
            allocs.append(rank.saved[key])
            writes.append(rank.saved[key])
        done = self._out.op(
            rank.rank, Kind.FORWARD, key, after=after, reads=[rank.boundary[key]], writes=writes, allocs=allocs
        )
        rank.forward[key] = done
        if key in rank.offloads.release_slot:
            self._offload(rank, key)
        above = self._above(key)
        if output is not None and above is not None and above not in rank.tasks.forward_at:
            nbytes = self._shape(above).boundary_bytes
            send = self._out.op(rank.rank, Kind.SEND_ACTIVATION, key, after=[done], reads=[output], nbytes=nbytes)
            self._sent[above] = send
            self._release_later(rank, key, send, output)

    def _output(self, rank: _Rank, key: BoundaryKey) -> int | None:
        """The buffer a FORWARD writes: the next unit's boundary, or at a stage's end the output to send."""
        above = self._above(key)
        if above is None:
            return None
        nbytes = self._shape(above).boundary_bytes
        if above in rank.tasks.forward_at:
            rank.boundary[above] = self._out.buffer(rank.rank, Space.DEVICE, nbytes, Role.BOUNDARY, above)
            return rank.boundary[above]
        return self._out.buffer(rank.rank, Space.DEVICE, nbytes, Role.OUTPUT, key)

    def _offload(self, rank: _Rank, key: BoundaryKey) -> None:
        """OFFLOAD into a host slot, and the RELEASE to come.

        A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
        PREFETCH has ended and the reuse never makes a copy wait.
        """
        nbytes, buffer, after = self._shape(key).boundary_bytes, rank.boundary[key], [rank.forward[key]]
        free, allocs = rank.free_slots[nbytes], []
        if free:
            slot = free.pop()
            after.append(rank.emptied_by[slot])
        else:
            slot = self._out.buffer(rank.rank, Space.HOST, nbytes, Role.BOUNDARY, key)
            allocs.append(slot)
        rank.slot[key] = slot
        rank.offload[key] = self._out.op(
            rank.rank, Kind.OFFLOAD, key, after=after, reads=[buffer], writes=[slot], allocs=allocs, nbytes=nbytes
        )
        self._release_later(rank, key, rank.offload[key], buffer)

    def _backward(self, rank: _Rank, key: BoundaryKey) -> None:
        boundary, loaded = rank.boundary.pop(key), rank.prefetch.get(key)
        waits = [] if loaded is None else [loaded]
        above, gradient_after = self._above(key), []
        if key in self._sent_gradient:
            send = self._sent_gradient[key]
            rank.gradient[key], receive = self._receive(rank, Kind.RECV_GRADIENT, key, send)
            gradient_after.append(receive)
        if self._policy.checkpoint:
            self._out.op(rank.rank, Kind.RECOMPUTE, key, after=waits, reads=[boundary])
            waits = []
        reads, frees = [boundary], [boundary]
        if above is not None:
            incoming = rank.gradient.pop(key)
            reads.append(incoming)
            frees.append(incoming)
        if key in rank.saved:
            saved = rank.saved.pop(key)
            reads.append(saved)
            frees.append(saved)
        outgoing = self._outgoing_gradient(rank, key)
        done = self._out.op(
            rank.rank,
            Kind.BACKWARD,
            key,
            after=waits + gradient_after,
            reads=reads,
            writes=outgoing,
            allocs=outgoing,
            frees=frees,
        )
        if key in rank.slot:
            slot = rank.slot.pop(key)
            rank.free_slots[self._shape(key).boundary_bytes].append(slot)
        below = self._below(key)
        if below is not None and below not in rank.tasks.backward_at:
            nbytes = self._shape(key).gradient_bytes
            send = self._out.op(rank.rank, Kind.SEND_GRADIENT, key, after=[done], reads=outgoing, nbytes=nbytes)
            self._sent_gradient[below] = send
            self._release_later(rank, key, send, outgoing[0])

    def _outgoing_gradient(self, rank: _Rank, key: BoundaryKey) -> list[int]:
        """The gradient of the unit's input; none at the model's start."""
        below = self._below(key)
        if below is None:
            return []
        buffer = self._out.buffer(rank.rank, Space.DEVICE, self._shape(key).gradient_bytes, Role.GRADIENT, key)
        if below in rank.tasks.backward_at:
            rank.gradient[below] = buffer
        return [buffer]

    @staticmethod
    def _last_uses(rank: _Rank) -> list[tuple[int, int]]:
        return [(load, slot) for slot, load in rank.emptied_by.items()]
