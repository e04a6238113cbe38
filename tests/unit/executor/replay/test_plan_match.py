"""A plan fits a model: where each SEND lands, and what lies in each buffer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.in_units import ModelInUnits
from loadahead.executor.replay.plan_match import (
    buffer_layouts,
    handed_buffers,
    landings,
    require_kept_bytes,
    stage_ranks,
    unheld_workspaces,
)
from loadahead.executor.tensors.layout import Layout
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import plan_from_json, plan_to_json
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind, Role, Space
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.edits import take_ops, with_column, with_entry, without_entry
from tests.support.models import Masked, Unmasked, given_spec, masked_data, tiny_spec, workload_of

RANKS = 2
WORKLOAD = workload_of(tiny_spec(), RANKS)


@cache
def model() -> ModelInUnits:
    return Session(tiny_spec(), WORKLOAD, tuple(range(RANKS))).in_units


def plan_of(**policy: Any) -> Plan:
    return build_plan(WORKLOAD, Policy(**{"ranks": RANKS, "microbatches": 3, "horizon": 1} | policy))


def found(plan: Plan) -> dict[int, int]:
    return landings(list(plan), model())


def layouts(plan: Plan) -> dict[int, tuple[Layout, ...]]:
    return buffer_layouts(plan, list(plan), found(plan), model())


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
    own = Session(tiny_spec(), workload, (0, 1, 2, 3)).in_units
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
            assert known[op.writes[0]] == model().forms[op.stage, op.unit].layouts
    device = [i for i in range(len(plan.buffers)) if plan.buffer(i).space == Space.DEVICE]
    assert sorted(known) == device
    assert all(sum(layout.nbytes for layout in known[i]) == plan.buffer(i).nbytes for i in device)


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
    assert layouts(plan_from_json(obj))[at] == (Layout((77,), (1,), torch.uint8),)


# ---- boundaries of several tensors, tensors that are handed on, and the modules' state ----

MASKED = given_spec(Masked(), Masked(norm=True), Masked(), Unmasked(), data=masked_data)
X, MASK, STATE = 2 * 8 * 4, 8 * 4, 2 * 8 * 4 + 8  # bytes


@cache
def masked_workload(ranks: int = RANKS) -> Workload:
    return workload_of(MASKED, ranks)


@cache
def masked_model(ranks: int = RANKS) -> ModelInUnits:
    return Session(MASKED, masked_workload(ranks), tuple(range(ranks))).in_units


def masked_plan(workload: Workload | None = None, **policy: Any) -> Plan:
    own = masked_workload() if workload is None else workload
    return build_plan(own, Policy(**{"ranks": len(own.stages), "microbatches": 3, "horizon": 1} | policy))


def require_fit(plan: Plan, ranks: int = RANKS) -> dict[tuple[int, int, int], int]:
    """The buffers of what is handed on; InputError where plan and model do not fit."""
    own = masked_model(ranks)
    buffer_layouts(plan, list(plan), landings(list(plan), own), own)
    require_kept_bytes(plan, list(plan), own.workload)
    return handed_buffers(plan, list(plan), own)


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_what_is_handed_on_has_a_buffer_for_each_rank_and_microbatch(ranks: int, checkpoint: bool) -> None:
    plan = masked_plan(masked_workload(ranks), checkpoint=checkpoint)
    fits = require_fit(plan, ranks)
    assert sorted(fits) == [(0, rank, microbatch) for rank in range(ranks) for microbatch in range(3)]
    assert len(set(fits.values())) == len(fits)
    for (_, rank, microbatch), index in fits.items():
        buffer = plan.buffer(index)
        assert (buffer.rank, buffer.microbatch, buffer.nbytes, buffer.role) == (rank, microbatch, MASK, Role.WORKSPACE)
    assert unheld_workspaces(plan) == (0, 0)


def test_a_boundary_of_a_mask_and_more_is_what_is_not_handed_on() -> None:
    own, plan = masked_model(), masked_plan()
    known = buffer_layouts(plan, list(plan), landings(list(plan), own), own)
    x = Layout((2, 8), (8, 1), torch.float32)
    assert set(known.values()) == {(x,)}
    assert all(plan.buffer(index).nbytes == X for index in known)


def test_a_boundary_of_several_tensors_is_one_buffer() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.sin(), (x > 0).sum(1)

    class Back(nn.Module):
        def forward(self, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return given[0] * given[1][:, None]

    spec = given_spec(nn.Linear(8, 8), Two(), Back())
    workload = workload_of(spec)
    own, plan = Session(spec, workload, (0,)).in_units, build_plan(workload, Policy(ranks=1, microbatches=2))
    known = buffer_layouts(plan, list(plan), {}, own)
    x, ids = Layout((2, 8), (8, 1), torch.float32), Layout((2,), (1,), torch.int64)
    for index, layouts_ in known.items():
        buffer = plan.buffer(index)
        several = buffer.unit == 2 and buffer.role != Role.GRADIENT
        assert layouts_ == ((x, ids) if several else (x,))
        assert buffer.nbytes == (X + 2 * 8 if several else X)


def test_a_plan_without_the_mask_is_one_line() -> None:
    words = r"units 0\.0 to 0\.1 hand on float32\[8\] and the plan has no such buffer for microbatch 0: plan for this"
    with pytest.raises(InputError, match=words):
        require_fit(masked_plan(replace(masked_workload(), passed=())))
    (tensor,) = masked_workload().passed
    for other in (replace(tensor, nbytes=MASK + 4), replace(tensor, readers=(0, 1, 2))):
        with pytest.raises(InputError, match="the plan has no such buffer for microbatch 0"):
            require_fit(masked_plan(replace(masked_workload(), passed=(other,))))


def test_a_plan_that_hands_more_on_is_one_line() -> None:
    (tensor,) = masked_workload().passed
    plan = masked_plan(replace(masked_workload(), passed=(tensor, replace(tensor, nbytes=12, readers=(0, 1)))))
    with pytest.raises(
        InputError, match=r"buffer \d+ of 12 bytes is handed on from unit to unit; the model hands on no"
    ):
        require_fit(plan)


@pytest.mark.parametrize("nbytes", [0, STATE + 8])
def test_a_plan_with_other_state_is_one_line(nbytes: int) -> None:
    first, second = masked_workload().stages
    assert first[1].state_bytes == STATE
    stages = ((first[0], replace(first[1], state_bytes=nbytes)), second)
    words = (
        rf"RECOMPUTE 0\.1\.0 starts from {nbytes} bytes of the module's own values in the plan; .* changes {STATE} of"
    )
    with pytest.raises(InputError, match=words):
        require_fit(masked_plan(replace(masked_workload(), stages=stages)))


def test_a_plan_that_keeps_other_bytes_without_recompute_is_one_line() -> None:
    first, second = masked_workload().stages
    kept = first[0].saved_bytes
    stages = ((replace(first[0], saved_bytes=kept + 4), first[1]), second)
    words = (
        rf"BACKWARD 0\.0\.0 has no RECOMPUTE and its FORWARD keeps {kept + 4} bytes .*; the model's unit keeps {kept}"
    )
    with pytest.raises(InputError, match=words):
        require_fit(masked_plan(replace(masked_workload(), stages=stages), checkpoint=False))


def test_a_gradient_of_other_bytes_is_one_line() -> None:
    """The mask has none, so that a gradient is smaller than its boundary and the mask together."""
    first, second = masked_workload().stages
    stages = ((first[0], replace(first[1], gradient_bytes=X + MASK)), second)
    words = (
        rf"BACKWARD 0\.1\.0 writes a gradient of {X + MASK} bytes in the plan; the model's is float32\[2, 8\], {X} b"
    )
    with pytest.raises(InputError, match=words):
        require_fit(masked_plan(replace(masked_workload(), stages=stages)))


def test_workspaces_that_no_run_holds_are_counted() -> None:
    """A workspace that an operation takes and nobody reads after it is the plan's alone."""
    obj = plan_to_json(masked_plan())
    at = len(obj["buffers"])
    place = {"rank": 0, "stage": 0, "unit": 0, "microbatch": 0}
    obj["buffers"].append({"id": at, "space": "device", "bytes": 55, "role": "workspace"} | place)
    forward = next(op for op in obj["ops"] if op["kind"] == "FORWARD")
    for name in ("allocs", "frees"):
        forward[name] = [*forward[name], at]
    assert unheld_workspaces(plan_from_json(obj)) == (1, 55)


def test_the_ranks_of_stages() -> None:
    plan = masked_plan()
    assert stage_ranks(plan, masked_workload()) == (0, 1)
    with pytest.raises(
        InputError, match=r"the plan has 4 units, the model is cut into 2; unit 1\.0 is only in the plan"
    ):
        stage_ranks(plan, Workload(stages=masked_workload().stages[:1]))
