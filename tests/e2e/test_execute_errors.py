"""What goes wrong is one line, leaves nothing behind, and the next run works."""

from __future__ import annotations

import gc
import signal
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan, Ragged
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.edits import take_ops
from tests.support.models import HARDWARE, link_costs, own_spec, tiny_spec, workload_of


def plan_for(workload: Workload, **policy: Any) -> Plan:
    fields = {"ranks": len(workload.stages), "microbatches": 4, "horizon": 2} | policy
    return build_plan(workload, Policy(**fields))


def run(spec: ModelSpec, workload: Workload, plan: Plan | None = None, **more: Any) -> Any:
    plan = plan_for(workload) if plan is None else plan
    return execute(plan, workload, spec, **{"costs": link_costs(workload), "steps": 2} | more)


def queue_threads() -> list[threading.Thread]:
    """Those of no training step of another test, which nobody closed."""
    found = threads()
    if found:
        gc.collect()
    return threads() if found else found


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loadahead")]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_layer_that_fails_in_mid_step(ranks: int) -> None:
    good, bad = ("", "", ""), ("", "fails later", "")
    workload = workload_of(own_spec("scales", options={"acts": good}), ranks)
    with pytest.raises(InputError, match=r"the model fails in unit .*: ValueError: no more"):
        run(own_spec("scales", options={"acts": bad}), workload)
    assert queue_threads() == []
    assert run(own_spec("scales", options={"acts": good}), workload).max_grad_error == 0.0


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_layer_that_fails_in_its_backward_pass(at: int, checkpoint: bool) -> None:
    acts = tuple("fails backward" if i == at else "" for i in range(3))
    workload = workload_of(own_spec("scales"))
    plan = plan_for(workload, checkpoint=checkpoint)
    with pytest.raises(InputError, match=rf"fails in the backward pass of unit 0\.{at}: KeyError: 'boom'") as caught:
        run(own_spec("scales", options={"acts": acts}), workload, plan)
    assert "\n" not in str(caught.value)
    assert queue_threads() == []


def test_a_layer_that_leaves_the_process() -> None:
    workload = workload_of(own_spec("scales"))
    with pytest.raises(InputError, match=r"the model fails in unit 0\.1: SystemExit: 5"):
        run(own_spec("scales", options={"acts": ("", "exits", "")}), workload)


def test_microbatches_of_another_shape() -> None:
    spec = own_spec("scales", options={"acts": ("", "grows", "")})
    workload = workload_of(own_spec("scales"))
    with pytest.raises(InputError, match=r"FORWARD 0\.1\.\d makes float32\[4, 8\] in step 1.*drop_last"):
        run(spec, workload)


def test_an_infinite_loss() -> None:
    workload = workload_of(own_spec("scales"))
    with pytest.raises(InputError, match=r"the loss of step 0 is .*: the model, its data or its loss makes it"):
        run(own_spec("scales", options={"acts": ("", "huge", "")}), workload, poison=True)


def test_ctrl_c_stops_all_queues() -> None:
    """It comes while a queue is busy and the caller waits for it."""
    good, interrupts = ("", "", ""), ("", "interrupts", "")
    workload = workload_of(own_spec("scales", options={"acts": good}))
    slow = link_costs(workload, d2h_latency_ns=300_000_000)
    # A test run that a shell started in the background has Ctrl-C switched off.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(own_spec("scales", options={"acts": interrupts}), workload, costs=slow, steps=50)
    finally:
        signal.signal(signal.SIGINT, before)
    assert queue_threads() == []
    assert run(own_spec("scales", options={"acts": good}), workload).max_grad_error == 0.0


def test_what_the_caller_does_per_step_may_fail() -> None:
    spec = tiny_spec()

    def fails(step: int, loss: float) -> None:
        raise RuntimeError("caller")

    with pytest.raises(RuntimeError, match="caller"):
        run(spec, workload_of(spec), on_step=fails)
    assert queue_threads() == []


