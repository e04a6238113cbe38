"""Checks whether a plan fits a model: each buffer's tensor, as the model makes it, must have the plan's bytes.

A buffer's tensor is known by the task that writes it, or by the copy that fills it, whatever the plan's file calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadahead.executor.model.in_units import ModelInUnits, UnitKey
from loadahead.executor.tensors.layout import Layout
from loadahead.executor.tensors.values import Form
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, SENT_AS, UNIT_KINDS, Kind, Role, Space
from loadahead.sim.ir.plan import BufferView, OpView, Plan
from loadahead.sim.workload import Workload


def stage_ranks(plan: Plan, workload: Workload) -> tuple[int, ...]:
    """Return the rank that runs each stage; InputError where plan and workload do not have the same units."""
    ranks: dict[int, int] = {}
    units: set[UnitKey] = set()
    for op in plan:
        if op.kind == Kind.FORWARD:
            units.add((op.stage, op.unit))
            if ranks.setdefault(op.stage, op.rank) != op.rank:
                raise InputError(f"the plan runs stage {op.stage} on ranks {ranks[op.stage]} and {op.rank}")
    model_units = {(stage, unit) for stage, shapes in enumerate(workload.stages) for unit in range(len(shapes))}
    if units != model_units:
        odd = min(units ^ model_units)
        raise InputError(
            f"the plan has {len(units)} units, the model is cut into {len(model_units)}; unit "
            f"{odd[0]}.{odd[1]} is only in the {'plan' if odd in units else 'model'}: plan for this model"
        )
    return tuple(ranks[stage] for stage in sorted(ranks))


def unheld_workspaces(plan: Plan) -> tuple[int, int]:
    """Return how many workspace buffers of a plan a run does not hold, and their bytes.

    It holds what the graph keeps from a FORWARD to a BACKWARD without a RECOMPUTE, the values that RECOMPUTE starts
    from, and tensors that units hand on.
    """
    ops = list(plan)
    held = {index for _, index in (*_kept(ops), *_states(ops))} | {index for index, _ in _passing(plan, ops)}
    workspaces = [plan.buffer(index) for index in range(len(plan.buffers)) if index not in held]
    sizes = [buffer.nbytes for buffer in workspaces if buffer.role == Role.WORKSPACE and buffer.nbytes]
    return len(sizes), sum(sizes)


def require_kept_bytes(plan: Plan, ops: Sequence[OpView], workload: Workload) -> None:
    """Raise InputError unless the plan has the model's bytes for what units keep from FORWARD to BACKWARD.

    Without a RECOMPUTE that is what the graph keeps: a plan from which RECOMPUTEs were taken would hold more than it
    says. With one it is what modules held before FORWARD changed them.
    """
    for op, index in _kept(ops):
        wanted, nbytes = workload.stages[op.stage][op.unit].saved_bytes, plan.buffer(index).nbytes
        if nbytes != wanted:
            raise InputError(
                f"{op.name} has no RECOMPUTE and its FORWARD keeps {nbytes} bytes for it in the plan; the model's unit "
                f"keeps {wanted}: plan for this model"
            )
    states = {op.index: plan.buffer(index).nbytes for op, index in _states(ops)}
    for op in ops:
        if op.kind == Kind.RECOMPUTE:
            wanted, nbytes = workload.stages[op.stage][op.unit].state_bytes, states.get(op.index, 0)
            if nbytes != wanted:
                raise InputError(
                    f"{op.name} starts from {nbytes} bytes of the module's own values in the plan; the model's unit "
                    f"changes {wanted} of them: plan for this model"
                )


def _kept(ops: Sequence[OpView]) -> list[tuple[OpView, int]]:
    """Return each BACKWARD without a RECOMPUTE, with the workspace that its FORWARD wrote for it and did not read."""
    recomputed = {(op.stage, op.unit, op.microbatch) for op in ops if op.kind == Kind.RECOMPUTE}
    bare = [op for op in ops if op.kind == Kind.BACKWARD and (op.stage, op.unit, op.microbatch) not in recomputed]
    return _left_by_forward(bare, ops)


def _states(ops: Sequence[OpView]) -> list[tuple[OpView, int]]:
    """Return each RECOMPUTE, with the workspace that its FORWARD wrote for it and did not read."""
    return _left_by_forward([op for op in ops if op.kind == Kind.RECOMPUTE], ops)


def _left_by_forward(readers: Sequence[OpView], ops: Sequence[OpView]) -> list[tuple[OpView, int]]:
    written = {(op.stage, op.unit, op.microbatch): {*op.writes} - {*op.reads} for op in ops if op.kind == Kind.FORWARD}
    return [
        (op, index) for op in readers for index in {*op.reads} & written.get((op.stage, op.unit, op.microbatch), set())
    ]


def _passing(plan: Plan, ops: Sequence[OpView]) -> list[tuple[int, tuple[UnitKey, ...]]]:
    """Return each workspace that a FORWARD writes and reads, with the units whose FORWARDs read it."""
    readers: dict[int, list[UnitKey]] = {}
    written: dict[int, None] = {}
    for op in ops:
        if op.kind == Kind.FORWARD:
            for index in op.reads:
                if plan.buffers.role[index] == Role.WORKSPACE:
                    readers.setdefault(index, []).append((op.stage, op.unit))
                    if index in op.writes:
                        written[index] = None
    return [(index, tuple(readers[index])) for index in written]


def handed_buffers(plan: Plan, ops: Sequence[OpView], model: ModelInUnits) -> dict[tuple[int, int, int], int]:
    """Return the buffer of each tensor that units hand on, by its number, a rank and a microbatch.

    A buffer is known by its bytes and by the units that read it. Raises InputError where plan and model have others.
    """
    keys = list(model.forms)
    found: dict[tuple[int, int, tuple[UnitKey, ...], int], list[int]] = {}
    for index, units in _passing(plan, ops):
        buffer = plan.buffer(index)
        found.setdefault((buffer.rank, buffer.microbatch, units, buffer.nbytes), []).append(index)
    out: dict[tuple[int, int, int], int] = {}
    for number, handed in enumerate(model.boundaries.handed):
        by_rank: dict[int, list[UnitKey]] = {}
        for unit in handed.readers:
            by_rank.setdefault(model.stage_rank[keys[unit][0]], []).append(keys[unit])
        for rank, own in by_rank.items():
            for microbatch in range(plan.microbatches):
                wanted = (rank, microbatch, tuple(own), handed.layout.nbytes)
                if not found.get(wanted):
                    (stage, first), (_, last) = own[0], own[-1]
                    raise InputError(
                        f"units {stage}.{first} to {own[-1][0]}.{last} hand on {handed.layout} and the plan has no "
                        f"such buffer for microbatch {microbatch}: plan for this model"
                    )
                out[number, rank, microbatch] = found[wanted].pop(0)
    left = [index for indices in found.values() for index in indices if plan.buffer(index).nbytes]
    if left:
        buffer = plan.buffer(left[0])
        raise InputError(
            f"the plan's buffer {plan.buffer_id(left[0])} of {buffer.nbytes} bytes is handed on from unit to unit; the "
            "model hands on no such tensor: plan for this model"
        )
    return out


def landings(ops: Sequence[OpView], model: ModelInUnits) -> dict[int, int]:
    """Return the buffer that each SEND copies into, by the SEND's position: the one that its RECV writes.

    A RECV waits for its SEND, and may wait for others: what it receives comes from the unit below its own or, a
    gradient, from the unit above. Raises InputError where a SEND has no RECV or several, or a RECV has no SEND.
    """
    number = {key: at for at, key in enumerate(model.forms)}
    out: dict[int, int] = {}
    for op in ops:
        if op.kind not in RECV_KINDS:
            continue
        kind, step = SENT_AS[op.kind]
        sender = number.get((op.stage, op.unit), len(ops)) + step
        sends = [
            edge
            for edge in op.after
            if (ops[edge].kind, ops[edge].microbatch) == (kind, op.microbatch)
            and number.get((ops[edge].stage, ops[edge].unit)) == sender
        ]
        if len(sends) != 1:
            raise InputError(f"{op.name} waits for {len(sends)} SENDs of what it receives; it must wait for one")
        if len(op.writes) != 1:
            raise InputError(f"{op.name} writes {len(op.writes)} buffers; it must be the one it receives into")
        if sends[0] in out:
            raise InputError(f"{ops[sends[0]].name} is received twice; a SEND has one receive buffer")
        out[sends[0]] = op.writes[0]
    for op in ops:
        if op.kind in SEND_KINDS and op.index not in out:
            raise InputError(f"{op.name} is received by no RECV; the plan names no buffer that it may copy into")
    return out


def buffer_layouts(
    plan: Plan, ops: Sequence[OpView], landed: Mapping[int, int], model: ModelInUnits
) -> dict[int, tuple[Layout, ...]]:
    """Return the layouts of the tensors in every device buffer that holds some; InputError where the bytes differ.

    They are the traced microbatch's; another's may have other strides. ``landed`` holds the :func:`landings`. A copy
    hands on what it copies. What an ACQUIRE takes and nothing writes is bytes. A WORKSPACE is not among them.
    """
    keys = list(model.forms)
    above = dict(zip(keys, keys[1:], strict=False))
    out: dict[int, tuple[Layout, ...]] = {}
    stored: dict[int, tuple[Layout, ...]] = {}  # by host slot
    for op in ops:
        if op.kind in UNIT_KINDS:
            for index in op.writes:
                buffer = plan.buffer(index)
                if buffer.space == Space.DEVICE and buffer.role != Role.WORKSPACE:
                    out[index] = _made(op, buffer, model.forms[_written_key(op, index, above)])
        elif op.kind in SEND_KINDS:
            out[landed[op.index]] = _copied(plan, op, out)
        elif op.kind == Kind.OFFLOAD:
            stored[op.writes[0]] = _copied(plan, op, out)
        elif op.kind == Kind.PREFETCH:
            out[op.writes[0]] = _copied(plan, op, stored)
    for op in ops:
        if op.kind == Kind.ACQUIRE:
            for index in op.allocs:
                out.setdefault(index, (Layout.of_bytes(plan.buffer(index).nbytes),))
    return out


def _made(op: OpView, buffer: BufferView, form: Form) -> tuple[Layout, ...]:
    """Return the layouts of what a task writes; InputError where the plan's bytes are others."""
    layouts = form.gradient_layouts if buffer.role == Role.GRADIENT else form.layouts
    nbytes = sum([layout.nbytes for layout in layouts])
    if nbytes != buffer.nbytes:
        shown = " and ".join(map(str, layouts)) or "none"
        raise InputError(
            f"{op.name} writes a {buffer.role.label} of {buffer.nbytes} bytes in the plan; the model's is "
            f"{shown}, {nbytes} bytes: plan for this model"
        )
    return layouts


def _copied(plan: Plan, op: OpView, known: Mapping[int, tuple[Layout, ...]]) -> tuple[Layout, ...]:
    """Return the layouts of what a copy reads; InputError where nothing listed before has written it."""
    layouts = known.get(op.reads[0])
    if layouts is None:
        raise InputError(f"{op.name} copies buffer {plan.buffer_id(op.reads[0])}, which nothing has written before")
    return layouts


def _written_key(op: OpView, buffer: int, above: dict[UnitKey, UnitKey]) -> UnitKey:
    """Return the unit whose input, or whose input's gradient, a task writes into a buffer."""
    key = (op.stage, op.unit)
    own_input = op.kind == Kind.FORWARD and buffer in op.reads
    if own_input or op.kind != Kind.FORWARD:
        return key
    if key not in above:
        raise InputError(f"{op.name} writes an output; the model ends in unit {key[0]}.{key[1]}")
    return above[key]
