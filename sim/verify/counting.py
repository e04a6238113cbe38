"""Counting rules (DESIGN, section 2) look at a plan's rows alone. Each takes a plan and yields its violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, UNIT_KINDS, Kind, Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.ir.wellformed import require_well_formed
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.pairs import rows_by_buffer
from loadahead.sim.verify.violation import Violation, title


def well_formed(plan: Plan) -> Iterator[Violation]:
    """Require well-formed ranks, queues and lists, and edges that point backwards."""
    try:
        require_well_formed(plan, "plan")
    except InputError as error:
        yield Violation("well-formed", str(error), ())


def taken_and_freed_once(plan: Plan) -> Iterator[Violation]:
    """Require that exactly one operation takes each buffer and exactly one frees it."""
    ops = plan.ops
    for column, verb in ((ops.allocs, "taken"), (ops.frees, "freed")):
        count = np.bincount(column.values, minlength=len(plan.buffers))
        # Of a buffer that nobody takes or frees, those that use it are shown.
        users = rows_by_buffer((ops.allocs, ops.writes, ops.reads, ops.frees), count == 0)
        owners = rows_by_buffer((column,), count > 1)
        for buffer in np.flatnonzero(count != 1).tolist():
            shown = users.get(buffer, []) if count[buffer] == 0 else owners[buffer]
            how = f"never {verb}" if count[buffer] == 0 else f"{verb} {count[buffer]} times"
            text = f"{buffer_name(plan, buffer)} is {how}; it must be once"
            yield Violation(f"{verb}-once", text, tuple(shown[:2]))


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
    Kind.OPTIMIZER_STEP: _Shape(allocs=None, frees=None),
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
    """Require that a copy or a send moves exactly its buffers' bytes, a RECV these or 0, and any other operation 0."""
    moving = is_kind(plan, Kind.OFFLOAD, Kind.PREFETCH, *SEND_KINDS, *RECV_KINDS)
    for op in np.flatnonzero(~moving & (plan.ops.nbytes != 0)).tolist():
        yield Violation("bytes", f"{title(plan, op)} says it moves {int(plan.ops.nbytes[op])} bytes; it is 0", (op,))
    for name in ("reads", "writes"):
        column: Ragged = getattr(plan.ops, name)
        rows = column.rows()
        differ = moving[rows] & (plan.ops.nbytes[rows] != plan.buffers.nbytes[column.values])
        differ &= ~(is_kind(plan, *RECV_KINDS)[rows] & (plan.ops.nbytes[rows] == 0))
        for entry in np.flatnonzero(differ).tolist():
            op, buffer = int(rows[entry]), int(column.values[entry])
            yield Violation(
                "bytes",
                f"{title(plan, op)} moves {int(plan.ops.nbytes[op])} bytes; "
                f"{buffer_name(plan, buffer)} has {int(plan.buffers.nbytes[buffer])}",
                (op,),
            )


def copies_carry_their_boundary(plan: Plan) -> Iterator[Violation]:
    """Require that an OFFLOAD or PREFETCH copies the boundary that it names, from or to a slot for boundaries."""
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
    for kind, column in ((Kind.OFFLOAD, plan.ops.writes), (Kind.PREFETCH, plan.ops.reads)):
        rows, slots = column.rows(), column.values
        for entry in np.flatnonzero(
            (plan.ops.kind[rows] == kind) & (plan.buffers.role[slots] != Role.BOUNDARY)
        ).tolist():
            op = int(rows[entry])
            text = (
                f"{title(plan, op)} copies a boundary, and {buffer_name(plan, int(slots[entry]))} is for something else"
            )
            yield Violation("slot-content", text, (op,))


def optimizer_last(plan: Plan) -> Iterator[Violation]:
    """Require one OPTIMIZER_STEP on each rank, after the rank's last task."""
    ops = plan.ops
    steps = np.flatnonzero(ops.kind == Kind.OPTIMIZER_STEP)
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    first, last_task = np.full(plan.ranks, -1, dtype=np.int64), np.full(plan.ranks, -1, dtype=np.int64)
    first[ops.rank[steps[::-1]]] = steps[::-1]
    last_task[ops.rank[tasks]] = tasks
    for rank in np.flatnonzero(first < 0).tolist():
        last = int(last_task[rank])
        behind = f" behind {title(plan, last)}" if last >= 0 else ""
        text = f"rank {rank} has no OPTIMIZER_STEP{behind}; each rank ends its step with one"
        yield Violation("optimizer-once", text, (last,) if last >= 0 else ())
    for op in steps[first[ops.rank[steps]] != steps].tolist():
        twice = (int(first[ops.rank[op]]), op)
        yield Violation("optimizer-once", f"{title(plan, op)} is the rank's second", twice)
    for rank in np.flatnonzero((first >= 0) & (first < last_task)).tolist():
        early = (int(first[rank]), int(last_task[rank]))
        yield Violation("optimizer-last", f"{title(plan, early[1])} runs after {title(plan, early[0])}", early)


COUNTING: tuple[Callable[[Plan], Iterator[Violation]], ...] = (
    taken_and_freed_once,
    own_rank,
    memory_on_compute,
    operation_shapes,
    waits_only,
    bytes_match,
    copies_carry_their_boundary,
    optimizer_last,
)
