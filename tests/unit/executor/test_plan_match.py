"""A plan fits a model: where each SEND lands, and what lies in each buffer."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from loadahead.executor.layout import Layout
from loadahead.executor.plan_match import buffer_layouts, landings
from loadahead.executor.session import Session
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import plan_from_json, plan_to_json
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind, Role, Space
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import Policy, build_plan
from tests.support.edits import take_ops, with_column, with_entry, without_entry
from tests.support.models import tiny_spec, workload_of

RANKS = 2
WORKLOAD = workload_of(tiny_spec(), RANKS)


@cache
def session() -> Session:
    return Session(tiny_spec(), WORKLOAD, tuple(range(RANKS)))


def plan_of(**policy: Any) -> Plan:
    return build_plan(WORKLOAD, Policy(**{"ranks": RANKS, "microbatches": 3, "horizon": 1} | policy))


def found(plan: Plan) -> dict[int, int]:
    return landings(list(plan), session())


def layouts(plan: Plan) -> dict[int, Layout]:
    return buffer_layouts(plan, list(plan), found(plan), session())


def first(plan: Plan, kind: Kind, at: int = 0) -> OpView:
    return [op for op in plan if op.kind == kind][at]


@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_a_send_lands_where_its_receive_writes(pipeline: str) -> None:
    plan = plan_of(pipeline=pipeline)
    sends = [op.index for op in plan if op.kind in SEND_KINDS]
    receives = [op for op in plan if op.kind in RECV_KINDS]
    assert len(sends) == 6
    for op in receives:
        (send,) = op.after
        assert found(plan)[send] == op.writes[0]
        assert plan.buffer(op.writes[0]).rank == op.rank != plan.op(send).rank
    assert sorted(found(plan)) == sends


@pytest.mark.parametrize("kind", sorted(RECV_KINDS))
def test_a_receive_may_wait_for_other_sends(kind: Kind) -> None:
    plan = plan_of()
    receive, other = first(plan, kind, 2), first(plan, kind, 1).after[0]
    assert found(with_column(plan, "after", with_entry(plan.ops.after, receive.index, other))) == found(plan)


def test_of_several_units_the_neighbour_has_sent() -> None:
    """Two stages send the same microbatch to two others; one RECV waits for both."""
    workload = workload_of(tiny_spec(), 4)
    plan = build_plan(workload, Policy(ranks=4, microbatches=1, horizon=1))
    own = Session(tiny_spec(), workload, (0, 1, 2, 3))
    receive, early = first(plan, Kind.RECV_ACTIVATION, 2), first(plan, Kind.SEND_ACTIVATION)
    more = with_column(plan, "after", with_entry(plan.ops.after, receive.index, early.index))
    assert landings(list(more), own) == landings(list(plan), own)


def test_a_send_that_no_one_receives() -> None:
    plan = plan_of()
    receive = first(plan, Kind.RECV_GRADIENT)
    rest = take_ops(plan, [op.index for op in plan if op.index != receive.index])
    with pytest.raises(InputError, match=r"SEND_GRADIENT 1\.0\.0 is received by no RECV; the plan names no buffer"):
        found(rest)


def test_a_receive_of_nothing() -> None:
    plan = plan_of()
    receive = first(plan, Kind.RECV_ACTIVATION)
    rest = with_column(plan, "after", without_entry(plan.ops.after, receive.index, receive.after[0]))
    with pytest.raises(InputError, match=r"RECV_ACTIVATION 1\.0\.0 waits for 0 SENDs of what it receives"):
        found(rest)


def test_a_send_that_is_received_twice() -> None:
    plan = plan_of()
    at = first(plan, Kind.RECV_ACTIVATION).index
    order = list(range(len(plan)))
    with pytest.raises(InputError, match=r"SEND_ACTIVATION 0\.1\.0 is received twice"):
        found(take_ops(plan, [*order[: at + 1], at, *order[at + 1 :]]))


def test_a_receive_into_no_buffer() -> None:
    plan = plan_of()
    receive = first(plan, Kind.RECV_ACTIVATION)
    rest = with_column(plan, "writes", without_entry(plan.ops.writes, receive.index, receive.writes[0]))
    with pytest.raises(InputError, match=r"RECV_ACTIVATION 1\.0\.0 writes 0 buffers"):
        found(rest)


def test_copies_hand_on_what_they_copy() -> None:
    plan = plan_of()
    known = layouts(plan)
    for op in plan:
        if op.kind in SEND_KINDS:
            assert known[found(plan)[op.index]] == known[op.reads[0]]
        if op.kind == Kind.PREFETCH:
            assert known[op.writes[0]] == session().layouts[op.stage, op.unit]
    device = [i for i in range(len(plan.buffers)) if plan.buffer(i).space == Space.DEVICE]
    assert sorted(known) == device
    assert all(known[i].nbytes == plan.buffer(i).nbytes for i in device)


def test_without_checkpointing_a_workspace_is_the_tasks_own() -> None:
    plan = plan_of(checkpoint=False)
    assert {plan.buffer(i).role for i in layouts(plan)} == {Role.BOUNDARY, Role.OUTPUT, Role.GRADIENT}


def test_a_copy_of_nothing() -> None:
    plan = plan_of()
    offload = first(plan, Kind.OFFLOAD, 1)
    rest = take_ops(plan, [op.index for op in plan if op.index != offload.index])
    words = rf"PREFETCH 0\.\d\.\d copies buffer {offload.writes[0]}, which nothing has written before"
    with pytest.raises(InputError, match=words):
        layouts(rest)


def test_memory_that_nothing_writes_is_bytes() -> None:
    obj = plan_to_json(plan_of())
    at, op = len(obj["buffers"]), len(obj["ops"])
    nowhere = {"rank": 1, "stage": -1, "unit": -1, "microbatch": -1}
    obj["buffers"].append({"id": at, "space": "device", "bytes": 77, "role": "output"} | nowhere)
    nothing = {"queue": "compute", "after": [], "reads": [], "writes": [], "allocs": [], "frees": [], "bytes": 0}
    obj["ops"].append(nothing | nowhere | {"id": op, "kind": "ACQUIRE", "allocs": [at]})
    obj["ops"].append(nothing | nowhere | {"id": op + 1, "kind": "RELEASE", "frees": [at]})
    assert layouts(plan_from_json(obj))[at] == Layout((77,), (1,), torch.uint8)
