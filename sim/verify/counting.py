"""Counting rules (DESIGN, section 2) look at a plan's rows alone. Each takes a plan and yields its violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, UNIT_KINDS, Kind, Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.ir.wellformed import require_well_formed
from loadahead.sim.verify.happens_before import Flags
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.violation import Violation, title


def well_formed(plan: Plan) -> Iterator[Violation]:
    """Require well-formed ranks, queues and lists, and edges that point backwards."""
    try:
        require_well_formed(plan, "plan")
    except InputError as error:
        yield Violation("well-formed", str(error), ())


def taken_and_freed_once(plan: Plan) -> Iterator[Violation]:
    """Require that exactly one operation takes each buffer and exactly one frees it."""
    for column, verb in ((plan.ops.allocs, "taken"), (plan.ops.frees, "freed")):
        count = np.bincount(column.values, minlength=len(plan.buffers))
        for buffer in np.flatnonzero(count != 1).tolist():
            users = _users(plan, buffer) if count[buffer] == 0 else column.rows()[column.values == buffer].tolist()
            times = "never" if count[buffer] == 0 else f"{count[buffer]} times"
            yield Violation(
                f"{verb}-once", f"{buffer_name(plan, buffer)} is {verb} {times}; it must be once", tuple(users[:2])
            )


def _users(plan: Plan, buffer: int) -> list[int]:
    columns = (plan.ops.allocs, plan.ops.writes, plan.ops.reads, plan.ops.frees)
    return sorted({int(row) for column in columns for row in column.rows()[column.values == buffer]})


def own_rank(plan: Plan) -> Iterator[Violation]:
    """Require that an operation uses only its own rank's buffers."""
    for name in ("reads", "writes", "allocs", "frees"):
        column: Ragged = getattr(plan.ops, name)
        rows = column.rows()
        for entry in np.flatnonzero(plan.ops.rank[rows] != plan.buffers.rank[column.values]).tolist():
            op, buffer = int(rows[entry]), int(column.values[entry])
            yield Violation(
                "own-rank",
                f"{title(plan, op)} {name} {buffer_name(plan, buffer)} of rank {int(plan.buffers.rank[buffer])}",
                (op,),
            )


def memory_on_compute(plan: Plan) -> Iterator[Violation]:
    """Require that the compute queue takes and frees GPU memory, an OFFLOAD takes host slots, a PREFETCH frees them."""
    for name, host_kind in (("allocs", Kind.OFFLOAD), ("frees", Kind.PREFETCH)):
        column: Ragged = getattr(plan.ops, name)
        rows = column.rows()
        device = plan.buffers.space[column.values] == Space.DEVICE
        wrong = np.where(device, plan.ops.queue[rows] != Queue.COMPUTE, plan.ops.kind[rows] != host_kind)
        for entry in np.flatnonzero(wrong).tolist():
            op, buffer = int(rows[entry]), int(column.values[entry])
            allowed = "only the compute queue may" if device[entry] else f"only {host_kind.name} may"
            yield Violation(
                "memory-on-compute", f"{title(plan, op)} {name} {buffer_name(plan, buffer)}; {allowed}", (op,)
            )


@dataclass(frozen=True, slots=True)
class _Shape:
    """Says how many buffers of which space a kind reads, writes, takes and frees; None means any number."""

    reads: int | None = 0
    writes: int | None = 0
    allocs: int | None = 0
    frees: int | None = 0
    read_space: Space = Space.DEVICE
    write_space: Space = Space.DEVICE


_UNIT_SHAPE = _Shape(None, None, None, None)
_SHAPES: dict[Kind, _Shape] = {
    **dict.fromkeys(UNIT_KINDS, _UNIT_SHAPE),
    Kind.OFFLOAD: _Shape(1, 1, allocs=None, write_space=Space.HOST),
    Kind.PREFETCH: _Shape(1, 1, frees=None, read_space=Space.HOST),
    Kind.RELEASE: _Shape(frees=None),
    Kind.ACQUIRE: _Shape(allocs=None),
    **dict.fromkeys(SEND_KINDS, _Shape(reads=1)),
    **dict.fromkeys(RECV_KINDS, _Shape(writes=1)),
    Kind.OPTIMIZER_STEP: _Shape(None, None, None, None),
}


