"""A plan as plain rows that can be changed one by one; nothing of ``loadahead.sim.verify`` is used here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import QUEUE_OF, RECV_KINDS, UNIT_KINDS, Kind, Queue, Role, Space
from loadahead.sim.ir.plan import Plan

Key = tuple[int, int, int]
LISTS = ("reads", "writes", "allocs", "frees")
BACKWARDS = (Kind.BACKWARD, Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)


@dataclass(slots=True, eq=False)
class Row:
    """An operation; what it waits for are rows themselves, so that any order of the list is one of the same plan."""

    rank: int
    kind: Kind
    key: Key
    nbytes: int
    after: list[Row] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    allocs: list[int] = field(default_factory=list)
    frees: list[int] = field(default_factory=list)

    def copy(self) -> Row:
        """The same with lists of its own."""
        own = replace(self, after=list(self.after))
        for name in LISTS:
            setattr(own, name, list(getattr(self, name)))
        return own

    @property
    def queue(self) -> tuple[int, Queue]:
        return self.rank, QUEUE_OF[self.kind]


@dataclass(slots=True)
class Buffer:
    rank: int
    space: Space
    nbytes: int
    role: Role
    key: Key


@dataclass(slots=True)
class Rows:
    """A plan's rows; ``units`` has the stage and the unit of each of the model's units, in order, before any damage."""

    ranks: int
    microbatches: int
    frozen_units: int
    ops: list[Row]
    buffers: list[Buffer]
    units: list[tuple[int, int]]

    def plan(self) -> Plan:
        """The plan of these rows; an edge that points forward stays one."""
        builder = PlanBuilder()
        for buffer in self.buffers:
            builder.buffer(buffer.rank, buffer.space, buffer.nbytes, buffer.role, buffer.key)
        place = {id(op): index for index, op in enumerate(self.ops)}
        for op in self.ops:
            builder.op(
                op.rank,
                op.kind,
                op.key,
                after=[place[id(edge)] for edge in op.after if id(edge) in place],
                reads=op.reads,
                writes=op.writes,
                allocs=op.allocs,
                frees=op.frees,
                nbytes=op.nbytes,
            )
        return builder.freeze("changed", self.ranks, self.microbatches, {}, frozen_units=self.frozen_units)

    def remove(self, op: Row) -> None:
        """Leave an operation out, and every edge to it."""
        self.ops = [other for other in self.ops if other is not op]
        for other in self.ops:
            other.after = [edge for edge in other.after if edge is not op]

    def move(self, op: Row, place: int) -> None:
        """Put an operation before the one that stands at this place."""
        others = [other for other in self.ops if other is not op]
        place -= self.ops.index(op) < place
        self.ops = [*others[:place], op, *others[place:]]

    def drop_forward_edges(self) -> None:
        """Leave out the edges to what is listed later."""
        place = {id(op): index for index, op in enumerate(self.ops)}
        for op in self.ops:
            op.after = [edge for edge in op.after if place[id(edge)] < place[id(op)]]

    def before(self) -> dict[int, int]:
        """For each operation (by ``id``) the places of those that happen before it, as a bit mask."""
        masks: dict[int, int] = {}
        place = {id(op): index for index, op in enumerate(self.ops)}
        last: dict[tuple[int, Queue], Row] = {}
        for op in self.ops:
            mask = 0
            for source in [*op.after, *([last[op.queue]] if op.queue in last else [])]:
                mask |= masks[id(source)] | 1 << place[id(source)]
            masks[id(op)] = mask
            last[op.queue] = op
        return masks

    def ordered(self, first: Row, then: Row) -> bool:
        """Whether the first happens before the second."""
        return bool(self.before()[id(then)] >> self.ops.index(first) & 1)

    def queues(self) -> dict[tuple[int, Queue], list[Row]]:
        """Each queue's operations in order."""
        out: dict[tuple[int, Queue], list[Row]] = {}
        for op in self.ops:
            out.setdefault(op.queue, []).append(op)
        return out

    def may_be_named(self, op: Row, key: Key) -> bool:
        """Whether it is all the same: an ACQUIRE or RELEASE of several buffers has the name of any, or none."""
        named = {self.buffers[buffer].key for buffer in (*op.allocs, *op.frees)}
        for buffer in (self.buffers[number] for number in (*op.allocs, *op.frees)):
            if buffer.key == (-1, -1, -1):
                return op.kind in (Kind.RELEASE, Kind.ACQUIRE)
            if buffer.role in (Role.OUTPUT, Role.GRADIENT) and buffer.key[:2] in self.units:
                at = self.units.index(buffer.key[:2])
                named |= {(*unit, buffer.key[2]) for unit in self.units[max(at - 1, 0) : at + 2]}
        return op.kind in (Kind.RELEASE, Kind.ACQUIRE) and key in named | {(-1, -1, -1)}

    def sender(self, op: Row) -> Row:
        """The SEND of what a RECV receives; there may be edges from others."""
        kind, step = (Kind.SEND_ACTIVATION, -1) if op.kind == Kind.RECV_ACTIVATION else (Kind.SEND_GRADIENT, 1)
        key = (*self.units[self.units.index(op.key[:2]) + step], op.key[2])
        return next(edge for edge in op.after if edge.kind == kind and edge.key == key)

    def receives(self) -> list[tuple[Row, Row]]:
        """Each SEND with its RECV."""
        return [(self.sender(op), op) for op in self.ops if op.kind in RECV_KINDS]

    def writer(self, buffer: int) -> Row | None:
        return next((op for op in self.ops if buffer in op.writes), None)

    def users(self, buffer: int) -> list[Row]:
        """Who takes, reads or writes a buffer."""
        return [op for op in self.ops if buffer in (*op.allocs, *op.reads, *op.writes)]


