"""Runs a plan on real tensors for several optimizer steps, and measures it and checks its gradients."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from loadahead.executor.backends import make_backend
from loadahead.executor.links import Hardware, Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.tensors.randomness import states_of_threads
from loadahead.executor.torch_settings import (
    on_device,
    single_threaded,
)
from loadahead.executor.training.results import ExecutionResult, StepRecords, result_of
from loadahead.executor.training.run import OnStep, TrainingRun
from loadahead.executor.user_code import importable_from
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify import check
from loadahead.sim.verify.counting import well_formed
from loadahead.sim.workload import Workload

# A run times at least this many steps.
FEWEST_TIMED = 1


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

    Where metering memory takes time, all is done twice from the same start: a run in which every step is metered, and
    compared with plain training, and one whose steps are timed but for the first. Elsewhere the first step after a
    backend's warm-ups is metered operation by operation, and the others for their peaks. On a backend where timing
    every operation costs something, one step in four is timed so, the others as a whole.

    Args:
        workload: says which layers each unit holds.
        costs: the links' bandwidths and latencies, the device's capacity, and how each unit is checkpointed; nothing
            else of them is used.
        delays_seed: put random delays before all operations; times then mean nothing.
        poison: fill memory with NaN when it is taken, freed or emptied.
        check_gradients: train a copy plainly, and compare losses, gradients and buffers of every step with it.
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
    backend = make_backend(device, delays=delays_seed, poisoned=poison, **backend_settings)
    untimed = backend.warm_ups + 1
    if steps < untimed + FEWEST_TIMED:
        backend.close()
        raise InputError(
            f"steps is {steps}; at least {untimed + FEWEST_TIMED} are needed on {device}, as the first "
            f"{untimed if untimed > 1 else 'one'} {'are' if untimed > 1 else 'is'} not timed"
        )
    records = StepRecords()
    links = Links.of(Hardware.of(costs))
    run = TrainingRun(plan, workload, spec, backend, links, steps, records, costs.lean_units)
    threads = states_of_threads() if plan.ranks > 1 else nullcontext()
    try:
        with single_threaded(), on_device(backend.device, check_gradients), importable_from(spec.search_path), threads:
            run.until_equal(check_gradients, on_step, proven=verify)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"plan {plan.name!r} ran out of device memory ({one_line(error, 120)}); use a smaller "
            "horizon or release_window, fewer microbatches, or no second copy of the model (do not check gradients)"
        ) from error
    finally:
        backend.close()
    return result_of(plan, costs, backend, records)
