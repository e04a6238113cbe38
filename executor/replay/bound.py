"""Holds a plan bound to a model, a training, a backend and a transport, and what its buffers hold during a step.

Tensors are held by the plan's buffer. A transfer between ranks has no memory of its own: a SEND copies into the buffer
that the receiving rank's ACQUIRE has taken, and the RECV marks that it is there; how, is the transport's
(:mod:`loadahead.executor.transport`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from loadahead.executor.backends import Backend
from loadahead.executor.links import Links
from loadahead.executor.model.boundaries import DATA
from loadahead.executor.model.in_units import ModelInUnits
from loadahead.executor.model.spec import Batch
from loadahead.executor.model.unit import LossOf, Made
from loadahead.executor.replay.host_pool import HostPool
from loadahead.executor.replay.plan_match import buffer_layouts, handed_buffers, landings, require_kept_bytes
from loadahead.executor.replay.training import Training
from loadahead.executor.tensors.layout import Layout, dense_layout, storage_id
from loadahead.executor.tensors.values import Description, Parts, Value, owned
from loadahead.executor.transport.base import Arrival, Transport
from loadahead.executor.transport.in_process import InProcess
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import COPY_KINDS, Kind, Role, Space
from loadahead.sim.ir.plan import OpView, Plan


@dataclass(slots=True)
class StepState:
    """Holds what lives during one step.

    Attributes:
        values: what each device buffer holds, by the buffer's position in the plan.
        stored: how what lies in each host slot is to be read, by the slot's position.
    """

    number: int = 0
    batches: Sequence[Batch] = ()
    values: dict[int, Value] = field(default_factory=dict)
    stored: dict[int, Description] = field(default_factory=dict)


class BoundPlan:
    """Holds what the operations of a plan work on; see the module's text.

    ``losses``, float64 of shape (microbatches,), stays on the device: to read one in mid step, the host would have to
    wait.

    Args:
        transport: moves what ranks send; None: within this process, over the links between ranks.

    Raises InputError where plan and model do not fit.
    """

    def __init__(
        self,
        plan: Plan,
        model: ModelInUnits,
        training: Training,
        backend: Backend,
        links: Links,
        transport: Transport | None = None,
    ) -> None:
        self.plan, self.model, self.training, self.backend, self.links = plan, model, training, backend, links
        self.transport: Transport = transport or InProcess(backend, links.p2p)
        self.views = list(plan)
        if backend.most_ranks is not None and plan.ranks > backend.most_ranks:
            raise InputError(
                f"plan {plan.name!r} has {plan.ranks} ranks; one run on {backend.name} holds {backend.most_ranks}: "
                "use parallel.pipeline_parallel_degree = 1, or run it on cpu"
            )
        # Each SEND's receive buffer.
        landed = landings(self.views, model)
        self.layouts = buffer_layouts(plan, self.views, landed, model)
        self.handed_in = handed_buffers(plan, self.views, model)
        require_kept_bytes(plan, self.views, model.workload)
        ranks = plan.buffers.rank.tolist()
        self.arrivals = {send: Arrival(buffer, self.views[send].rank, ranks[buffer]) for send, buffer in landed.items()}
        self._receives = {arrival.buffer: arrival for arrival in self.arrivals.values()}
        # Each unit's place in the model, and the ranks that read each tensor that is handed on.
        self.number = {key: at for at, key in enumerate(model.forms)}
        stage_of = [key[0] for key in model.forms]
        self.handed_ranks = [
            frozenset(model.stage_rank[stage_of[unit]] for unit in handed.readers) for handed in model.boundaries.handed
        ]
        self.host = HostPool(plan, backend)
        self.losses = torch.zeros(plan.microbatches, dtype=torch.float64, device=backend.device)
        self.state = StepState()
        self._recomputed = {(op.stage, op.unit, op.microbatch) for op in self.views if op.kind == Kind.RECOMPUTE}
        self._emptying = _emptying(self.views)
        # Numpy evaluates columns of small integers quickly, but one element at a time is slow: so this is a list.
        on_device = plan.buffers.space == Space.DEVICE
        self._role_on_device: list[int] = np.where(on_device, plan.buffers.role, -1).tolist()
        self._hands = {key for key, form in model.forms.items() if form.handed}

    def begin_step(self, number: int, batches: Sequence[Batch]) -> None:
        """Begin a step on its data, one batch per microbatch; what a failed step has left is forgotten."""
        self.model.reset()
        self.training.begin_step()
        self.state = StepState(number, batches)
        self.transport.begin_step(self.state.values)

    def end_step(self) -> None:
        """Let go of all that the step held."""
        self.state = StepState()
        self.transport.begin_step(self.state.values)

    def loss(self, op: OpView) -> LossOf:
        """Return the loss of an operation's microbatch."""
        return self.training.loss_of(self.state.batches[op.microbatch][1], len(self.state.batches))

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

    def value(self, op: OpView, buffer: int) -> Value:
        """Return what a buffer holds now; InputError where the plan has not taken its memory or has freed it."""
        value = self.state.values.get(buffer)
        if value is None:
            raise self.not_there(op, buffer)
        return value

    def not_there(self, op: OpView, buffer: int) -> InputError:
        """Return the error of an operation that uses a buffer without memory."""
        return InputError(f"{op.name} uses buffer {self.plan.buffer_id(buffer)}, which is not on the device then")

    def receive(self, buffer: int) -> None:
        """Let what another rank sends land in a buffer, if it is one for that."""
        if buffer in self._receives:
            self.transport.receive(self._receives[buffer])

    def wait(self, buffer: int) -> None:
        """Wait for what another rank sends into a buffer."""
        self.transport.wait(self._receives[buffer])

    def hold(self, op: OpView, buffer: int, value: Value) -> None:
        """Let the value be what the plan's buffer holds from now on; InputError where it has other bytes."""
        self.require_bytes(f"{op.name} makes", self.layouts[buffer], value.tensors)
        self.state.values[buffer] = value

    def require_bytes(self, what: str, layouts: Sequence[Layout], tensors: Sequence[torch.Tensor]) -> None:
        """Raise InputError unless the tensors have these layouts' bytes, each."""
        for layout, tensor in zip(layouts, tensors, strict=True):
            if layout.nbytes != tensor.numel() * tensor.element_size():
                raise InputError(
                    f"{what} {Layout.of(tensor)} in step {self.state.number}; microbatch 0 of step 0 had {layout}. A "
                    "plan's memory is the same for every microbatch of every step: pad what is smaller, or leave the "
                    "last, smaller batch out (drop_last)"
                )

    def take(self, buffer: int) -> Value:
        """Take device memory for a buffer, and return it."""
        value = Value(tuple([self.backend.acquire(layout) for layout in self.layouts[buffer]]))
        self.state.values[buffer] = value
        return value

    def fill(self, buffer: int, description: Description) -> Value:
        """Return a buffer's memory as something else will lie in it, which it holds from now on."""
        memory = self.state.values[buffer].tensors
        if description.layouts == self.layouts[buffer]:  # as it was taken
            value = Value(memory, description.constants, description.absent, description.views)
        else:
            value = description.over(memory)
        self.state.values[buffer] = value
        return value

    def handed(self, op: OpView) -> dict[int, torch.Tensor]:
        """Return the tensors handed on that an operation's unit reads; its rank's first reader takes them in."""
        if (op.stage, op.unit) not in self._hands:
            return {}
        form, out = self.model.forms[op.stage, op.unit], {}
        for number in form.handed:
            buffer = self.handed_in[number, op.rank, op.microbatch]
            if buffer not in self.state.values:
                self._take_in(op, number, buffer)
            out[number] = self.value(op, buffer).tensors[0]
        return out

    def _take_in(self, op: OpView, number: int, buffer: int) -> None:
        """Bring a tensor that the data holds, or that another rank has made, into the rank's own memory."""
        handed = self.model.boundaries.handed[number]
        if handed.origin == DATA:
            source = self.given(op).handed[number]
        else:
            source = self.transport.carried((number, op.microbatch))
        memory = self.backend.acquire(dense_layout(source))
        self.require_bytes(f"{op.name} reads", [handed.layout], [memory])
        self.backend.copy(memory, source)
        self.state.values[buffer] = Value((memory,))

    def hand_on(self, op: OpView, given: Mapping[int, torch.Tensor], made: Made, foreign: frozenset[int]) -> None:
        """Keep the tensors that a FORWARD has made to be handed on; InputError where it changed one it was given."""
        place, taken = self.number[op.stage, op.unit], set(foreign)
        for number, tensor in made.handed.items():
            handed = self.model.boundaries.handed[number]
            if handed.origin != place:
                if number not in given or storage_id(given[number]) != storage_id(tensor):
                    raise InputError(
                        f"{op.name} makes another {handed.layout} of one that it handed on unchanged when it was "
                        "traced; it must do the same for every microbatch"
                    )
                continue
            (own,) = owned([tensor], frozenset(taken))
            taken.add(storage_id(own))
            self.require_bytes(f"{op.name} makes", [handed.layout], [own])
            self.state.values[self.handed_in[number, op.rank, op.microbatch]] = Value((own,))
            if self.handed_ranks[number] != {op.rank}:
                self.transport.carry((number, op.microbatch), own)

    def given(self, op: OpView) -> Parts:
        """Return the input of an operation's microbatch, taken apart."""
        batch = self.state.batches[op.microbatch][0]
        form = next(iter(self.model.forms.values()))
        return form.take_apart(batch, f"the data of microbatch {op.microbatch} of step {self.state.number}")


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
