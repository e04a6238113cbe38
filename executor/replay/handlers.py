"""Says what each kind of operation does to tensors, by one function per kind, the same for every device.

Each function looks up once, when a plan is bound, what its operation needs, and returns the work that every step does.
The work gets the operations that it is one of: if it held them they would live, with a whole model, until garbage is
collected.
"""

from __future__ import annotations

from collections.abc import Callable

from loadahead.executor.replay.bound import BoundPlan
from loadahead.executor.tensors.layout import as_bytes, dense_layout
from loadahead.executor.tensors.values import Description, storages, views_of
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Role
from loadahead.sim.ir.plan import OpView

Work = Callable[[BoundPlan], None]


def _forward(bound: BoundPlan, op: OpView) -> Work:
    boundary, key = bound.find(op, op.reads, Role.BOUNDARY), (op.stage, op.unit)
    unit, microbatch, ends = bound.model.units[key], op.microbatch, key == bound.model.last
    reads_data, frozen, recomputed = boundary in op.writes, key in bound.model.frozen, bound.recomputed(op)
    made_into = -1
    if not ends:
        others = [index for index in op.writes if index != boundary]
        made_into = bound.find(op, others, Role.BOUNDARY, Role.OUTPUT)

    def work(run: BoundPlan) -> None:
        if reads_data:
            _take_data(run, op, boundary)
        value, handed = run.value(op, boundary), run.handed(op)
        seed = run.training.seed(run.state.number, *key, microbatch)
        loss = run.loss(op) if ends else None
        if frozen:
            made = unit.forward_alone(value, seed, handed, microbatch)
        elif recomputed:
            made = unit.forward(microbatch, value, seed, loss, handed)
        else:
            made = unit.forward_with_graph(microbatch, value, seed, loss, handed)
        if ends:
            run.backend.copy(run.losses[microbatch], made.value.tensors[0].reshape(()))
            return
        if made.handed:
            run.hand_on(op, handed, made, unit.resident | storages(value.tensors) | storages(made.value.tensors))
        run.hold(op, made_into, made.value)

    return work


def _take_data(run: BoundPlan, op: OpView, boundary: int) -> None:
    """Bring a microbatch's input into the memory that the plan has for it."""
    given = run.given(op)
    run.require_bytes(f"{op.name} reads", run.layouts[boundary], given.own)
    run.take(boundary)
    layouts = tuple([dense_layout(tensor) for tensor in given.own])
    value = run.fill(boundary, Description(layouts, given.constants, views=views_of(given.own)))
    for target, source in zip(value.tensors, given.own, strict=True):
        run.backend.copy(target, source)


def _recompute(bound: BoundPlan, op: OpView) -> Work:
    boundary, key = bound.find(op, op.reads, Role.BOUNDARY), (op.stage, op.unit)
    unit, microbatch, ends = bound.model.units[key], op.microbatch, key == bound.model.last

    def work(run: BoundPlan) -> None:
        loss = run.loss(op) if ends else None
        unit.recompute(microbatch, run.value(op, boundary), loss, run.handed(op))

    return work


def _backward(bound: BoundPlan, op: OpView) -> Work:
    key = op.stage, op.unit
    unit, microbatch = bound.model.units[key], op.microbatch
    incoming = -1 if key == bound.model.last else bound.find(op, op.reads, Role.GRADIENT)
    writes = any(bound.holds_role(index, Role.GRADIENT) for index in op.writes)
    outgoing = bound.find(op, op.writes, Role.GRADIENT) if writes else -1

    def work(run: BoundPlan) -> None:
        made = unit.backward(microbatch, None if incoming < 0 else run.value(op, incoming))
        if outgoing < 0:
            return
        if not made.tensors:
            raise InputError(f"{op.name} writes a gradient in the plan; the model's unit has none of its input")
        run.hold(op, outgoing, made)

    return work


def _offload(bound: BoundPlan, op: OpView) -> Work:
    buffer, slot = bound.find(op, op.reads, Role.BOUNDARY), op.writes[0]
    host, move, link = bound.host, bound.backend.move, bound.links.d2h
    host.tensors(slot, bound.layouts[buffer])  # made now: most microbatches are like the traced one

    def work(run: BoundPlan) -> None:
        source = run.value(op, buffer)
        run.state.stored[slot] = described = source.described()
        targets = host.tensors(slot, described.layouts)
        if targets is not None:
            move(targets, source.tensors, link)
        else:
            move(host.pieces(slot, described.sizes), [as_bytes(t) for t in source.tensors], link)

    return work


def _prefetch(bound: BoundPlan, op: OpView) -> Work:
    slot, buffer = op.reads[0], op.writes[0]
    host, move, link, empties = bound.host, bound.backend.move, bound.links.h2d, bound.empties(op)

    def work(run: BoundPlan) -> None:
        run.value(op, buffer)
        described = run.state.stored[slot]
        target = run.fill(buffer, described)
        sources = host.tensors(slot, described.layouts)
        if sources is not None:
            move(target.tensors, sources, link)
        else:
            move([as_bytes(t) for t in target.tensors], host.pieces(slot, described.sizes), link)
        if empties:
            for piece, layout in zip(host.pieces(slot, described.sizes), described.layouts, strict=True):
                run.backend.release(piece, layout.dtype)

    return work


def _acquire(bound: BoundPlan, op: OpView) -> Work:
    buffers = tuple(op.allocs)

    def work(run: BoundPlan) -> None:
        for buffer in buffers:
            run.take(buffer)
            run.receive(buffer)

    return work


def _release(bound: BoundPlan, op: OpView) -> Work:
    """Return nothing to do: the frees that every operation may have are the whole RELEASE."""
    return _nothing


def _nothing(run: BoundPlan) -> None:
    return None


def _send(bound: BoundPlan, op: OpView) -> Work:
    arrival, buffer = bound.arrivals[op.index], op.reads[0]

    def work(run: BoundPlan) -> None:
        if not run.transport.send(arrival, run.value(op, buffer)):
            raise run.not_there(op, arrival.buffer)

    return work


def _receive(bound: BoundPlan, op: OpView) -> Work:
    buffer = op.writes[0]
    return lambda run: run.wait(buffer)


def _optimizer_step(bound: BoundPlan, op: OpView) -> Work:
    rank = op.rank
    return lambda run: run.training.optimizer_step(rank)


HANDLERS: dict[Kind, Callable[[BoundPlan, OpView], Work]] = {
    Kind.FORWARD: _forward,
    Kind.RECOMPUTE: _recompute,
    Kind.BACKWARD: _backward,
    Kind.OFFLOAD: _offload,
    Kind.RELEASE: _release,
    Kind.ACQUIRE: _acquire,
    Kind.PREFETCH: _prefetch,
    Kind.SEND_ACTIVATION: _send,
    Kind.RECV_ACTIVATION: _receive,
    Kind.SEND_GRADIENT: _send,
    Kind.RECV_GRADIENT: _receive,
    Kind.OPTIMIZER_STEP: _optimizer_step,
}
