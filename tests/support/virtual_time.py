"""The CPU backend with a clock of its own, so that a measured step takes the same time on every machine.

Queues are threads, copies move bytes and waits are waited for, all as the backend does it. When an operation began and
ended is then reckoned of what happened: it began when the one before on its queue and all that the replay loop let it
wait for had ended. Tasks take as long as the test says. A transfer takes as long as its link says of the bytes that
were moved in it, whatever the plan says of them. Nothing here looks at a plan's edges, or at an engine.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from loadahead.executor.backends import BACKENDS, Link, Measured, Work
from loadahead.executor.backends.cpu import CpuBackend, _QueuedOperation
from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import OpView, Plan


class VirtualCpu(CpuBackend):
    """Runs queues in threads, on the clock of the module's text.

    Args:
        work_ns: how long each operation takes beside its transfers, in ns, by its position in the plan.
        settings: those of the backend.
    """

    link_note = "Copies moved their bytes at once; on the clock they took latency + bytes / bandwidth."

    def __init__(self, work_ns: Sequence[int], **settings: Any) -> None:
        super().__init__(**settings)
        self.work_ns = work_ns
        self._running = threading.local()
        self._edges: dict[int, list[int]] = {}
        self._issued: list[tuple[int, int, tuple[int, ...]]] = []  # queue, operation, what it waits for
        self._moving_ns: dict[int, int] = {}  # by operation; each is one thread's

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        assert operations == len(self.work_ns), "the times are of another plan"
        super().begin(operations, awaited, timed=timed, alone=alone)
        self._edges, self._issued, self._moving_ns = {}, [], {}

    def wait(self, queue: int, op: int) -> None:
        super().wait(queue, op)
        self._edges.setdefault(queue, []).append(op)

    def launch(self, queue: int, op: int, work: Work) -> None:
        super().launch(queue, op, work)
        self._issued.append((queue, op, tuple(self._edges.pop(queue, ()))))

    def run_operation(self, item: _QueuedOperation, delays: random.Random | None) -> None:
        self._running.op = item.op
        super().run_operation(item, delays)

    def transfer(
        self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link, since_ns: int
    ) -> None:
        moved = 0
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
            moved += target.numel() * target.element_size()
        op = self._running.op
        self._moving_ns[op] = self._moving_ns.get(op, 0) + link.duration_ns(moved)

    def measured(self) -> Measured:
        start, end = np.zeros((2, len(self.work_ns)), dtype=np.int64)
        free: dict[int, int] = {}
        for queue, op, edges in self._issued:
            start[op] = max([free.get(queue, 0), *(int(end[edge]) for edge in edges)])
            end[op] = start[op] + self.work_ns[op] + self._moving_ns.get(op, 0)
            free[queue] = int(end[op])
        return Measured.of(start, end)


def work_times(plan: Plan, costs: Costs) -> list[int]:
    """How long each operation takes beside its transfers, in ns, by the costs of units and optimizers."""
    return [_work_ns(op, plan, costs) for op in plan]


def _work_ns(op: OpView, plan: Plan, costs: Costs) -> int:
    if op.kind == Kind.OPTIMIZER_STEP:
        stages = [stage for stage, rank in enumerate(plan.stage_rank.tolist()) if rank == op.rank]
        return sum(costs.optimizer_ns[stage] for stage in stages)
    if op.kind not in (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD):
        return 0
    unit = costs.units[op.stage][op.unit]
    return {Kind.FORWARD: unit.forward_ns, Kind.RECOMPUTE: unit.recompute_ns, Kind.BACKWARD: unit.backward_ns}[op.kind]


@contextmanager
def virtual_time(plan: Plan, costs: Costs, unsteady: float = 0.0) -> Iterator[None]:
    """Let the CPU backend have its own clock, on which tasks of this plan take what the costs say.

    ``unsteady`` is the largest share by which each task takes longer or shorter than that, always by the same.
    """
    drawn = random.Random(1)
    times = [round(took * drawn.uniform(1 - unsteady, 1 + unsteady)) for took in work_times(plan, costs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "cpu", partial(VirtualCpu, times))
        yield
