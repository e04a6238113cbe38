"""On a GPU: every gradient of every step equals plain training's, bit for bit, whatever is put between operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from loadahead.executor.backends import make_backend
from loadahead.executor.execute import execute
from loadahead.executor.links import Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.torch_settings import on_device
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError, LoadaheadError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support import models
from tests.support.edits import with_column, without_entry
from tests.support.gpu import NEEDS_GPU
from tests.support.models import HARDWARE, TINY, link_costs, own_spec, tiny_spec
from tests.support.units import compared

pytestmark = NEEDS_GPU

WIDER = TINY | {"width": 128, "heads": 4, "context": 64, "blocks": 3}


workload_of = partial(models.workload_of, device="cuda")


def plan_for(workload: Workload, **policy: Any) -> Plan:
    return build_plan(workload, Policy(**{"ranks": 1, "microbatches": 4} | policy))


def grad_error(spec: ModelSpec, seed: int | None = None, steps: int = 4, **policy: Any) -> float | None:
    workload = workload_of(spec)
    run = execute(
        plan_for(workload, **policy),
        workload,
        spec,
        costs=link_costs(workload),
        steps=steps,
        device="cuda",
        delays_seed=seed,
        poison=seed is not None,
    )
    return run.max_grad_error


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("horizon", [1, 2, 4, 8])
@pytest.mark.parametrize("unit", HORIZON_UNITS)
@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_every_horizon(pipeline: str, unit: str, horizon: int, seed: int | None) -> None:
    """``seed``: with random delays in every stream and dead memory filled with NaN."""
    assert grad_error(tiny_spec(), seed, pipeline=pipeline, horizon_unit=unit, horizon=horizon) == 0.0


@pytest.mark.parametrize("policy", [{"checkpoint": False}, {"offload": False}, {"release_window": 3}])
def test_other_policies(policy: dict[str, Any]) -> None:
    assert grad_error(tiny_spec(), 5, **policy) == 0.0


@pytest.mark.parametrize("options", [{}, {"autocast": "bfloat16"}, {"dtype": "bfloat16"}, {"optimizer": "sgd"}])
def test_types_autocast_and_optimizers(options: dict[str, Any]) -> None:
    assert grad_error(tiny_spec(options=WIDER, **options), 3, horizon=2, pipeline="simple") == 0.0


def test_odd_layers() -> None:
    """Views, aliases, expanded and turned outputs, a frozen layer."""
    assert grad_error(own_spec("mixed"), 11, horizon=2) == 0.0


class Bound:
    """A plan bound to a model and the backend, with plain training beside it."""

    def __init__(self, spec: ModelSpec, **settings: Any) -> None:
        workload = workload_of(spec)
        self.plan = plan_for(workload, horizon=2, pipeline="simple")
        self.backend = make_backend("cuda", **settings)
        self.session = Session(spec, workload, (0,), self.backend.device, self.plan.microbatches)
        self.oracle = PlainTraining(self.session, *pass_orders(self.plan))
        self.operations = Operations(self.plan, self.session.in_units, self.session, self.backend, Links.of(HARDWARE))

    def step(self, number: int) -> float:
        """The step's largest difference from plain training's."""
        batches = self.session.batches(number, self.plan.microbatches)
        with on_device(self.backend.device, True):
            run = replay(self.operations, number, batches)
            return compared(number, self.session, self.oracle, run.losses, batches)


def test_an_exception_in_mid_step_and_then_a_good_step() -> None:
    bound = Bound(tiny_spec())
    assert bound.step(0) == 0.0
    batches = bound.session.batches(1, bound.plan.microbatches)
    ids, target = batches[2]
    broken = [*batches[:2], (ids[:1], target[:1]), *batches[3:]]
    with pytest.raises(InputError, match="memory is the same for every microbatch of every step"):
        replay(bound.operations, 1, broken)
    assert bound.step(1) == 0.0
    bound.backend.close()


def test_200_steps_take_no_more_memory() -> None:
    bound = Bound(tiny_spec())
    assert bound.step(0) == 0.0
    for number in range(1, 5):
        bound.step(number)
        replay(bound.operations, number, bound.session.batches(number, bound.plan.microbatches))  # other kernels
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    slabs = [slab.data_ptr() for slab in bound.operations.host.slabs]
    for number in range(5, 205):
        batches = bound.session.batches(number, bound.plan.microbatches)
        replay(bound.operations, number, batches)
        del batches
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before
    assert [slab.data_ptr() for slab in bound.operations.host.slabs] == slabs
    assert all(slab.is_pinned() for slab in bound.operations.host.slabs)
    bound.backend.close()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_the_host_never_waits_in_mid_step() -> None:
    """torch's own watch for operators that synchronize."""
    bound = Bound(tiny_spec())
    batches = bound.session.batches(1, bound.plan.microbatches)
    replay(bound.operations, 0, batches)
    finish = bound.backend.finish

    def relaxed() -> Any:
        torch.cuda.set_sync_debug_mode("default")
        return finish()

    bound.backend.finish = relaxed  # type: ignore[method-assign]
    torch.cuda.set_sync_debug_mode("error")
    try:
        replay(bound.operations, 1, batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    bound.backend.close()


EDGES = [(Kind.PREFETCH, Kind.RECOMPUTE), (Kind.OFFLOAD, Kind.RELEASE), (Kind.ACQUIRE, Kind.PREFETCH)]


@pytest.mark.parametrize(("source", "target"), EDGES)
def test_a_missing_wait_is_noticed(source: Kind, target: Kind) -> None:
    """Every edge of that kind left out, the verifier bypassed, memory poisoned, copies made late by delays."""
    spec = own_spec("sines")  # without ids: a wrong one would end the device's process
    workload = workload_of(spec)
    plan = plan_for(workload, horizon=1, pipeline="simple")
    for op in list(plan):
        for edge in op.after:
            if op.kind == target and plan.op(edge).kind == source:
                plan = with_column(plan, "after", without_entry(plan.ops.after, op.index, edge))
    noticed = 0
    for seed in range(4):
        try:
            run = execute(
                plan,
                workload,
                spec,
                costs=link_costs(workload),
                steps=4,
                device="cuda",
                delays_seed=seed,
                poison=True,
                verify=False,
            )
            noticed += run.max_grad_error != 0.0
        except LoadaheadError:
            noticed += 1
    assert noticed


def test_a_plan_of_two_ranks_is_one_line() -> None:
    spec = tiny_spec()
    units = workload_of(spec).stages[0]
    workload = Workload(stages=(units[:2], units[2:]))
    with pytest.raises(InputError, match=r"has 2 ranks; one run on cuda holds 1"):
        execute(plan_for(workload, ranks=2), workload, spec, costs=link_costs(workload), device="cuda")


def test_too_much_memory_is_one_line() -> None:
    spec = tiny_spec(options=WIDER | {"width": 512})
    workload = workload_of(spec)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(InputError, match="ran out of device memory"):
            execute(plan_for(workload), workload, spec, costs=link_costs(workload), device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
