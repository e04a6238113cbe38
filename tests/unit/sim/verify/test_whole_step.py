"""What a plan must have to be the whole step: each rule is broken once by hand, and names what breaks it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from loadahead.sim.ir.kinds import UNIT_KINDS, Kind, Role, Space
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.verify import Violation, explain, verify
from loadahead.sim.workload import PassThrough, UnitShape, Workload
from tests.support.damages import sent_twice, transfers_crossed
from tests.support.plan_rows import Buffer, Row, Rows, rows_of
from tests.support.plans import uniform_plan

HUGE = 2**31 - 1


def step(ranks: int = 2, units: int = 2, microbatches: int = 3, **policy: Any) -> Rows:
    return rows_of(uniform_plan(ranks, units, microbatches, **policy))


def rich_step(checkpoint: bool = True, frozen: int = 0, readers: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Two ranks of two units, with module buffers and a mask."""
    unit = UnitShape(boundary_bytes=8, gradient_bytes=8, saved_bytes=16, state_bytes=4)
    passed = (PassThrough(nbytes=2, readers=readers),)
    workload = Workload(stages=((unit, unit), (unit, unit)), frozen_units=frozen, passed=passed)
    return rows_of(build_plan(workload, Policy(ranks=2, microbatches=2, checkpoint=checkpoint, offload=False)))


def find(rows: Rows, kind: Kind, stage: int = 0, unit: int = 0, microbatch: int = 0) -> Row:
    return next(op for op in rows.ops if (op.kind, op.key) == (kind, (stage, unit, microbatch)))


def held(rows: Rows, op: Row, role: Role, name: str = "reads") -> int:
    """The buffer of this role in one of an operation's lists."""
    column: list[int] = getattr(op, name)
    return next(buffer for buffer in column if rows.buffers[buffer].role == role)


def swap(row: list[int], old: int, new: int) -> None:
    row[row.index(old)] = new


def add_buffer(rows: Rows, op: Row, role: Role = Role.WORKSPACE, nbytes: int = 1) -> int:
    rows.buffers.append(Buffer(op.rank, Space.DEVICE, nbytes, role, op.key))
    return len(rows.buffers) - 1


def broken(rows: Rows) -> list[Violation]:
    return verify(rows.plan())


def remove(kind: Kind, *key: int) -> Callable[[Rows], None]:
    return lambda rows: rows.remove(find(rows, kind, *key))


def rename(kind: Kind, *key: int) -> Callable[[Rows], None]:
    def edit(rows: Rows) -> None:
        find(rows, kind).key = key  # type: ignore[assignment]

    return edit


def read_another(kind: Kind, role: Role, name: str = "reads") -> Callable[[Rows], None]:
    """An operation of microbatch 0 takes what is microbatch 1's."""

    def edit(rows: Rows) -> None:
        ops = [op for op in rows.ops if op.kind == kind]
        ops = [op for op in ops if role in {rows.buffers[buffer].role for buffer in getattr(op, name)}]
        mine = next(op for op in ops if op.key[2] == 0)
        other = next(op for op in ops if op.key == (*mine.key[:2], 1))
        swap(getattr(mine, name), held(rows, mine, role, name), held(rows, other, role, name))

    return edit


def recompute_after_backward(rows: Rows) -> None:
    backward = find(rows, Kind.BACKWARD)
    rows.move(find(rows, Kind.RECOMPUTE), rows.ops.index(backward) + 1)


def recompute_early(rows: Rows) -> None:
    queue = [op for op in rows.ops if op.queue == find(rows, Kind.BACKWARD).queue]
    recompute = find(rows, Kind.RECOMPUTE)
    task = [op for op in queue[: queue.index(recompute)] if op.kind in UNIT_KINDS][-1]
    rows.move(recompute, rows.ops.index(task))
    rows.drop_forward_edges()


def freed_by_recompute(rows: Rows) -> None:
    recompute, backward = find(rows, Kind.RECOMPUTE), find(rows, Kind.BACKWARD)
    boundary = held(rows, backward, Role.BOUNDARY)
    backward.frees.remove(boundary)
    recompute.frees.append(boundary)


def reads_nothing(rows: Rows) -> None:
    find(rows, Kind.FORWARD, 0, 1).reads.clear()


def on_rank_1(rows: Rows) -> None:
    find(rows, Kind.FORWARD, 0, 1).rank = 1


