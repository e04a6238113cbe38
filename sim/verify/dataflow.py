"""Each task reads the boundary, the gradient and the workspaces that are its own, and writes what it must.

A device buffer's labels say whose it is: a boundary is the unit's that reads it, a workspace the one's that wrote it.
An output or a gradient lies between two units and may be called either's, or nobody's; who wrote it is followed through
transfers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import RECV_KINDS, UNIT_KINDS, Kind, Role
from loadahead.sim.ir.plan import Codes, Ints, Plan
from loadahead.sim.verify.happens_before import HappensBefore
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.pairs import owner
from loadahead.sim.verify.transfers import senders
from loadahead.sim.verify.violation import Violation, title
from loadahead.sim.verify.whole_step import Step, stands_before

_NONE = -1
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_INPUT, _WEIGHT = int(Kind.BACKWARD_INPUT), int(Kind.BACKWARD_WEIGHT)
_RELEASE, _ACQUIRE, _OPTIMIZER_STEP = int(Kind.RELEASE), int(Kind.ACQUIRE), int(Kind.OPTIMIZER_STEP)
_TASKS = len(UNIT_KINDS)
_BOUNDARY, _OUTPUT, _GRADIENT, _WORKSPACE = map(int, (Role.BOUNDARY, Role.OUTPUT, Role.GRADIENT, Role.WORKSPACE))

# What an operation does wrong; the first wrong thing of each is told.
_FINE = 0
_READS_OTHER, _NO_BOUNDARY, _NO_GRADIENT, _OTHER_COPY = 1, 2, 3, 16
_WRITES_OTHER, _NO_INPUT, _NO_OUTPUT, _NO_OUTGOING = 4, 5, 6, 7
_NOT_TAKEN, _TAKES_OTHER, _NAMES_OTHER = 8, 9, 10
_OTHERS_WORKSPACE, _PASSED_PARTLY, _KEEPS_NOTHING, _READS_STATE, _LOST_BETWEEN = 11, 12, 13, 14, 15


@inlined
def _has(starts, values, row, value):  # type: ignore[no-untyped-def]
    """Return whether a row of a ragged column has this value."""
    found = False
    for e in range(starts[row], starts[row + 1]):
        found |= values[e] == value
    return found


@compiled
def _reads_own(step, ops, reads, buffers, origin, tables, fault, about):  # type: ignore[no-untyped-def]
    """Note what tasks read that is not theirs, and what they must read and do not; workspaces are looked at apart.

    What RECOMPUTE, or without it FORWARD, makes for BACKWARD may lie in the boundary that it read: BACKWARD reads that
    very buffer, and none that has been loaded since.
    """
    microbatches, units, backward = step
    forward, recompute = tables
    kind, unit, microbatch = ops
    starts, values = reads
    role, buffer_unit, buffer_microbatch = buffers
    for i in range(len(kind)):
        if kind[i] >= _TASKS:
            continue
        boundaries, gradients, workspaces, other_copy = 0, 0, 0, _NONE
        code = unit[i] * microbatches + microbatch[i]
        makes = recompute[code] if recompute[code] >= 0 else forward[code]
        gives_gradient = kind[i] in (_BACKWARD, _INPUT, _WEIGHT)
        above = backward[(unit[i] + 1) * microbatches + microbatch[i]] if unit[i] + 1 < units else _NONE
        for e in range(starts[i], starts[i + 1]):
            b = values[e]
            if role[b] == _WORKSPACE:
                workspaces += 1
                continue
            if role[b] == _BOUNDARY and buffer_unit[b] == unit[i] and buffer_microbatch[b] == microbatch[i]:
                boundaries += 1
                if gives_gradient and not _has(starts, values, makes, b):
                    other_copy = b
            elif role[b] == _GRADIENT and gives_gradient and above >= 0 and origin[b] == above:
                gradients += 1
            elif fault[i] == _FINE:
                fault[i], about[i] = _READS_OTHER, b
        if fault[i] != _FINE:
            continue
        # A BACKWARD_WEIGHT reads them too, or else what its BACKWARD_INPUT left for it.
        needed = kind[i] != _WEIGHT or workspaces == 0
        if boundaries > 1 or (boundaries == 0 and needed):
            fault[i] = _NO_BOUNDARY
        elif gradients > 1 or (gradients == 0 and above >= 0 and gives_gradient and needed):
            fault[i], about[i] = _NO_GRADIENT, above
        elif other_copy >= 0:
            fault[i], about[i] = _OTHER_COPY, makes


@compiled
def _writes_own(step, ops, writes, allocs, frees, buffers, unit_rank, frozen, fault, about):  # type: ignore[no-untyped-def]
    """Note what tasks write that is not theirs, what they must write and do not, and memory taken for others."""
    units = step[1]
    kind, unit, microbatch = ops
    role, buffer_unit, buffer_microbatch = buffers
    for i in range(len(kind)):
        u, k = unit[i], kind[i]
        if k in (_RELEASE, _ACQUIRE):
            starts, values = frees if k == _RELEASE else allocs
            named = u < 0
            for e in range(starts[i], starts[i + 1]):
                b = values[e]
                beside = 1 if role[b] == _GRADIENT or role[b] == _OUTPUT else 0
                named |= abs(buffer_unit[b] - u) <= beside and buffer_microbatch[b] == microbatch[i]
                named |= buffer_unit[b] < 0
            if not named:
                fault[i] = _NAMES_OTHER
        if k >= _TASKS and k != _OPTIMIZER_STEP:
            continue
        inputs = outputs = gradients = 0
        for e in range(writes[0][i], writes[0][i + 1]):
            b = writes[1][e]
            r, v = role[b], buffer_unit[b]
            between = r in (_OUTPUT, _GRADIENT)
            named = v >= 0 or not between
            fine = (buffer_microbatch[b] == microbatch[i] or not named) and k != _OPTIMIZER_STEP
            if r == _WORKSPACE:
                fine &= v == u
            elif k == _FORWARD and r == _BOUNDARY and u == 0 and v == 0:
                inputs += 1
            elif k == _FORWARD and r == _BOUNDARY:
                fine &= v == u + 1 and unit_rank[v] == unit_rank[u]
                outputs += 1
            elif k == _FORWARD and r == _OUTPUT:
                fine &= (v == u or v == u + 1 or not named) and u + 1 < units and unit_rank[u + 1] != unit_rank[u]
                outputs += 1
            elif k in (_BACKWARD, _INPUT) and r == _GRADIENT:
                fine &= (v == u or v == u - 1 or not named) and u > frozen
                gradients += 1
            else:
                fine = False
            if not fine:
                fault[i], about[i] = _WRITES_OTHER, b
                break
            if not _has(allocs[0], allocs[1], i, b):
                fault[i], about[i] = _NOT_TAKEN, b
                break
        if fault[i] != _FINE:
            continue
        if k == _FORWARD and inputs != (u == 0):
            fault[i] = _NO_INPUT
        elif k == _FORWARD and outputs != (u + 1 < units):
            fault[i] = _NO_OUTPUT
        elif k in (_BACKWARD, _INPUT) and gradients != (u > frozen):
            fault[i] = _NO_OUTGOING
        for e in range(allocs[0][i], allocs[0][i + 1]):
            b = allocs[1][e]
            own = _has(writes[0], writes[1], i, b) or (role[b] == _WORKSPACE and _has(frees[0], frees[1], i, b))
            if not own and fault[i] == _FINE:
                fault[i], about[i] = _TAKES_OTHER, b


@compiled
def _workspaces(step, ops, reads, role, writer, scratch, tables, before, fault, about, read):  # type: ignore[no-untyped-def]
    """Note workspaces that tasks read and must not, or the other way round; ``read`` says which are read at all.

    A FORWARD that reads the workspace that it writes passes it on: those who read it do so in each of their passes.
    Another workspace of a FORWARD is for its RECOMPUTE, where there is one, else it is what its BACKWARD needs. What
    its writer itself frees (``scratch``) is nobody else's.
    """
    microbatches = step[0]
    kind, unit, microbatch = ops
    starts, values = reads
    forward, recompute, backward = tables
    for i in range(len(kind)):
        k = kind[i]
        if k >= _TASKS:
            continue
        code, kept, made = unit[i] * microbatches + microbatch[i], 0, 0
        is_backward = k in (_BACKWARD, _INPUT, _WEIGHT)
        for e in range(starts[i], starts[i + 1]):
            b = values[e]
            w = writer[b]
            if role[b] != _WORKSPACE or w < 0 or scratch[b]:
                continue
            if w == i and k != _FORWARD:
                continue
            if kind[w] >= _TASKS or microbatch[w] != microbatch[i]:
                fault[i], about[i] = _OTHERS_WORKSPACE, b
                break
            read[b] = True
            own = unit[w] == unit[i]
            if kind[w] == _FORWARD and _has(starts, values, w, b):
                missed = _NONE
                if not _has(starts, values, forward[code], b):
                    missed = forward[code]
                elif k == _FORWARD and recompute[code] >= 0 and not _has(starts, values, recompute[code], b):
                    missed = recompute[code]
                elif k == _FORWARD and backward[code] >= 0 and not _has(starts, values, backward[code], b):
                    missed = backward[code]
                if missed >= 0:
                    fault[missed], about[missed] = _PASSED_PARTLY, b
            elif kind[w] == _FORWARD and own and recompute[code] >= 0 and k != _RECOMPUTE:
                fault[i], about[i] = _READS_STATE, b
            elif kind[w] == _FORWARD and own:
                kept += 1
            elif own and is_backward and (kind[w] == _RECOMPUTE or (kind[w] == _INPUT and k == _WEIGHT)):
                made += 1
            else:
                fault[i], about[i] = _OTHERS_WORKSPACE, b
                break
        if fault[i] != _FINE:
            continue
        if k in (_BACKWARD, _INPUT) and recompute[code] < 0 and kept != 1:
            fault[i], about[i] = _KEEPS_NOTHING, forward[code]
        elif k == _WEIGHT and kept + made == 0 and before[i] != backward[code]:
            fault[i], about[i] = _LOST_BETWEEN, backward[code]


@dataclass(frozen=True, slots=True, eq=False)
class _Faults:
    """Holds what each operation does wrong, and the buffer or the operation that it is about; shape (operations,)."""

    what: Codes
    about: Ints

    @classmethod
    def none(cls, plan: Plan) -> _Faults:
        return cls(np.zeros(len(plan), dtype=np.int8), np.full(len(plan), _NONE, dtype=np.int64))

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Yield operation, fault and what it is about."""
        for op in np.flatnonzero(self.what).tolist():
            yield op, int(self.what[op]), int(self.about[op])


