"""Steps of the CUDA backend on the stand-in, as the tests run them: session, oracle, record."""

from __future__ import annotations

from typing import Any

from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.links import Links
from loadahead.executor.operations import Operations
from loadahead.executor.oracle import PlainTraining, backward_order
from loadahead.executor.plan_match import stage_ranks
from loadahead.executor.replay import StepRun, replay
from loadahead.executor.session import Session
from loadahead.executor.spec import ModelSpec
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.workload import Workload
from tests.support.fake_cuda import FakeCuda
from tests.support.gpu_record import Entry
from tests.support.models import HARDWARE


class NamedOperations(Operations):
    """Entries of the record tell which operation of the plan they belong to."""

    def run(self, op: OpView) -> None:
        assert isinstance(self.backend, CudaBackend) and isinstance(self.backend.driver, FakeCuda)
        self.backend.driver.doing = op.name
        super().run(op)
        self.backend.driver.doing = ""


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
        self.session = Session(spec, workload, stage_ranks(plan, workload))
        self.oracle = PlainTraining(self.session, backward_order(plan))
        self.backend = CudaBackend(driver=self.fake, **settings)
        self.operations = operations(plan, self.session, self.backend, Links.of(HARDWARE))

    def step(self, number: int, timed: bool = True) -> StepRun:
        """One step of the plan, its record alone in :attr:`entries`."""
        batches = self.session.batches(number, self.operations.plan.microbatches)
        self.fake.adopt(tensor for batch in batches for tensor in batch)
        self.fake.entries.clear()
        return replay(self.operations, number, batches, timed=timed)

    def error(self, number: int) -> float:
        """Largest difference of the step's gradients from plain training's, which takes the same step."""
        self.oracle.train(number, self.session.batches(number, self.operations.plan.microbatches))
        return self.oracle.max_error(number)

    @property
    def entries(self) -> list[Entry]:
        return self.fake.entries