def second_step(rows: Rows) -> None:
    rows.ops.append(next(op for op in rows.ops if op.kind == Kind.OPTIMIZER_STEP).copy())


def step_early(rows: Rows) -> None:
    rows.move(next(op for op in rows.ops if op.kind == Kind.OPTIMIZER_STEP and op.rank == 0), 0)


def no_step(rows: Rows) -> None:
    rows.remove(next(op for op in rows.ops if op.kind == Kind.OPTIMIZER_STEP))


def empty(rows: Rows) -> None:
    rows.ops.clear()


def step_reads(rows: Rows) -> None:
    step_of_rank = next(op for op in rows.ops if op.kind == Kind.OPTIMIZER_STEP)
    step_of_rank.reads.append(held(rows, find(rows, Kind.FORWARD), Role.BOUNDARY))


def taken_by_an_acquire(rows: Rows) -> None:
    """A FORWARD writes into memory that stands ready, where DESIGN says that it takes it."""
    forward = find(rows, Kind.FORWARD, 0, 0, 0)
    output = next(buffer for buffer in forward.writes if rows.buffers[buffer].key == (0, 1, 0))
    forward.allocs.remove(output)
    rows.ops.insert(0, Row(0, Kind.ACQUIRE, (0, 1, 0), 0, allocs=[output]))


def taken_for_another(rows: Rows) -> None:
    """A FORWARD takes the memory that a later one receives into."""
    late = next(op for op in rows.ops if op.kind == Kind.ACQUIRE and op.rank == 1 and op.key[2] == 2)
    rows.remove(late)
    next(op for op in rows.ops if op.kind == Kind.FORWARD and op.rank == 1).allocs += late.allocs


def output_for_the_own_rank(rows: Rows) -> None:
    rows.buffers[held(rows, find(rows, Kind.FORWARD, 0, 1), Role.OUTPUT, "writes")].role = Role.BOUNDARY


def release_of_another(rows: Rows) -> None:
    next(op for op in rows.ops if op.kind == Kind.RELEASE).key = (1, 1, 2)