def test_the_processes_settings_are_put_back() -> None:
    torch.manual_seed(11)
    spec = tiny_spec()
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(spec, workload_of(spec, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 1}, "steps is 1; at least 2 are needed"),
        ({"device": "abacus"}, "device is 'abacus'; it must be one of cpu"),
        ({"spec": own_spec("scales", options={"acts": ("", "")})}, "the units hold 4 layers and the model has 2"),
    ],
)
def test_bad_calls(changes: dict[str, Any], words: str) -> None:
    spec = tiny_spec()
    arguments = {"spec": spec} | changes
    with pytest.raises(InputError, match=words):
        run(workload=workload_of(spec), **arguments)
    assert queue_threads() == []


def test_a_plan_of_another_size() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    unit = workload.stages[0][1]
    wide = Workload(stages=((*workload.stages[0][:1], replace(unit, boundary_bytes=2048), *workload.stages[0][2:]),))
    words = r"writes a boundary of 2048 bytes in the plan; the model's is float32\[2, 8, 16\], 1024 bytes"
    with pytest.raises(InputError, match=words):
        run(spec, workload, plan_for(wide))
    with pytest.raises(InputError, match=r"unit 0\.3 is only in the model"):
        run(spec, workload, plan_for(Workload(stages=(workload.stages[0][:3],))))


def test_a_split_backward_is_refused_clearly() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = plan_for(workload)
    kind = plan.ops.kind.copy()
    kind[kind == Kind.BACKWARD] = Kind.BACKWARD_INPUT
    split = replace(plan, ops=replace(plan.ops, kind=kind))
    with pytest.raises(InputError, match=r"BACKWARD_INPUT .* is not supported by the cpu backend yet"):
        run(spec, workload, split, verify=False, check_gradients=False)


def test_a_plan_that_freezes_units_which_train() -> None:
    spec = tiny_spec()
    workload = replace(workload_of(spec), frozen_units=2)
    with pytest.raises(InputError, match=r"first 0 units need no backward pass, and the first 2 have none in the plan"):
        run(spec, workload)
    assert queue_threads() == []


@pytest.mark.parametrize("check", [True, False])
def test_a_part_of_the_step_is_refused(check: bool) -> None:
    """A plan of three of four microbatches is not run, whether gradients are checked or not."""
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = plan_for(workload)
    part = take_ops(plan, [op.index for op in plan if op.microbatch != 3])
    with pytest.raises(CheckFailed, match="is not safe to run"):
        run(spec, workload, part, check_gradients=check)


def test_what_is_checked_is_the_whole_step_even_unproven() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = plan_for(workload)
    part = take_ops(plan, [op.index for op in plan if op.microbatch != 3])
    with pytest.raises(InputError, match=r"unit 0\.\d has no BACKWARD of microbatch 3; it must have one of each"):
        run(spec, workload, part, verify=False)


def test_a_plan_with_an_edge_forwards_is_refused_even_unproven() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = plan_for(workload)
    rows = plan.ops.after.to_lists()
    rows[0] = [len(plan) - 1]
    with pytest.raises(InputError, match="is malformed"):
        run(spec, workload, replace(plan, ops=replace(plan.ops, after=Ragged.from_lists(rows))), verify=False)


def test_more_ranks_than_cores_and_too_little_memory_are_said() -> None:
    spec = own_spec("scales", options={"acts": ("",) * 65})
    workload = workload_of(spec, 65)
    done = run(spec, workload, plan_for(workload, microbatches=1), costs=link_costs(workload, memory_bytes=100))
    assert any("65 ranks ran as threads" in text for text in done.warnings)
    assert any("rank 0 held" in text and "more than the device's 100 B" in text for text in done.warnings)
    assert done.max_grad_error == 0.0


def test_repeats_of_nothing() -> None:
    spec = tiny_spec()
    with pytest.raises(InputError, match="repeats is 0"):
        calibrate(workload_of(spec), spec, hardware=HARDWARE, repeats=0)
