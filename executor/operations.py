"""Does what each kind of operation does to tensors, by one function per kind, the same for every device.

Tensors are held by the plan's buffer. An operation takes and frees exactly what the plan says; so what the plan
frees is gone, and what it forgets to free stays. A transfer between ranks has no memory of its own: a SEND copies
straight into the buffer that the receiving rank's ACQUIRE has taken, and the RECV marks that it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from loadahead.executor.backends import Backend
from loadahead.executor.checkpoint import CheckpointedUnit, LossOf
from loadahead.executor.layout import Layout, as_bytes
from loadahead.executor.links import Links
from loadahead.executor.plan_match import buffer_layouts, landings, require_kept_bytes
from loadahead.executor.session import Session
from loadahead.executor.spec import Batch
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import COPY_KINDS, Kind, Role, Space
from loadahead.sim.ir.plan import OpView, Plan


@dataclass(slots=True)
class StepState:
    """Holds what lives during one step, by positions of buffers and operations in the plan, or by microbatch."""

    number: int = 0
    batches: Sequence[Batch] = ()
    tensors: dict[int, torch.Tensor] = field(default_factory=dict)


class HostPool:
    """Holds a plan's host memory: one slab per rank, allocated once and cut into the planned slots.

    ``slots[buffer]`` is the slot's piece of its rank's slab: uint8, shape (bytes,).
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        slots = [buffer for i in range(len(plan.buffers)) if (buffer := plan.buffer(i)).space == Space.HOST]
        sizes = [sum(slot.nbytes for slot in slots if slot.rank == rank) for rank in range(plan.ranks)]
        self.slabs = [backend.slab(size) for size in sizes]
        self.slots: dict[int, torch.Tensor] = {}
        at = [0] * plan.ranks
        for slot in slots:
            self.slots[slot.index] = self.slabs[slot.rank][at[slot.rank] : at[slot.rank] + slot.nbytes]
            at[slot.rank] += slot.nbytes


class Operations:
    """Binds a plan's operations to a model, a backend and links; :meth:`run` runs one of them inside its queue.

    ``losses``, shape (microbatches,), stays on the device: to read a loss in mid step, the host would have to wait.
    ``waits`` holds each operation's edges to other queues, ``awaited`` what these edges point to.

    Raises InputError where plan and model do not fit, or where the plan holds a kind that cannot be run.
    """

    def __init__(self, plan: Plan, session: Session, backend: Backend, links: Links) -> None:
        self.plan, self.session, self.backend, self.links = plan, session, backend, links
        self.views = list(plan)
        if backend.most_ranks is not None and plan.ranks > backend.most_ranks:
            raise InputError(
                f"plan {plan.name!r} has {plan.ranks} ranks; one run on {backend.name} holds {backend.most_ranks}: "
                "use parallel.pipeline_parallel_degree = 1, or run it on cpu"
            )
        for op in self.views:
            if op.kind not in HANDLERS:
                raise InputError(f"{op.name} is not supported by the {backend.name} backend yet; use a whole BACKWARD")
        # Each SEND's receive buffer, by the SEND's position.
        self.landings = landings(self.views, session)
        self.layouts = buffer_layouts(plan, self.views, self.landings, session)
        require_kept_bytes(plan, self.views, session.workload)
        self.host = HostPool(plan, backend)
        self.losses = torch.zeros(plan.microbatches, device=backend.device)
        self.state = StepState()
        self.before_frees: Callable[[OpView], None] | None = None
        self._recomputed = {(op.stage, op.unit, op.microbatch) for op in self.views if op.kind == Kind.RECOMPUTE}
        self._emptying = _emptying(self.views)
        # Numpy evaluates columns of small integers quickly, but one element at a time is slow: so this is a list.
        on_device = plan.buffers.space == Space.DEVICE
        self._role_on_device: list[int] = np.where(on_device, plan.buffers.role, -1).tolist()
        self.queues: list[int] = plan.queue_index.tolist()
        # A queue runs in order by itself, so edges within it need no wait.
        queues = self.queues
        self.waits = [[edge for edge in op.after if queues[edge] != queues[op.index]] for op in self.views]
        self.awaited = {edge for edges in self.waits for edge in edges}

    def run(self, op: OpView) -> None:
        """Do what the operation does, then free what it frees; ``before_frees`` is called between the two."""
        HANDLERS[op.kind](self, op)
        if self.before_frees is not None:
            self.before_frees(op)
        for index in op.frees:
            tensor = self.state.tensors.pop(index, None)  # host slots are no tensors of their own and stay
            if tensor is not None:
                self.backend.release(tensor)

    def boundary_bytes(self, rank: int) -> int:
        """Return the bytes of a rank's boundaries that are on the device now, from their storages."""
        # Other ranks' threads free their tensors meanwhile, and would find them held if they were looked at here.
        buffers = self.plan.buffers
        own = [i for i in list(self.state.tensors) if buffers.rank[i] == rank and buffers.role[i] == Role.BOUNDARY]
        return sum(self.state.tensors[index].untyped_storage().nbytes() for index in own)

    # ---- called by the handlers ----

    def unit(self, op: OpView) -> CheckpointedUnit:
        """Return the unit that the operation belongs to."""
        return self.session.units[op.stage, op.unit]

    def loss(self, op: OpView) -> LossOf | None:
        """Return the loss for the unit in which the model ends, and None for every other unit."""
        if (op.stage, op.unit) != self.session.last:
            return None
        return self.session.loss_of(self.state.batches[op.microbatch][1], len(self.state.batches))

    def recomputed(self, op: OpView) -> bool:
        """Return whether the plan recomputes the operation's unit and microbatch."""
        return (op.stage, op.unit, op.microbatch) in self._recomputed

    def empties(self, op: OpView) -> bool:
        """Return whether no one reads a PREFETCH's host slot again before it is written anew."""
        return op.index in self._emptying

    def find(self, op: OpView, buffers: Sequence[int], *roles: Role) -> int:
        """Return the first of the buffers that is on the device and has one of the roles; else raise InputError."""
        for index in buffers:
            if self._role_on_device[index] in roles:
                return index
        raise InputError(f"{op.name} needs a {' or '.join(role.label for role in roles)} and the plan names none")

    def holds_role(self, buffer: int, role: Role) -> bool:
        """Return whether a buffer is on the device and has this role."""
        return self._role_on_device[buffer] == role

    def tensor(self, op: OpView, buffer: int) -> torch.Tensor:
        """Return what a buffer holds now; InputError where the plan has not taken its memory or has freed it."""
        tensor = self.state.tensors.get(buffer)
        if tensor is None:
            raise InputError(f"{op.name} uses buffer {self.plan.buffer_id(buffer)}, which is not on the device then")
        return tensor

    def hold(self, op: OpView, buffer: int, tensor: torch.Tensor) -> None:
        """Let the tensor be the plan's buffer from now on; InputError where its shape or type differs."""
        self.require_layout(f"{op.name} makes", buffer, tensor)
        self.state.tensors[buffer] = tensor

    def require_layout(self, what: str, buffer: int, tensor: torch.Tensor) -> None:
        """Raise InputError unless the tensor has the buffer's shape and type."""
        layout = self.layouts[buffer]
        if tensor.dtype != layout.dtype or tensor.shape != layout.shape:
            raise InputError(
                f"{what} {Layout.of(tensor)}, the first microbatch of all had {layout}; "
                "all microbatches must have one shape"
            )

    def take(self, buffer: int) -> torch.Tensor:
        """Take device memory for a buffer, and return it."""
        tensor = self.backend.acquire(self.layouts[buffer])
        self.state.tensors[buffer] = tensor
        return tensor