def operation_shapes(plan: Plan) -> Iterator[Violation]:
    """Require that each kind reads, writes, takes and frees as many buffers as its name says, in the right space."""
    # What is wrong is found in few passes over all kinds; it is told kind by kind.
    wrong_number = {name: _wrong_number(plan, name) for name in ("reads", "writes", "allocs", "frees")}
    wrong_space = {name: _wrong_space(plan, name) for name in ("reads", "writes")}
    for kind, shape in _SHAPES.items():
        for name, (ops, counts) in wrong_number.items():
            of_kind = plan.ops.kind[ops] == kind
            for op, count in zip(ops[of_kind].tolist(), counts[of_kind].tolist(), strict=True):
                wanted = getattr(shape, name)
                yield Violation(
                    "operation-shape",
                    f"{title(plan, op)} has {count} buffers under {name}; {kind.name} has {wanted}",
                    (op,),
                )
        for name, (ops, buffers) in wrong_space.items():
            of_kind = plan.ops.kind[ops] == kind
            for op, buffer in zip(ops[of_kind].tolist(), buffers[of_kind].tolist(), strict=True):
                space = shape.read_space if name == "reads" else shape.write_space
                text = f"{title(plan, op)} {name} {buffer_name(plan, buffer)}; it must be in {space.label} memory"
                yield Violation("operation-shape", text, (op,))


def _wrong_number(plan: Plan, name: str) -> tuple[Ints, Ints]:
    """Return the operations whose kind has another number of buffers under ``name``, and the number they have."""
    any_number = -1
    wanted = np.full(len(Kind), any_number, dtype=np.int64)
    for kind, shape in _SHAPES.items():
        number: int | None = getattr(shape, name)
        wanted[kind] = any_number if number is None else number
    counts, needed = np.diff(getattr(plan.ops, name).starts), wanted[plan.ops.kind]
    ops = np.flatnonzero((needed != any_number) & (counts != needed))
    return ops, counts[ops]


def _wrong_space(plan: Plan, name: str) -> tuple[Ints, Ints]:
    """Return the operations that have a buffer under ``name`` outside their kind's space, and that buffer."""
    wanted = np.zeros(len(Kind), dtype=np.int8)
    for kind, shape in _SHAPES.items():
        wanted[kind] = shape.read_space if name == "reads" else shape.write_space
    column: Ragged = getattr(plan.ops, name)
    rows = column.rows()
    wrong = np.flatnonzero(plan.buffers.space[column.values] != wanted[plan.ops.kind[rows]])
    return rows[wrong], column.values[wrong].astype(np.int64)


def waits_only(plan: Plan) -> Iterator[Violation]:
    """Require that a RELEASE frees something and an ACQUIRE takes something."""
    for kind, name in ((Kind.RELEASE, "frees"), (Kind.ACQUIRE, "allocs")):
        counts = np.diff(getattr(plan.ops, name).starts)
        for op in np.flatnonzero((plan.ops.kind == kind) & (counts == 0)).tolist():
            yield Violation("operation-shape", f"{title(plan, op)} {name} nothing; remove it", (op,))


def bytes_match(plan: Plan) -> Iterator[Violation]:
    """Require that a copy or a send moves exactly its buffers' bytes, and that any other operation moves 0."""
    moving = is_kind(plan, Kind.OFFLOAD, Kind.PREFETCH, *SEND_KINDS, *RECV_KINDS)
    for op in np.flatnonzero(~moving & (plan.ops.nbytes != 0)).tolist():
        yield Violation("bytes", f"{title(plan, op)} says it moves {int(plan.ops.nbytes[op])} bytes; it is 0", (op,))
    for name in ("reads", "writes"):
        column: Ragged = getattr(plan.ops, name)
        rows = column.rows()
        differ = moving[rows] & (plan.ops.nbytes[rows] != plan.buffers.nbytes[column.values])
        for entry in np.flatnonzero(differ).tolist():
            op, buffer = int(rows[entry]), int(column.values[entry])
            yield Violation(
                "bytes",
                f"{title(plan, op)} moves {int(plan.ops.nbytes[op])} bytes; "
                f"{buffer_name(plan, buffer)} has {int(plan.buffers.nbytes[buffer])}",
                (op,),
            )


def tasks_once(plan: Plan) -> Iterator[Violation]:
    """Require that no task runs twice."""
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    ops = plan.ops
    names = np.stack([ops.kind[tasks], ops.stage[tasks], ops.unit[tasks], ops.microbatch[tasks]], axis=1)
    order = np.lexsort(names.T)
    same = (names[order][1:] == names[order][:-1]).all(axis=1)
    for index in np.flatnonzero(same).tolist():
        first, second = int(tasks[order[index]]), int(tasks[order[index + 1]])
        yield Violation(
            "task-once", f"{title(plan, second)} runs the task of {title(plan, first)} again", (first, second)
        )


_SENT_AS = {Kind.RECV_ACTIVATION: Kind.SEND_ACTIVATION, Kind.RECV_GRADIENT: Kind.SEND_GRADIENT}


