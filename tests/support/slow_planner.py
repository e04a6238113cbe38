"""The planner once more, in plain Python with an object per operation: what the compiled one is tested against.

It is written for reading, from DESIGN, section 2, and shares with the compiled one only the orders and the columns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner.horizon import (
    AS_GIVEN,
    NO_CHECKPOINTING,
    SWITCHED_OFF,
    TOO_SMALL,
    TOO_SOON,
    outcome_sentence,
)
from loadahead.sim.planner.policy import Policy
from loadahead.sim.workload import PassThrough, UnitShape, Workload

UnitKey = tuple[int, int]  # (stage, unit)
BoundaryKey = tuple[int, int, int]  # (stage, unit, microbatch)
NO_KEY = (-1, -1, -1)


def slow_plan(
    workload: Workload, policy: Policy, name: str = "plan", decisions: Iterable[Mapping[str, Any]] | None = None
) -> Plan:
    """The same plan as :func:`loadahead.sim.planner.build_plan`; ``decisions`` are rows as a plan's file has them."""
    tasks = rank_tasks(workload, policy)
    given = None if decisions is None else list(decisions)
    model = Model(workload)
    offloads = [decide(mine, policy, model) if given is None else as_given(mine, given) for mine in tasks]
    rows = lower(workload, policy, tasks, offloads)
    kept: Counter[str] = sum((decided.kept for decided in offloads), Counter())
    offloaded = sum(len(decided.release_slot) for decided in offloads)
    outcome: dict[str, Any] = {"offloaded": offloaded, "kept": kept.total(), "kept_because": dict(sorted(kept.items()))}
    choices = policy.to_dict()
    if given is None:
        small = [nbytes for decided in offloads for nbytes in decided.small]
        sentence = outcome_sentence(offloaded, kept, policy, sorted(small))
    else:
        sentence = f"{offloaded} of {offloaded + kept.total()} boundaries are offloaded, as the decisions given say."
        horizon = ("offload", "horizon", "horizon_unit", "release_window", "min_bytes")
        choices = {key: choices[key] for key in choices if key not in horizon}
    facts = choices | outcome | {"sentence": sentence}
    return rows.freeze(name, policy.ranks, policy.microbatches, facts, frozen_units=workload.frozen_units)


# Tasks and decisions.


@dataclass(frozen=True, slots=True)
class RankTasks:
    """One rank's tasks. Position in the lists is the position on the compute queue, counted in tasks.

    ``key[k]`` is the (stage, unit, microbatch) of task k, ``backward[k]`` its direction. ``forward_at`` and
    ``backward_at`` give the positions of the two tasks of a boundary; that of a frozen unit has a FORWARD alone.
    """

    key: list[BoundaryKey]
    backward: list[bool]
    forward_at: dict[BoundaryKey, int]
    backward_at: dict[BoundaryKey, int]

    def __len__(self) -> int:
        return len(self.key)


def rank_tasks(workload: Workload, policy: Policy) -> list[RankTasks]:
    """The tasks of every rank: stages' passes cut into units, forwards up and backwards down to the first trained."""
    model = Model(workload)
    out = []
    for passes in policy.make_order().passes:
        tasks = RankTasks([], [], {}, {})
        for backward, stage, microbatch in passes.tolist():
            units = range(len(workload.stages[stage]))
            for unit in reversed(units) if backward else units:
                if backward and model.frozen((stage, unit)):
                    continue
                key = (stage, unit, microbatch)
                (tasks.backward_at if backward else tasks.forward_at)[key] = len(tasks)
                tasks.key.append(key)
                tasks.backward.append(bool(backward))
        out.append(tasks)
    return out