CASES: dict[str, tuple[Callable[[Rows], None], str, str]] = {
    "empty": (empty, "whole-step", "the plan has no task"),
    "a FORWARD is missing": (
        remove(Kind.FORWARD, 0, 1, 1),
        "whole-step",
        "FORWARD 0.1.1 is missing: FORWARD of unit 0.1 is there for 2 of 3 microbatches",
    ),
    "a BACKWARD is missing": (remove(Kind.BACKWARD, 1, 0, 2), "whole-step", "BACKWARD 1.0.2 is missing"),
    "stage beyond": (rename(Kind.FORWARD, HUGE, 0, 0), "labels", "no task names stage 2"),
    "unit beyond": (rename(Kind.FORWARD, 0, HUGE, 0), "labels", "of stage 0 and no task names unit 2"),
    "microbatch beyond": (rename(Kind.FORWARD, 0, 0, 3), "labels", "one of microbatches 0 to 2"),
    "no microbatch": (rename(Kind.BACKWARD, 0, 0, -1), "labels", "one of microbatches 0 to 2"),
    "another's name": (rename(Kind.FORWARD, 0, 0, 1), "task-once", "runs the task of FORWARD 0.0.1"),
    "a copy names nothing there is": (rename(Kind.OFFLOAD, 0, 5, 0), "labels", "names stage 0, unit 5"),
    "a RELEASE of another": (release_of_another, "labels", "names what none of its buffers is of"),
    "a unit on two ranks": (on_rank_1, "stage-rank", "is on another rank than FORWARD 0.0.0"),
    "RECOMPUTE after BACKWARD": (recompute_after_backward, "recompute-place", "before BACKWARD 0.0.0"),
    "RECOMPUTE before something else": (
        recompute_early,
        "recompute-place",
        "only RELEASEs, and ACQUIREs behind them, may",
    ),
    "a RECOMPUTE is missing": (
        remove(Kind.RECOMPUTE, 0, 1, 1),
        "workspace",
        "has no RECOMPUTE, and does not read one workspace that FORWARD 0.1.1",
    ),
    "its RECOMPUTE frees the boundary": (freed_by_recompute, "free-after-use", "BACKWARD 0.0.0"),
    "reads nothing": (reads_nothing, "reads-own", "does not read the boundary of its own unit and microbatch"),
    "reads another's boundary": (
        read_another(Kind.FORWARD, Role.BOUNDARY),
        "reads-own",
        "it reads only the boundary of its own unit and microbatch",
    ),
    "RECOMPUTE reads another's boundary": (read_another(Kind.RECOMPUTE, Role.BOUNDARY), "reads-own", "RECOMPUTE"),
    "BACKWARD reads another's gradient": (
        read_another(Kind.BACKWARD, Role.GRADIENT),
        "reads-own",
        "the gradient that the unit above makes of its input",
    ),
    "another's output is sent": (read_another(Kind.SEND_ACTIVATION, Role.OUTPUT), "send-own", "FORWARD 0.1.0"),
    "another's gradient is sent": (read_another(Kind.SEND_GRADIENT, Role.GRADIENT), "send-own", "BACKWARD 1.0.0"),
    "received as another's": (read_another(Kind.RECV_ACTIVATION, Role.BOUNDARY, "writes"), "receive-own", "RECV"),
    "an output by another role": (output_for_the_own_rank, "writes-own", "FORWARD 0.1.0"),
    "memory from an ACQUIRE": (taken_by_an_acquire, "takes-own", "a task takes what it writes"),
    "memory for another": (taken_for_another, "takes-own", "a task takes memory for itself alone"),
    "a second OPTIMIZER_STEP": (second_step, "optimizer-once", "is the rank's second"),
    "no OPTIMIZER_STEP": (no_step, "optimizer-once", "rank 0 has no OPTIMIZER_STEP behind BACKWARD 0.0.2"),
    "OPTIMIZER_STEP first": (step_early, "optimizer-last", "runs after OPTIMIZER_STEP"),
    "OPTIMIZER_STEP reads": (step_reads, "operation-shape", "OPTIMIZER_STEP has 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_rule_names_itself_and_the_operations(case: str) -> None:
    edit, rule, words = CASES[case]
    rows = step(horizon=1)
    assert broken(rows) == []
    edit(rows)
    found = {violation.message for violation in broken(rows) if violation.rule == rule}
    assert any(words in message for message in found), broken(rows)


def test_a_violation_shows_its_operations_in_their_queues() -> None:
    rows = step(1, 1, 2, offload=False)
    recompute_after_backward(rows)
    plan = rows.plan()
    violation = next(found for found in verify(plan) if found.rule == "recompute-place")
    assert [plan.op(op).name for op in violation.ops] == ["RECOMPUTE 0.0.0", "BACKWARD 0.0.0"]
    assert ">2:BACKWARD 0.0.0< | >3:RECOMPUTE 0.0.0<" in explain(plan, violation)


@pytest.mark.parametrize("name", [(HUGE, 0, 0), (0, HUGE, 0), (0, 0, HUGE), (HUGE, HUGE, HUGE)])
@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.BACKWARD, Kind.OFFLOAD, Kind.RELEASE, Kind.OPTIMIZER_STEP])
def test_a_name_costs_no_memory(name: tuple[int, int, int], kind: Kind) -> None:
    rows = step(1, 2, 6, horizon=1)
    assert broken(rows) == []  # all is imported and compiled
    next(op for op in rows.ops if op.kind == kind).key = name
    rows.buffers[0].key = name
    for microbatches in (rows.microbatches, HUGE):
        rows.microbatches = microbatches
        plan = rows.plan()
        tracemalloc.start()
        found = {violation.rule for violation in verify(plan)}
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found & {"labels", "whole-step"} and peak < 2_000_000


def test_more_microbatches_than_are_there() -> None:
    rows = step(1, 2, 3)
    rows.microbatches = HUGE
    messages = [violation.message for violation in broken(rows) if violation.rule == "whole-step"]
    assert len(messages) == 4  # FORWARD and BACKWARD of two units
    assert messages[0].startswith(
        "FORWARD 0.0.3 is missing: FORWARD of unit 0.0 is there for 3 of 2147483647 microbatches"
    )


# ---- without checkpointing, module buffers, what is passed on -------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("frozen", range(4))
def test_plans_with_workspaces_are_whole(checkpoint: bool, frozen: int) -> None:
    assert broken(rich_step(checkpoint, frozen)) == []


def test_all_recomputes_dropped() -> None:
    rows = rich_step()
    for op in [op for op in rows.ops if op.kind == Kind.RECOMPUTE]:
        rows.remove(op)
    found = broken(rows)
    assert sum("has no RECOMPUTE" in violation.message for violation in found) == 8  # each BACKWARD


