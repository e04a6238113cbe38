"""Steps of the CUDA backend on the stand-in, as the tests run them: session, oracle, record."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.links import Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.replay.loop import StepRun, replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.replay.plan_match import stage_ranks
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.session import Session
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.workload import Workload
from tests.support.fake_cuda import FakeCuda
from tests.support.gpu_record import Entry
from tests.support.models import HARDWARE
from tests.support.units import compared


class NamedOperations(Operations):
    """Entries of the record tell which operation of the plan they belong to."""

    def run(self, op: OpView) -> None:
        assert isinstance(self.backend, CudaBackend) and isinstance(self.backend.driver, FakeCuda)
        self.backend.driver.doing = op.name
        super().run(op)
        self.backend.driver.doing = ""


class EveryWait(NamedOperations):
    """Waits for every edge between queues, those that others imply as well."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        queues = self.queues
        self.waits = [[edge for edge in op.after if queues[edge] != queues[op.index]] for op in self.views]
        self.awaited = {edge for edges in self.waits for edge in edges}


class FakeRun:
    """A plan bound to a model, the CUDA backend and a stand-in, with plain training beside it.

    ``settings`` are the backend's.
    """

    def __init__(
        self,
        plan: Plan,
        spec: ModelSpec,
        workload: Workload,
        fake: FakeCuda | None = None,
        operations: type[Operations] = NamedOperations,
        **settings: Any,
    ) -> None:
        self.fake = fake or FakeCuda()
        self.session = Session(spec, workload, stage_ranks(plan, workload), microbatches=plan.microbatches)
        self.oracle = PlainTraining(self.session, *pass_orders(plan))
        self.losses: list[float] = []
        self.backend = CudaBackend(driver=self.fake, **settings)
        self.operations = operations(plan, self.session.in_units, self.session, self.backend, Links.of(HARDWARE))

    def step(self, number: int, timed: bool = True) -> StepRun:
        """One step of the plan, its record alone in :attr:`entries`."""
        batches = self.session.batches(number, self.operations.plan.microbatches)
        self.fake.adopt(leaf for leaf in tree_leaves(batches) if isinstance(leaf, torch.Tensor))
        self.fake.entries.clear()
        run = replay(self.operations, number, batches, timed=timed)
        self.losses = run.losses
        return run

    def error(self, number: int) -> float:
        """Largest difference of the last step, which was this one, from plain training's, which takes it too."""
        batches = self.session.batches(number, self.operations.plan.microbatches)
        return compared(number, self.session, self.oracle, self.losses, batches)

    @property
    def entries(self) -> list[Entry]:
        return self.fake.entries