def rows_of(plan: Plan) -> Rows:
    """The plan's rows."""
    ops: list[Row] = []
    for op in plan:
        lists = (list(op.reads), list(op.writes), list(op.allocs), list(op.frees))
        key = (op.stage, op.unit, op.microbatch)
        ops.append(Row(op.rank, op.kind, key, op.nbytes, [ops[edge] for edge in op.after], *lists))
    views = [plan.buffer(index) for index in range(len(plan.buffers))]
    buffers = [Buffer(b.rank, b.space, b.nbytes, b.role, (b.stage, b.unit, b.microbatch)) for b in views]
    units = sorted({op.key[:2] for op in ops if op.kind in UNIT_KINDS})
    return Rows(plan.ranks, plan.microbatches, plan.frozen_units, ops, buffers, units)


def between(rows: Rows, number: int) -> set[Key]:
    """The names that a buffer may have which lies between two units: an output, or a gradient."""
    buffer, writer = rows.buffers[number], rows.writer(number)
    if writer is None or buffer.role not in (Role.OUTPUT, Role.GRADIENT):
        return set()
    step = 1 if buffer.role == Role.OUTPUT or writer.kind == Kind.RECV_GRADIENT else -1
    unit = rows.units.index(writer.key[:2]) + step
    other = {(*rows.units[unit], writer.key[2])} if 0 <= unit < len(rows.units) else set()
    return {writer.key, (-1, -1, -1)} | other


def unseen(rows: Rows, op: Row, buffer: int) -> bool:
    """Whether a plan does not show that this read is left out, or that there is one too many.

    A frozen unit reads what is passed on in its FORWARD alone: no other pass says the same.
    """
    return (
        rows.buffers[buffer].role == Role.WORKSPACE
        and op.kind == Kind.FORWARD
        and op.key[:2] in rows.units[: rows.frozen_units]
    )


def copied(rows: Rows) -> Rows:
    """Rows of their own, to be changed."""
    copies = {id(op): op.copy() for op in rows.ops}
    for op in copies.values():
        op.after = [copies[id(edge)] for edge in op.after]
    return replace(rows, ops=list(copies.values()), buffers=[replace(buffer) for buffer in rows.buffers])


def any_list_of(queues: dict[tuple[int, Queue], list[Row]], random: Random) -> list[Row] | None:
    """A list of queues' operations in which edges point backwards; None where they wait in a circle."""
    left = {queue: list(ops) for queue, ops in queues.items()}
    listed: list[Row] = []
    done: set[int] = set()
    while left:
        ready = [queue for queue, ops in left.items() if all(id(edge) in done for edge in ops[0].after)]
        if not ready:
            return None
        queue = random.choice(ready)
        listed.append(left[queue].pop(0))
        done.add(id(listed[-1]))
        if not left[queue]:
            del left[queue]
    return listed