def test_a_backward_without_recompute_reads_what_its_own_forward_kept() -> None:
    rows = rich_step(checkpoint=False)
    mine, other = find(rows, Kind.BACKWARD, 1, 0, 0), find(rows, Kind.BACKWARD, 1, 0, 1)
    swap(mine.reads, held(rows, mine, Role.WORKSPACE), held(rows, other, Role.WORKSPACE))
    assert any("it is not its own" in violation.message for violation in broken(rows))


def test_a_backward_with_recompute_reads_nothing_that_was_kept() -> None:
    rows = rich_step()
    state = held(rows, find(rows, Kind.RECOMPUTE, 1, 0), Role.WORKSPACE)
    find(rows, Kind.BACKWARD, 1, 0).reads.append(state)
    assert {violation.rule for violation in broken(rows)} == {"workspace"}
    assert "its RECOMPUTE makes its activations again" in broken(rows)[0].message


def test_what_a_forward_leaves_is_read() -> None:
    rows = rich_step()
    recompute = find(rows, Kind.RECOMPUTE, 1, 0)
    recompute.reads.remove(held(rows, recompute, Role.WORKSPACE))
    assert [violation.rule for violation in broken(rows)] == ["workspace"]
    assert "which no other task reads" in broken(rows)[0].message


@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD])
def test_what_is_passed_on_is_read_by_all_passes_of_a_unit(kind: Kind) -> None:
    rows = rich_step()
    mask = next(
        buffer for buffer in find(rows, Kind.FORWARD, 0, 0).reads if rows.buffers[buffer].role == Role.WORKSPACE
    )
    find(rows, kind, 0, 1).reads.remove(mask)
    found = broken(rows)
    assert [violation.rule for violation in found] == ["workspace"]
    assert f"{kind.name} 0.1.0" in found[0].message and "all of them do, or none" in found[0].message


def test_what_is_passed_on_is_of_the_microbatch() -> None:
    rows = rich_step(readers=(0, 1))
    masks = [held(rows, find(rows, Kind.FORWARD, 0, 0, m), Role.WORKSPACE) for m in range(2)]
    for kind in (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD):
        swap(find(rows, kind, 0, 1, 1).reads, masks[1], masks[0])
    assert "workspace" in {violation.rule for violation in broken(rows)}


# ---- a frozen front -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "rule"), [(0, "whole-step"), (1, "whole-step"), (3, "frozen-front")])
def test_the_head_says_which_units_are_frozen(units: int, rule: str) -> None:
    rows = rich_step(frozen=2)
    rows.frozen_units = units
    assert broken(rows)[0].rule == rule


@pytest.mark.parametrize("units", [-1, 4, HUGE])
def test_a_model_is_not_frozen_as_a_whole(units: int) -> None:
    rows = rich_step()
    rows.frozen_units = units
    assert broken(rows)[0].rule == "frozen-front" and "0 to 3 may be frozen" in broken(rows)[0].message


def test_no_gradient_is_made_for_frozen_units() -> None:
    rows = rich_step(frozen=1)
    backward = find(rows, Kind.BACKWARD, 0, 1)
    gradient = add_buffer(rows, backward, Role.GRADIENT)
    for column in (backward.writes, backward.allocs, backward.frees):
        column.append(gradient)
    assert [violation.rule for violation in broken(rows)] == ["writes-own"]


# ---- split backward, and memory inside of operations ----------------------------------------------------------------


def split(rows: Rows) -> list[Row]:
    """Each BACKWARD in its two halves, one directly behind the other; the second halves are returned."""
    out = []
    for op in [op for op in rows.ops if op.kind == Kind.BACKWARD]:
        op.kind = Kind.BACKWARD_INPUT
        weight = Row(op.rank, Kind.BACKWARD_WEIGHT, op.key, 0, reads=list(op.reads), frees=op.frees)
        op.frees = []
        rows.ops.insert(rows.ops.index(op) + 1, weight)
        out.append(weight)
    return out


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_split_backward_is_whole(checkpoint: bool) -> None:
    rows = rich_step(checkpoint)
    split(rows)
    assert broken(rows) == []


def test_one_half_of_a_backward_is_not_whole() -> None:
    rows = step(1, 1, 2)
    rows.remove(split(rows)[0])
    assert "BACKWARD_INPUT 0.0.0" in next(v.message for v in broken(rows) if v.rule == "whole-step")