def _origin(plan: Plan, step: Step, writer: Ints) -> Ints:
    """Return the task that made each buffer's content: its writer or, behind a transfer, that of what was sent."""
    out, reads = writer.copy(), plan.ops.reads
    sender, _ = senders(plan, step)
    received = np.flatnonzero((writer >= 0) & is_kind(plan, *RECV_KINDS)[writer])
    send = sender[writer[received]]
    out[received] = _NONE
    one = (send >= 0) & (np.diff(reads.starts)[send] == 1)
    out[received[one]] = writer[reads.values[reads.starts[send[one]]]]
    return out


def _wrote(plan: Plan, writer: Ints, buffer: int) -> tuple[str, tuple[int, ...]]:
    """Return in words who writes a buffer, and its position."""
    by = int(writer[buffer])
    return (f", which {title(plan, by)} writes", (by,)) if by >= 0 else ("", ())


def reads_own(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a task reads the boundary of its unit and microbatch, a BACKWARD the gradient from above as well.

    Beside workspaces they read nothing else.
    """
    faults, writer = _Faults.none(plan), owner(plan.ops.writes, len(plan.buffers))
    microbatches, units = step.names.microbatches, step.names.units
    _reads_own(
        (microbatches, units, step.backward),
        (plan.ops.kind, step.names.of_op, plan.ops.microbatch),
        (plan.ops.reads.starts, plan.ops.reads.values),
        (plan.buffers.role, step.names.of_buffer, plan.buffers.microbatch),
        _origin(plan, step, writer),
        (step.forward, step.recompute),
        faults.what,
        faults.about,
    )
    for op, fault, about in faults.rows():
        ops: tuple[int, ...] = ()
        if fault == _READS_OTHER:
            wrote, ops = _wrote(plan, writer, about)
            text = f"reads {buffer_name(plan, about)}{wrote}; beside workspaces it reads only the boundary of its own "
            text += "unit and microbatch"
            if plan.ops.kind[op] not in (_FORWARD, _RECOMPUTE):
                text += " and the gradient that the unit above makes of its input"
        elif fault == _NO_BOUNDARY:
            text = "does not read the boundary of its own unit and microbatch, or not once"
        elif fault == _OTHER_COPY:
            text = (
                f"reads another copy of its boundary than {title(plan, about)} reads, whose activations may lie in that"
            )
            ops = (about,)
        else:
            text = "does not read the gradient that the unit above makes of its input, or not once"
            if about >= 0:
                text, ops = f"{text}; {title(plan, about)} makes it", (about,)
        yield Violation("reads-own", f"{title(plan, op)} {text}", (*ops, op))


def writes_own(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a task takes and writes what the next one reads, and takes and writes nothing else.

    A FORWARD writes the boundary of the unit above, or the output that is sent there; a BACKWARD the gradient of its
    input, if there are units below to be trained.
    """
    ops, faults = plan.ops, _Faults.none(plan)
    writes, allocs, frees = ((column.starts, column.values) for column in (ops.writes, ops.allocs, ops.frees))
    _writes_own(
        (step.names.microbatches, step.names.units, step.backward),
        (ops.kind, step.names.of_op, ops.microbatch),
        writes,
        allocs,
        frees,
        (plan.buffers.role, step.names.of_buffer, plan.buffers.microbatch),
        step.unit_rank,
        plan.frozen_units,
        faults.what,
        faults.about,
    )
    for op, fault, about in faults.rows():
        what = buffer_name(plan, about) if about >= 0 else ""
        rule, text = _WRITING[fault]
        yield Violation(rule, f"{title(plan, op)} {text.format(what)}", (op,))


_WRITING = {
    _WRITES_OTHER: (
        "writes-own",
        "writes {}; it writes what the next task reads, in its role (a boundary on its own rank, an output for another "
        "one, a gradient of its input), called by its unit and microbatch, and workspaces of its own",
    ),
    _NO_INPUT: ("writes-own", "does not write its input once, as the model's first unit does and no other"),
    _NO_OUTPUT: (
        "writes-own",
        "does not write one boundary of the unit above or, for another rank, one output; the last unit alone has none",
    ),
    _NO_OUTGOING: (
        "writes-own",
        "does not write one gradient of its input; only the first unit that is not frozen writes none",
    ),
    _NOT_TAKEN: ("takes-own", "writes {} and does not take it; a task takes what it writes"),
    _TAKES_OTHER: (
        "takes-own",
        "takes {} and neither writes it nor, a workspace, frees it; a task takes memory for itself alone",
    ),
    _NAMES_OTHER: ("labels", "names what none of its buffers is of; name one of theirs, or nothing"),
}


def workspaces(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that what outlives a task in a workspace is read by those that need it, and by no others.

    A BACKWARD without a RECOMPUTE reads the one that its FORWARD kept for it; a RECOMPUTE may read what its FORWARD
    left; and a tensor that is passed on is read by all tasks of each unit that reads it.
    """
    ops, faults = plan.ops, _Faults.none(plan)
    writer, role = owner(ops.writes, len(plan.buffers)), plan.buffers.role
    read = np.zeros(len(plan.buffers), dtype=np.bool_)
    freed = owner(ops.frees, len(plan.buffers))
    scratch = (writer >= 0) & (freed == writer)
    weights = step.weight[step.weight >= 0]
    before = np.full(len(plan) if len(weights) else 0, _NONE, dtype=np.int64)
    if len(weights):
        before[weights] = stands_before(plan, weights)
    _workspaces(
        (step.names.microbatches, step.names.units, step.backward),
        (ops.kind, step.names.of_op, ops.microbatch),
        (ops.reads.starts, ops.reads.values),
        role,
        writer,
        scratch,
        (step.forward, step.recompute, step.backward),
        before,
        faults.what,
        faults.about,
        read,
    )
    for op, fault, about in faults.rows():
        others: tuple[int, ...] = (about,)
        if fault in (_KEEPS_NOTHING, _LOST_BETWEEN):
            named = title(plan, about)
        else:
            wrote, others = _wrote(plan, writer, about)
            named = f"{buffer_name(plan, about)}{wrote}"
        yield Violation("workspace", f"{title(plan, op)} {_WORKSPACE_TEXT[fault].format(named)}", (*others, op))
    unread = (role == _WORKSPACE) & (writer >= 0) & ~read & ~scratch
    for buffer in np.flatnonzero(unread).tolist():
        text = f"{title(plan, int(writer[buffer]))} writes {buffer_name(plan, buffer)}, which no other task reads"
        yield Violation("workspace", f"{text}; it frees it itself, or leaves it out", (int(writer[buffer]),))


_WORKSPACE_TEXT = {
    _OTHERS_WORKSPACE: "reads {}; it is not its own, and none that is passed on with its microbatch",
    _PASSED_PARTLY: "does not read {}, which another task of its unit and microbatch reads; all of them do, or none",
    _KEEPS_NOTHING: (
        "has no RECOMPUTE, and does not read one workspace that {} wrote for it; without a RECOMPUTE a FORWARD keeps "
        "what its BACKWARD needs, even if it is of 0 bytes"
    ),
    _READS_STATE: "reads {}, and its RECOMPUTE makes its activations again: what a FORWARD keeps is for the RECOMPUTE",
    _LOST_BETWEEN: (
        "neither stands directly behind {} nor reads a workspace with what it needs from there; memory that outlives "
        "an operation is a buffer"
    ),
}


DATAFLOW: tuple[Callable[[Plan, Step, HappensBefore], Iterator[Violation]], ...] = (reads_own, writes_own, workspaces)