class Model:
    """The units in the order in which a microbatch meets them, over all stages."""

    def __init__(self, workload: Workload) -> None:
        self._stages = workload.stages
        self._frozen = workload.frozen_units
        self.units: list[UnitKey] = [(s, u) for s, stage in enumerate(workload.stages) for u in range(len(stage))]
        self._number = {unit: number for number, unit in enumerate(self.units)}

    def number(self, unit: UnitKey) -> int:
        """The unit's place in the model."""
        return self._number[unit]

    def frozen(self, unit: UnitKey) -> bool:
        """Whether the unit has a FORWARD alone."""
        return self._number[unit] < self._frozen

    def shape(self, key: BoundaryKey) -> UnitShape:
        """The bytes of the key's unit."""
        return self._stages[key[0]][key[1]]

    def above(self, key: BoundaryKey) -> BoundaryKey | None:
        """The unit that reads what this one's FORWARD writes; None at the model's end."""
        return self._next(key, 1)

    def below(self, key: BoundaryKey) -> BoundaryKey | None:
        """The unit whose output this one reads; None at the model's start."""
        return self._next(key, -1)

    def trained_below(self, key: BoundaryKey) -> BoundaryKey | None:
        """The unit that reads what this one's BACKWARD writes; None where nothing below is trained."""
        below = self.below(key)
        return None if below is None or self.frozen(below[:2]) else below

    def _next(self, key: BoundaryKey, step: int) -> BoundaryKey | None:
        number = self._number[key[:2]] + step
        return (*self.units[number], key[2]) if 0 <= number < len(self.units) else None


@dataclass(frozen=True, slots=True)
class Offloads:
    """One rank's decisions: the slots of RELEASE and ACQUIRE of each offloaded boundary, and why others stay.

    ``small`` holds the bytes of those that are too small to leave.
    """

    release_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    acquire_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    small: list[int] = field(default_factory=list)


def decide(tasks: RankTasks, policy: Policy, model: Model) -> Offloads:
    """Offload a boundary only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU.

    Those with fewer bytes than the policy's least are taken out first: the horizon meets only the others.
    """
    out = Offloads()
    if not policy.checkpoint or not policy.offload:
        reason = SWITCHED_OFF if policy.checkpoint else NO_CHECKPOINTING
        out.kept[reason] += len(tasks.backward_at)
        return out
    acquire = _acquire_by_tasks if policy.horizon_unit == "tasks" else _acquire_by_layers
    small = {key for key in tasks.backward_at if model.shape(key).boundary_bytes < policy.min_bytes}
    large = replace(tasks, backward_at={key: at for key, at in tasks.backward_at.items() if key not in small})
    slots = acquire(large, policy)
    for key in tasks.backward_at:
        if key in small:
            out.kept[TOO_SMALL] += 1
            out.small.append(model.shape(key).boundary_bytes)
        elif key in slots:
            out.release_slot[key] = tasks.forward_at[key] + policy.release_window + 1
            out.acquire_slot[key] = slots[key]
        else:
            out.kept[TOO_SOON] += 1
    return out


def as_given(tasks: RankTasks, decisions: list[Mapping[str, Any]]) -> Offloads:
    """Offload the rank's boundaries that the decisions say, in their slots."""
    out = Offloads()
    for row in decisions:
        key = (row["stage"], row["unit"], row["microbatch"])
        if key in tasks.backward_at and row["acquire"] >= 0:
            out.release_slot[key], out.acquire_slot[key] = row["release"], row["acquire"]
    if len(out.release_slot) < len(tasks.backward_at):
        out.kept[AS_GIVEN] = len(tasks.backward_at) - len(out.release_slot)
    return out