def sends_and_receives_pair(plan: Plan) -> Iterator[Violation]:
    """Require that each RECV follows exactly one SEND of its kind on another rank, and each SEND precedes one RECV."""
    after = plan.ops.after
    receives, sends = is_kind(plan, *RECV_KINDS), is_kind(plan, *SEND_KINDS)
    rows, sources = after.rows(), after.values
    joins = receives[rows] & sends[sources]
    rows, sources = rows[joins], sources[joins]
    partners = np.bincount(rows, minlength=len(plan))
    alone = partners[rows] == 1
    bad = np.zeros(len(plan), dtype=bool)
    bad[rows[alone]] = ~_sends_match(plan, sources[alone], rows[alone])
    for op in np.flatnonzero(receives & (bad | (partners != 1))).tolist():
        yield from _pair_violations(plan, op, sources[rows == op].tolist())
    received = np.bincount(sources, minlength=len(plan))
    for op in np.flatnonzero(sends & (received != 1)).tolist():
        yield Violation(
            "send-recv-pair", f"{title(plan, op)} is received {int(received[op])} times; once is needed", (op,)
        )


def _sends_match(plan: Plan, sends: Ints, receives: Ints) -> Flags:
    """Return whether each pair has one kind, one microbatch and one size, on two ranks."""
    ops = plan.ops
    wanted = np.zeros(len(Kind), dtype=np.int8)
    for kind, sent in _SENT_AS.items():
        wanted[kind] = sent
    out: Flags = (ops.kind[sends] == wanted[ops.kind[receives]]) & (ops.rank[sends] != ops.rank[receives])
    out &= (ops.nbytes[sends] == ops.nbytes[receives]) & (ops.microbatch[sends] == ops.microbatch[receives])
    return out


def _pair_violations(plan: Plan, recv: int, sends: list[int]) -> Iterator[Violation]:
    if len(sends) != 1:
        yield Violation(
            "send-recv-pair",
            f"{title(plan, recv)} comes directly after {len(sends)} sends; one is needed",
            (recv, *sends),
        )
        return
    a, b = plan.op(sends[0]), plan.op(recv)
    yield Violation(
        "send-recv-pair",
        f"{title(plan, recv)} of {b.nbytes} bytes comes after {title(plan, sends[0])} of {a.nbytes} bytes; it "
        f"needs a {_SENT_AS[b.kind].name} of the same microbatch and size from another rank",
        (sends[0], recv),
    )


def copies_carry_their_boundary(plan: Plan) -> Iterator[Violation]:
    """Require that the device side of an OFFLOAD or PREFETCH is the boundary that the operation names."""
    for kind, column in ((Kind.OFFLOAD, plan.ops.reads), (Kind.PREFETCH, plan.ops.writes)):
        rows, buffers = column.rows(), column.values
        of_kind = plan.ops.kind[rows] == kind
        rows, buffers = rows[of_kind], buffers[of_kind]
        wrong = plan.buffers.role[buffers] != Role.BOUNDARY
        for name in ("stage", "unit", "microbatch"):
            wrong |= getattr(plan.ops, name)[rows] != getattr(plan.buffers, name)[buffers]
        for entry in np.flatnonzero(wrong).tolist():
            op = int(rows[entry])
            yield Violation("slot-content", f"{title(plan, op)} copies {buffer_name(plan, int(buffers[entry]))}", (op,))


def optimizer_last(plan: Plan) -> Iterator[Violation]:
    """Require at most one OPTIMIZER_STEP on a rank, after the rank's last task."""
    stepping = np.unique(plan.ops.rank[plan.ops.kind == Kind.OPTIMIZER_STEP])
    is_task = is_kind(plan, *UNIT_KINDS)
    for rank in stepping.tolist():
        order = plan.queue_ops(rank, Queue.COMPUTE)
        steps = np.flatnonzero(plan.ops.kind[order] == Kind.OPTIMIZER_STEP)
        tasks = np.flatnonzero(is_task[order])
        if len(steps) > 1:
            twice = (int(order[steps[0]]), int(order[steps[1]]))
            yield Violation("optimizer-last", f"{title(plan, twice[1])} is the rank's second", twice)
        if len(tasks) and steps[0] < tasks[-1]:
            early = (int(order[steps[0]]), int(order[tasks[-1]]))
            yield Violation("optimizer-last", f"{title(plan, early[1])} runs after {title(plan, early[0])}", early)


COUNTING: tuple[Callable[[Plan], Iterator[Violation]], ...] = (
    taken_and_freed_once,
    own_rank,
    memory_on_compute,
    operation_shapes,
    waits_only,
    bytes_match,
    tasks_once,
    sends_and_receives_pair,
    copies_carry_their_boundary,
    optimizer_last,
)
