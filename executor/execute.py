"""Runs a plan on real tensors for several optimizer steps, and measures it and checks its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from loadahead.executor.backends import make_backend
from loadahead.executor.links import Hardware, Links
from loadahead.executor.metering import StepMeter
from loadahead.executor.operations import Operations
from loadahead.executor.oracle import PlainTraining, backward_order
from loadahead.executor.plan_match import stage_ranks
from loadahead.executor.replay import replay
from loadahead.executor.results import ExecutionResult, StepRecords, result_of
from loadahead.executor.session import Session
from loadahead.executor.spec import ModelSpec
from loadahead.executor.torch_settings import on_device, single_threaded, without_garbage_collection
from loadahead.executor.user_code import importable_from
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify import check
from loadahead.sim.verify.counting import well_formed
from loadahead.sim.workload import Workload

# A run times at least this many steps.
FEWEST_TIMED = 1
# Where timing each operation costs something, one step in this many does: the others' median is the step time.
TIMED_EVERY = 4

OnStep = Callable[[int, float], None]  # (step, loss)


def execute(
    plan: Plan,
    workload: Workload,
    spec: ModelSpec,
    *,
    costs: Costs,
    steps: int = 6,
    device: str = "cpu",
    delays_seed: int | None = None,
    poison: bool = False,
    check_gradients: bool = True,
    verify: bool = True,
    on_step: OnStep | None = None,
    **backend_settings: Any,
) -> ExecutionResult:
    """Train for ``steps`` optimizer steps as the plan says, and return what was measured.

    The first step is not timed: it is metered, after a backend's warm-ups. On a backend where timing every operation
    costs something, one step in four is timed so, the others as a whole.

    Args:
        workload: says which layers each unit holds.
        costs: the links' bandwidths and latencies, and the device's capacity; nothing else of them is used.
        delays_seed: put random delays before all operations; times then mean nothing.
        poison: fill memory with NaN when it is taken, freed or emptied.
        check_gradients: train a copy plainly, and compare every gradient of every step with it.
        verify: prove the plan first, unless it is proven; only a test of an unproven plan switches this off.
        on_step: called after each step with its number and its loss.
        backend_settings: keyword arguments of the backend's class, e.g. ``copies`` of the cuda backend.

    Raises InputError where plan, model and device do not go together, and CheckFailed for a plan with a race. A failed
    step leaves nothing running.
    """
    for violation in [] if verify else well_formed(plan):
        raise InputError(f"plan {plan.name!r} is malformed: {violation.rule}: {violation.message}")
    if verify:
        check(plan)
    if plan.frozen_units:
        raise InputError(
            f"plan {plan.name!r} has {plan.frozen_units} frozen units; frozen units are not executed yet: plan a model "
            "whose first units train too"
        )
    backend = make_backend(device, delays=delays_seed, poisoned=poison, **backend_settings)
    untimed = backend.warm_ups + 1
    if steps < untimed + FEWEST_TIMED:
        backend.close()
        raise InputError(
            f"steps is {steps}; at least {untimed + FEWEST_TIMED} are needed on {device}, as the first "
            f"{untimed if untimed > 1 else 'one'} {'are' if untimed > 1 else 'is'} not timed"
        )
    try:
        with single_threaded(), on_device(backend.device, check_gradients), importable_from(spec.search_path):
            session = Session(spec, workload, stage_ranks(plan, workload), backend.device)
            before = backend.allocated()
            oracle = PlainTraining(session, backward_order(plan)) if check_gradients else None
            foreign = backend.allocated() - before
            operations = Operations(plan, session, backend, Links.of(Hardware.of(costs)))
            records = _train(operations, oracle, steps, foreign, on_step)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"plan {plan.name!r} ran out of device memory ({one_line(error, 120)}); use a smaller "
            "horizon or release_window, fewer microbatches, or no second copy of the model (do not check gradients)"
        ) from error
    finally:
        backend.close()
    return result_of(plan, costs, backend, records)


def _train(
    operations: Operations, oracle: PlainTraining | None, steps: int, foreign: int, on_step: OnStep | None
) -> StepRecords:
    records, backend = StepRecords(), operations.backend
    untimed = backend.warm_ups + 1
    for step in range(steps):
        batches = operations.session.batches(step, operations.plan.microbatches)
        meter = StepMeter(operations, foreign) if step == backend.warm_ups else None
        # Where a backend needs no warming up, timing is free; elsewhere each operation's time costs two events.
        timed = backend.warm_ups == 0 or (step - untimed) % TIMED_EVERY == 0
        with without_garbage_collection():
            run = replay(operations, step, batches, meter, timed)
        if meter is not None:
            records.memory, records.allocator = meter.result(), meter.allocator()
        elif step > backend.warm_ups:
            (records.timed if timed else records.bare).append(run.measured)
        if not math.isfinite(run.loss):
            rate = operations.session.spec.learning_rate
            raise InputError(f"the loss of step {step} is {run.loss}; use a model.learning_rate below {rate}")
        if oracle is not None:
            oracle.train(step, batches)
            records.error = max(records.error or 0.0, oracle.max_error(step))
        records.losses.append(run.loss)
        if on_step is not None:
            on_step(step, run.loss)
    return records