def _acquire_by_tasks(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """smp v1: the ACQUIRE stands directly before task k - h, when k is the BACKWARD that needs the boundary."""
    slots = {}
    for key, needed in tasks.backward_at.items():
        slot = needed - policy.horizon
        if slot > tasks.forward_at[key] + policy.release_window:
            slots[key] = slot
    return slots


def _acquire_by_layers(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """SMP v2: at most h offloaded boundaries on the GPU; the next ACQUIRE follows the BACKWARD that frees one.

    The first h are taken before the rank's first BACKWARD.
    """
    slots: dict[BoundaryKey, int] = {}
    needed: list[int] = []  # BACKWARD positions of the offloaded boundaries so far
    for key, at in tasks.backward_at.items():
        slot = tasks.backward.index(True) if len(needed) < policy.horizon else needed[-policy.horizon] + 1
        if slot > tasks.forward_at[key] + policy.release_window:
            slots[key] = slot
            needed.append(at)
    return slots


# Lowering.


def lower(workload: Workload, policy: Policy, tasks: list[RankTasks], offloads: list[Offloads]) -> PlanBuilder:
    """The plan's rows.

    Where every rank holds one stage, the RELEASE of what was sent stands in a fixed place; where it does not, or where
    the ranks would wait for each other in a circle, it is put off until the SEND is listed.
    """
    stages_of = [{stage for stage, _, _ in mine.key} for mine in tasks]
    if all(len(stages) == 1 for stages in stages_of):
        try:
            return Lowering(workload, policy, tasks, offloads, fixed=True).run()
        except InputError:
            pass
    return Lowering(workload, policy, tasks, offloads, fixed=False).run()


@dataclass(slots=True, eq=False)
class Buffer:
    """A row of the plan's buffers."""

    rank: int
    space: Space
    nbytes: int
    role: Role
    key: BoundaryKey


@dataclass(slots=True, eq=False)
class Operation:
    """A row of the plan's operations."""

    rank: int
    kind: Kind
    key: BoundaryKey = NO_KEY
    after: list[Operation] = field(default_factory=list)
    reads: list[Buffer] = field(default_factory=list)
    writes: list[Buffer] = field(default_factory=list)
    allocs: list[Buffer] = field(default_factory=list)
    frees: list[Buffer] = field(default_factory=list)
    nbytes: int = 0


@dataclass(slots=True, eq=False)
class Message:
    """What one rank sends another: the output of ``written``'s FORWARD, or the gradient that its BACKWARD writes.

    The task that reads it is ``read``'s, at place ``at`` of the receiver's queue. Operations and buffers are None until
    they are listed.
    """

    gradient: bool
    written: BoundaryKey
    read: BoundaryKey
    nbytes: int
    sender: int
    receiver: int
    at: int
    task: Operation | None = None
    sent: Buffer | None = None
    acquire: Operation | None = None
    landed: Buffer | None = None
    send: Operation | None = None


@dataclass(slots=True, eq=False)
class Release:
    """A RELEASE to come: of a boundary, which waits for its OFFLOAD, or of what was sent as a message."""

    key: BoundaryKey
    buffer: Buffer
    waits_for: Operation | Message

    @property
    def after(self) -> Operation | None:
        """The operation that it waits for; None while that one is not listed."""
        return self.waits_for.send if isinstance(self.waits_for, Message) else self.waits_for


@dataclass(slots=True)
class Rank:
    """What lowering remembers of one rank while it walks the rank's tasks; by boundary, or by slot."""

    number: int
    tasks: RankTasks
    offloads: Offloads
    next: int = 0
    slot_is_listed: bool = False
    loads: dict[int, list[BoundaryKey]] = field(default_factory=lambda: defaultdict(list))
    receives: dict[int, list[Message]] = field(default_factory=lambda: defaultdict(list))
    releases: dict[int, list[Release]] = field(default_factory=lambda: defaultdict(list))
    # What a FORWARD, or a BACKWARD, of the key is to read.
    boundary: dict[BoundaryKey, Buffer] = field(default_factory=dict)
    gradient: dict[BoundaryKey, Buffer] = field(default_factory=dict)
    # The message that a task reads, by the task's place, and the one that it writes, by its key and direction.
    reads: dict[int, Message] = field(default_factory=dict)
    writes: dict[tuple[BoundaryKey, bool], Message] = field(default_factory=dict)
    offload: dict[BoundaryKey, Operation] = field(default_factory=dict)
    prefetch: dict[BoundaryKey, Operation] = field(default_factory=dict)
    host_slot: dict[BoundaryKey, Buffer] = field(default_factory=dict)
    emptied_by: dict[Buffer, Operation] = field(default_factory=dict)
    free_slots: dict[int, list[Buffer]] = field(default_factory=lambda: defaultdict(list))

    def holds(self, key: BoundaryKey | None) -> bool:
        """Whether the key's unit is on this rank."""
        return key in self.tasks.forward_at


class Lowering:
    """Builds one plan; see :meth:`run`."""

    def __init__(
        self, workload: Workload, policy: Policy, tasks: list[RankTasks], offloads: list[Offloads], fixed: bool
    ) -> None:
        self._model = Model(workload)
        self._checkpoint = policy.checkpoint
        self._fixed = fixed
        self._operations: list[Operation] = []
        self._buffers: list[Buffer] = []
        self._ranks = [Rank(number, *both) for number, both in enumerate(zip(tasks, offloads, strict=True))]
        self._place_loads()
        # What one rank sends another, in the order in which it is read there; sent messages are taken out.
        self._lines: dict[tuple[int, int], list[Message]] = defaultdict(list)
        self._place_receives(policy.receive_ahead)
        self._workspaces = Workspaces(workload, self._model, self._ranks, policy.checkpoint)

    def _place_loads(self) -> None:
        """Put boundaries into the slots of their ACQUIREs, the one needed soonest first."""
        for rank in self._ranks:
            for key in sorted(rank.offloads.acquire_slot, key=rank.tasks.backward_at.__getitem__):
                rank.loads[rank.offloads.acquire_slot[key]].append(key)

    def _place_receives(self, ahead: int) -> None:
        """Find all messages, and put each into the slot of its ACQUIRE, so many tasks before the one that reads it."""
        for rank in self._ranks:
            for at, (key, backward) in enumerate(zip(rank.tasks.key, rank.tasks.backward, strict=True)):
                source = self._model.above(key) if backward else self._model.below(key)
                if source is None or rank.holds(source):
                    continue
                sender = next(other for other in self._ranks if other.holds(source))
                nbytes = self._model.shape(source).gradient_bytes if backward else self._model.shape(key).boundary_bytes
                message = Message(backward, source, key, nbytes, sender.number, rank.number, at)
                sender.writes[source, backward] = rank.reads[at] = message
                rank.receives[max(at - ahead, 0)].append(message)
                self._lines[sender.number, rank.number].append(message)

    def run(self) -> PlanBuilder:
        """Walk all ranks' tasks, taking turns; raise InputError where all wait for each other."""
        while any(rank.next < len(rank.tasks) for rank in self._ranks):
            if not [rank for rank in self._ranks if self._turn(rank)]:
                stuck = next(rank for rank in self._ranks if rank.next < len(rank.tasks))
                raise InputError(f"deadlock: rank {stuck.number} waits for what {stuck.tasks.key[stuck.next]} reads")
        for rank in self._ranks:
            self._slot(rank)
            self._list(Operation(rank.number, Kind.OPTIMIZER_STEP))
        return self._numbered()

    def _turn(self, rank: Rank) -> bool:
        """List the slot before the rank's next task, and the task, as far as that can be; whether anything was."""
        if rank.next == len(rank.tasks):
            return False
        listed = False
        if not rank.slot_is_listed:
            listed = rank.slot_is_listed = self._slot(rank)
        if rank.slot_is_listed and self._ready(rank):
            self._task(rank)
            rank.next += 1
            rank.slot_is_listed = False
            listed = True
        return listed

    def _list(self, operation: Operation) -> Operation:
        self._operations.append(operation)
        return operation

    def _device(self, rank: Rank, nbytes: int, role: Role, key: BoundaryKey) -> Buffer:
        self._buffers.append(Buffer(rank.number, Space.DEVICE, nbytes, role, key))
        return self._buffers[-1]

    # What stands between two tasks.

    def _slot(self, rank: Rank) -> bool:
        """List what stands before the rank's next task; False where a RELEASE has its place and no SEND yet."""
        slot = rank.next
        if self._fixed and any(release.after is None for release in rank.releases[slot]):
            return False
        for release in rank.releases.pop(slot, ()):
            if release.after is None:
                rank.releases[slot + 1].append(release)
            else:
                frees = [release.buffer]
                self._list(Operation(rank.number, Kind.RELEASE, release.key, [release.after], frees=frees))
        for key in rank.loads[slot]:
            self._load(rank, key)
        for message in rank.receives[slot]:
            self._expect(rank, message)
        return True

    def _load(self, rank: Rank, key: BoundaryKey) -> None:
        """ACQUIRE and PREFETCH of an offloaded boundary, into a buffer of its own."""
        nbytes, slot = self._model.shape(key).boundary_bytes, rank.host_slot[key]
        buffer = rank.boundary[key] = self._device(rank, nbytes, Role.BOUNDARY, key)
        acquire = self._list(Operation(rank.number, Kind.ACQUIRE, key, allocs=[buffer]))
        after = [acquire, rank.offload[key]]
        load = Operation(rank.number, Kind.PREFETCH, key, after, reads=[slot], writes=[buffer], nbytes=nbytes)
        rank.prefetch[key] = rank.emptied_by[slot] = self._list(load)

    def _expect(self, rank: Rank, message: Message) -> None:
        """ACQUIRE of what is to be received, and the SENDs that waited for it."""
        role = Role.GRADIENT if message.gradient else Role.BOUNDARY
        message.landed = self._device(rank, message.nbytes, role, message.read)
        message.acquire = self._list(Operation(rank.number, Kind.ACQUIRE, message.read, allocs=[message.landed]))
        self._send(message)

    def _send(self, of_line: Message) -> None:
        """List the SENDs that can be on the line of a message: each after its task, its ACQUIRE and those before."""
        line = self._lines[of_line.sender, of_line.receiver]
        while line and line[0].task is not None and line[0].acquire is not None:
            message = line.pop(0)
            assert message.task is not None and message.acquire is not None and message.sent is not None
            kind = Kind.SEND_GRADIENT if message.gradient else Kind.SEND_ACTIVATION
            after, reads = [message.task, message.acquire], [message.sent]
            send = Operation(message.sender, kind, message.written, after, reads=reads, nbytes=message.nbytes)
            message.send = self._list(send)

    # A task.

    def _ready(self, rank: Rank) -> bool:
        key, backward = rank.tasks.key[rank.next], rank.tasks.backward[rank.next]
        if rank.next in rank.reads:
            return rank.reads[rank.next].send is not None
        if backward:
            return self._model.above(key) is None or key in rank.gradient
        return self._model.below(key) is None or key in rank.boundary

    def _task(self, rank: Rank) -> None:
        key, backward = rank.tasks.key[rank.next], rank.tasks.backward[rank.next]
        received = self._receive(rank, rank.reads[rank.next]) if rank.next in rank.reads else []
        if backward:
            task, written = self._backward(rank, key, received)
        else:
            task, written = self._forward(rank, key, received)
            if key in rank.offloads.release_slot:
                self._offload(rank, key, task)
        if (key, backward) in rank.writes:
            message = rank.writes[key, backward]
            message.task, message.sent = task, written
            assert written is not None
            second = min(rank.next + 2, len(rank.tasks))
            rank.releases[second].append(Release(key, written, message))
            self._send(message)

    def _receive(self, rank: Rank, message: Message) -> list[Operation]:
        """RECV directly before the task that reads."""
        assert message.send is not None and message.landed is not None
        (rank.gradient if message.gradient else rank.boundary)[message.read] = message.landed
        kind = Kind.RECV_GRADIENT if message.gradient else Kind.RECV_ACTIVATION
        writes, nbytes = [message.landed], message.nbytes
        return [self._list(Operation(rank.number, kind, message.read, [message.send], writes=writes, nbytes=nbytes))]

    def _forward(self, rank: Rank, key: BoundaryKey, received: list[Operation]) -> tuple[Operation, Buffer | None]:
        """The FORWARD, and the output that it writes for another rank."""
        shape, below, above = self._model.shape(key), self._model.below(key), self._model.above(key)
        made, output = [], None
        if below is None:
            rank.boundary[key] = self._device(rank, shape.boundary_bytes, Role.BOUNDARY, key)
            made.append(rank.boundary[key])
        if above is not None:
            nbytes = self._model.shape(above).boundary_bytes
            if rank.holds(above):
                rank.boundary[above] = self._device(rank, nbytes, Role.BOUNDARY, above)
                made.append(rank.boundary[above])
            else:
                output = self._device(rank, nbytes, Role.OUTPUT, key)
                made.append(output)
        reads, frees = [rank.boundary[key]], []
        if self._model.frozen(key[:2]):
            frees.append(rank.boundary.pop(key))
        task = Operation(rank.number, Kind.FORWARD, key, received, reads, writes=[*made], allocs=[*made], frees=frees)
        self._workspaces.add_to_forward(task)
        return self._list(task), output

    def _offload(self, rank: Rank, key: BoundaryKey, forward: Operation) -> None:
        """OFFLOAD into a host slot, and the RELEASE to come.

        A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
        PREFETCH has ended and the reuse never makes a copy wait.
        """
        nbytes, buffer = self._model.shape(key).boundary_bytes, rank.boundary[key]
        copy = Operation(rank.number, Kind.OFFLOAD, key, [forward], reads=[buffer], nbytes=nbytes)
        if rank.free_slots[nbytes]:
            slot = rank.free_slots[nbytes].pop()
            copy.after.append(rank.emptied_by[slot])
        else:
            slot = Buffer(rank.number, Space.HOST, nbytes, Role.BOUNDARY, key)
            self._buffers.append(slot)
            copy.allocs.append(slot)
        copy.writes.append(slot)
        rank.host_slot[key] = slot
        rank.offload[key] = self._list(copy)
        rank.releases[rank.offloads.release_slot[key]].append(Release(key, buffer, copy))

    def _backward(self, rank: Rank, key: BoundaryKey, received: list[Operation]) -> tuple[Operation, Buffer | None]:
        """RECOMPUTE and BACKWARD, and the gradient that the latter writes."""
        boundary = rank.boundary.pop(key)
        loaded = [rank.prefetch[key]] if key in rank.prefetch else []
        task = Operation(rank.number, Kind.BACKWARD, key, reads=[boundary], frees=[boundary])
        if self._checkpoint:
            recompute = Operation(rank.number, Kind.RECOMPUTE, key, loaded, reads=[boundary])
            self._workspaces.add_to_recompute(recompute)
            self._list(recompute)
            task.after = received
        else:
            task.after = received + loaded
        if self._model.above(key) is not None:
            incoming = rank.gradient.pop(key)
            task.reads.append(incoming)
            task.frees.append(incoming)
        below, outgoing = self._model.trained_below(key), None
        if below is not None:
            outgoing = self._device(rank, self._model.shape(key).gradient_bytes, Role.GRADIENT, key)
            task.writes.append(outgoing)
            task.allocs.append(outgoing)
            if rank.holds(below):
                rank.gradient[below] = outgoing
        self._workspaces.add_to_backward(task)
        self._list(task)
        if key in rank.host_slot:
            slot = rank.host_slot.pop(key)
            rank.free_slots[slot.nbytes].append(slot)
        return task, outgoing

    # The end.

    def _numbered(self) -> PlanBuilder:
        """The plan's rows: buffers as they were made and then workspaces, operations as they were listed."""
        for rank in self._ranks:
            for slot, load in rank.emptied_by.items():  # the last PREFETCH out of a slot gives it back
                load.frees.append(slot)
        out = PlanBuilder()
        number: dict[Buffer | Operation, int] = {}
        for buffer in [*self._buffers, *self._workspaces.in_order()]:
            number[buffer] = out.buffer(buffer.rank, buffer.space, buffer.nbytes, buffer.role, buffer.key)
        for one in self._operations:
            number[one] = out.op(
                one.rank,
                one.kind,
                one.key,
                after=[number[other] for other in one.after],
                reads=[number[buffer] for buffer in one.reads],
                writes=[number[buffer] for buffer in one.writes],
                allocs=[number[buffer] for buffer in one.allocs],
                frees=[number[buffer] for buffer in one.frees],
                nbytes=one.nbytes,
            )
        return out


@dataclass(slots=True, eq=False)
class Passed:
    """A tensor that units hand on unchanged, as one rank has it for one microbatch."""

    buffer: Buffer
    readers: list[BoundaryKey]  # on this rank, the lowest first
    first: BoundaryKey  # its FORWARD takes the tensor
    last: BoundaryKey
    last_kind: Kind  # which of that unit's tasks gives it back


class Workspaces:
    """What a unit keeps beside its boundary from one of its tasks to a later one, and tensors that are handed on."""

    def __init__(self, workload: Workload, model: Model, ranks: list[Rank], checkpoint: bool) -> None:
        self._checkpoint = checkpoint
        # What a unit's graph saves, or the values of its module's buffers, by its number in the model and microbatch.
        self._own: dict[BoundaryKey, Buffer] = {}
        self._number = model.number
        for rank in ranks:
            for key in rank.tasks.backward_at:
                shape = model.shape(key)
                nbytes = shape.state_bytes if checkpoint else shape.saved_bytes
                if nbytes or not checkpoint:
                    self._own[key] = Buffer(rank.number, Space.DEVICE, nbytes, Role.WORKSPACE, key)
        microbatches = 1 + max(key[2] for rank in ranks for key in rank.tasks.key)
        self._passed = [
            passed
            for tensor in workload.passed
            for rank in ranks
            for microbatch in range(microbatches)
            for passed in _passed(tensor, model, rank, microbatch)
        ]

    def in_order(self) -> Iterator[Buffer]:
        """The buffers as plans number them."""
        for key in sorted(self._own, key=lambda key: (self._number(key[:2]), key[2])):
            yield self._own[key]
        for passed in self._passed:
            yield passed.buffer

    def add_to_forward(self, task: Operation) -> None:
        """What a FORWARD takes, writes and reads of them."""
        if task.key in self._own:
            task.allocs.append(self._own[task.key])
            task.writes.append(self._own[task.key])
        for passed in self._read_by(task.key):
            if passed.first == task.key:
                task.allocs.append(passed.buffer)
                task.writes.append(passed.buffer)
        self._add_passed(task)

    def add_to_recompute(self, task: Operation) -> None:
        """What a RECOMPUTE reads of them: its module's buffers are set to the values from before the FORWARD."""
        if task.key in self._own:
            task.reads.append(self._own[task.key])
        self._add_passed(task)

    def add_to_backward(self, task: Operation) -> None:
        """What a BACKWARD reads and frees of them."""
        if task.key in self._own:
            if not self._checkpoint:
                task.reads.append(self._own[task.key])
            task.frees.append(self._own[task.key])
        self._add_passed(task)

    def _add_passed(self, task: Operation) -> None:
        for passed in self._read_by(task.key):
            task.reads.append(passed.buffer)
            if (passed.last, passed.last_kind) == (task.key, task.kind):
                task.frees.append(passed.buffer)

    def _read_by(self, key: BoundaryKey) -> list[Passed]:
        """The tensors that a unit reads, in the workload's order."""
        return [passed for passed in self._passed if key in passed.readers]


def _passed(tensor: PassThrough, model: Model, rank: Rank, microbatch: int) -> list[Passed]:
    """The tensor on a rank; nothing where none of the rank's units reads it."""
    units = [model.units[number] for number in tensor.readers]
    readers = [(*unit, microbatch) for unit in units if rank.holds((*unit, microbatch))]
    if not readers:
        return []
    trained = [key for key in readers if key in rank.tasks.backward_at]
    buffer = Buffer(rank.number, Space.DEVICE, tensor.nbytes, Role.WORKSPACE, readers[0])
    last, kind = (trained[0], Kind.BACKWARD) if trained else (readers[-1], Kind.FORWARD)
    return [Passed(buffer, readers, readers[0], last, kind)]