def test_a_second_half_that_reads_nothing_is_refused() -> None:
    """What its first half read may be gone."""
    rows = step(1, 1, 2, offload=False)
    for weight in split(rows):
        half = rows.ops[rows.ops.index(weight) - 1]
        half.frees, weight.frees, weight.reads = weight.frees, [], []
    assert {violation.rule for violation in broken(rows)} == {"reads-own"}


@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD])
@pytest.mark.parametrize("reads", [True, False])
def test_a_task_may_have_a_workspace_of_its_own(kind: Kind, reads: bool) -> None:
    rows = step(1, 1, 2)
    op = find(rows, kind)
    scratch = add_buffer(rows, op)
    for column in (op.allocs, op.writes, op.frees, *([op.reads] if reads else [])):
        column.append(scratch)
    assert broken(rows) == []


def test_a_late_half_needs_a_workspace_to_read() -> None:
    rows = step(1, 1, 2, offload=False)
    weight, half = split(rows)[0], find(rows, Kind.BACKWARD_INPUT)
    rows.move(weight, len(rows.ops) - 1)
    assert [violation.rule for violation in broken(rows)] == ["workspace"]
    inner = add_buffer(rows, half)
    half.writes.append(inner)
    half.allocs.append(inner)
    weight.reads.append(inner)
    weight.frees.append(inner)
    assert broken(rows) == []
    rows.move(weight, rows.ops.index(half))
    assert {"backward-after-forward", "read-after-write"} <= {violation.rule for violation in broken(rows)}


def test_memory_inside_of_operations_may_be_a_workspace() -> None:
    rows = step(1, 2, 2)
    recompute, backward = find(rows, Kind.RECOMPUTE, 0, 1), find(rows, Kind.BACKWARD, 0, 1)
    inner = add_buffer(rows, recompute)
    recompute.writes.append(inner)
    recompute.allocs.append(inner)
    backward.reads.append(inner)
    backward.frees.append(inner)
    for op in (find(rows, Kind.FORWARD), next(op for op in rows.ops if op.kind == Kind.OPTIMIZER_STEP)):
        temporary = add_buffer(rows, op)
        op.allocs.append(temporary)
        op.frees.append(temporary)
    assert broken(rows) == []


# ---- transfers ------------------------------------------------------------------------------------------------------


def test_a_send_waits_for_the_memory_that_it_is_sent_into() -> None:
    rows = step(2, 1, 3, offload=False)
    send = find(rows, Kind.SEND_ACTIVATION, 0, 0, 1)
    acquire = next(edge for edge in send.after if edge.kind == Kind.ACQUIRE)
    send.after.remove(acquire)
    receive = find(rows, Kind.RECV_ACTIVATION, 1, 0, 1)
    receive.after.append(acquire)  # as plans of version 1 have it
    found = broken(rows)
    assert [violation.rule for violation in found] == ["send-into-memory"]
    assert "SEND_ACTIVATION 0.0.1" in found[0].message and "does not wait for ACQUIRE 1.0.1" in found[0].message


@pytest.mark.parametrize("kind", [Kind.SEND_ACTIVATION, Kind.RECV_ACTIVATION])
def test_transfers_between_two_ranks_keep_their_order(kind: Kind) -> None:
    rows = step(2, 1, 3, offload=False, receive_ahead=3)
    random = Random(0)
    while transfers_crossed(rows, random, {kind}) is None:
        pass
    found = {violation.rule: violation.message for violation in broken(rows)}
    assert "transfer-order" in found, found
    assert "what is sent first is received first" in found["transfer-order"]


def test_a_transfer_goes_to_the_unit_that_reads_it() -> None:
    rows = step(2, 1, 2, offload=False)
    mine, other = (find(rows, Kind.RECV_ACTIVATION, 1, 0, m) for m in range(2))
    sends = [next(edge for edge in op.after if edge.kind == Kind.SEND_ACTIVATION) for op in (mine, other)]
    mine.after[mine.after.index(sends[0])] = sends[1]
    rows.drop_forward_edges()
    assert "send-recv-pair" in {violation.rule for violation in broken(rows)}


def test_nothing_is_sent_twice() -> None:
    rows = step(2, 1, 2, offload=False)
    sent_twice(rows, Random(0))
    assert {violation.rule for violation in broken(rows)} == {"task-once"}
