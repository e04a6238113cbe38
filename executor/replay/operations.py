"""Runs a plan's operations, each as its kind says (:mod:`loadahead.executor.replay.handlers`).

An operation takes and frees exactly what the plan says; so what the plan frees is gone, and what it forgets to free
stays.
"""

from __future__ import annotations

from collections.abc import Callable

from loadahead.executor.backends import Backend
from loadahead.executor.links import Links
from loadahead.executor.model.in_units import ModelInUnits
from loadahead.executor.replay.bound import BoundPlan
from loadahead.executor.replay.handlers import HANDLERS
from loadahead.executor.replay.training import Training
from loadahead.executor.replay.waits import needed_waits
from loadahead.executor.transport.base import Transport
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Role
from loadahead.sim.ir.plan import OpView, Plan


class Operations(BoundPlan):
    """Binds a plan's operations to a model, a backend and links; :meth:`run` runs one of them inside its queue.

    ``waits`` holds the edges to other queues that each operation needs, ``awaited`` what these edges point to. The
    arguments are those of :class:`BoundPlan`. Raises InputError where plan and model do not fit, or where the plan
    holds a kind that cannot be run.
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
        for op in plan:
            if op.kind not in HANDLERS:
                raise InputError(f"{op.name} is not supported by the {backend.name} backend yet; use a whole BACKWARD")
        super().__init__(plan, model, training, backend, links, transport)
        self.before_frees: Callable[[OpView], None] | None = None
        self.queues: list[int] = plan.queue_index.tolist()
        self.waits = needed_waits(plan, self.views)
        self.awaited = {edge for edges in self.waits for edge in edges}
        # Host slots are no tensors of their own and stay.
        self._frees = [tuple([i for i in op.frees if self._role_on_device[i] >= 0]) for op in self.views]
        self._works = [HANDLERS[op.kind](self, op) for op in self.views]

    def run(self, op: OpView) -> None:
        """Do what the operation does, then free what it frees; ``before_frees`` is called between the two."""
        self._works[op.index](self)
        if self.before_frees is not None:
            self.before_frees(op)
        for index in self._frees[op.index]:
            value = self.state.values.pop(index, None)  # a workspace is no tensor that is held here
            for tensor in () if value is None else value.tensors:
                self.backend.release(tensor)

    def boundary_bytes(self, rank: int) -> int:
        """Return the bytes of a rank's boundaries that are on the device now, from their storages."""
        # Other ranks' threads free their tensors meanwhile, and would find them held if they were looked at here.
        buffers = self.plan.buffers
        own = [i for i in list(self.state.values) if buffers.rank[i] == rank and buffers.role[i] == Role.BOUNDARY]
        return sum(self.state.values[index].nbytes for index in own)
