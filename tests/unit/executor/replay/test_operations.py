"""What is bound to a model lets go of it: a second model may need its memory."""

from __future__ import annotations

import gc
import weakref

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.links import Links
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.training.session import Session
from loadahead.sim.planner import Policy, build_plan
from tests.support.models import HARDWARE, tiny_spec, workload_of


def test_nothing_waits_for_a_garbage_collection() -> None:
    spec = tiny_spec()
    workload = workload_of(spec, 2)
    plan = build_plan(workload, Policy(ranks=2, microbatches=2, horizon=1))
    backend = CpuBackend()
    session = Session(spec, workload, (0, 1), microbatches=2)
    operations = Operations(plan, session.in_units, session, backend, Links.of(HARDWARE))
    replay(operations, 0, session.batches(0, 2))
    held = weakref.ref(operations), weakref.ref(next(session.model.module.parameters()))
    backend.close()
    gc.collect()
    gc.disable()
    try:
        del operations, session, backend
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()