def _emptying(ops: Sequence[OpView]) -> set[int]:
    """Return the PREFETCHes after which a slot's content is dead."""
    last: dict[int, int] = {}
    out: set[int] = set()
    for op in ops:
        if op.kind not in COPY_KINDS:
            continue
        for slot in op.writes if op.kind == Kind.OFFLOAD else op.reads:
            if op.kind == Kind.OFFLOAD and slot in last:
                out.add(last.pop(slot))
            if op.kind == Kind.PREFETCH:
                last[slot] = op.index
    return out | set(last.values())


def _forward(run: Operations, op: OpView) -> None:
    boundary, state = run.find(op, op.reads, Role.BOUNDARY), run.state
    if boundary in op.writes:
        given = state.batches[op.microbatch][0]
        run.require_layout(f"{op.name} reads", boundary, given)  # a copy would spread a smaller one over the buffer
        run.backend.copy(run.take(boundary), given)
    x, unit, loss = run.tensor(op, boundary), run.unit(op), run.loss(op)
    forward = unit.forward if run.recomputed(op) else unit.forward_with_graph
    out = forward(op.microbatch, x, run.session.seed(state.number, op.stage, op.unit, op.microbatch), loss)
    if loss is not None:
        run.backend.copy(run.losses[op.microbatch], out)
        return
    others = [index for index in op.writes if index != boundary]
    run.hold(op, run.find(op, others, Role.BOUNDARY, Role.OUTPUT), out)


def _recompute(run: Operations, op: OpView) -> None:
    x = run.tensor(op, run.find(op, op.reads, Role.BOUNDARY))
    run.unit(op).recompute(op.microbatch, x, run.loss(op))


def _backward(run: Operations, op: OpView) -> None:
    gradient = None
    if (op.stage, op.unit) != run.session.last:
        gradient = run.tensor(op, run.find(op, op.reads, Role.GRADIENT))
    outgoing = run.unit(op).backward(op.microbatch, gradient)
    if any(run.holds_role(index, Role.GRADIENT) for index in op.writes):
        if outgoing is None:
            raise InputError(f"{op.name} writes a gradient in the plan; the model's first input holds integers")
        run.hold(op, run.find(op, op.writes, Role.GRADIENT), outgoing)


def _offload(run: Operations, op: OpView) -> None:
    source = run.tensor(op, run.find(op, op.reads, Role.BOUNDARY))
    run.backend.copy(run.host.slots[op.writes[0]], as_bytes(source), run.links.d2h)


def _prefetch(run: Operations, op: OpView) -> None:
    slot = run.host.slots[op.reads[0]]
    target = run.tensor(op, op.writes[0])
    run.backend.copy(as_bytes(target), slot, run.links.h2d)
    if run.empties(op):
        run.backend.release(slot, target.dtype)


def _acquire(run: Operations, op: OpView) -> None:
    for buffer in op.allocs:
        run.take(buffer)


def _release(run: Operations, op: OpView) -> None:
    """Do nothing: the frees that every operation may have are the whole RELEASE."""


def _send(run: Operations, op: OpView) -> None:
    """Copy into the receive buffer; InputError where the receiving rank has not taken its memory."""
    target = run.tensor(op, run.landings[op.index])
    run.backend.copy(target, run.tensor(op, op.reads[0]), run.links.p2p)


def _receive(run: Operations, op: OpView) -> None:
    """Do nothing: its SEND has written the buffer, and what waits for a RECV waits for that."""


def _optimizer_step(run: Operations, op: OpView) -> None:
    run.session.optimizer_step(op.rank)


HANDLERS: dict[Kind, Callable[[Operations, OpView], None]] = {
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
