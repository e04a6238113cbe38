"""What a rejected plan's owner reads: the rule, the two operations, and their queues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadahead.sim.errors import CheckFailed
from loadahead.sim.ir.json_form import FORMAT, VERSION
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan, Ragged
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text
from loadahead.sim.verify import check, explain, verify
from tests.support.edits import take_ops, with_column, with_entry, without_entry
from tests.support.plans import uniform_plan


def _op(plan: Plan, kind: Kind, nth: int = 0) -> int:
    return int(np.flatnonzero(plan.ops.kind == kind)[nth])


def _rules(plan: Plan) -> set[str]:
    return {violation.rule for violation in verify(plan)}


def _drop(plan: Plan, kind: Kind, source: Kind, nth: int = 0) -> Plan:
    op = _op(plan, kind, nth)
    edge = next(int(e) for e in plan.ops.after[op] if plan.ops.kind[e] == source)
    return with_column(plan, "after", without_entry(plan.ops.after, op, edge))


@pytest.mark.parametrize(
    ("kind", "source", "rule"),
    [
        (Kind.OFFLOAD, Kind.FORWARD, "offload-after-forward"),
        (Kind.RELEASE, Kind.OFFLOAD, "free-after-use"),
        (Kind.PREFETCH, Kind.ACQUIRE, "use-after-take"),
        (Kind.RECOMPUTE, Kind.PREFETCH, "read-after-write"),
    ],
)
def test_a_dropped_wait_names_its_rule(kind: Kind, source: Kind, rule: str) -> None:
    plan = uniform_plan(1, 1, 6, horizon=2)
    last = int((plan.ops.kind == kind).sum()) - 1
    assert rule in _rules(_drop(plan, kind, source, 0 if kind != Kind.RECOMPUTE else last))


@pytest.mark.parametrize(
    ("kind", "source", "rule"),
    [
        (Kind.SEND_ACTIVATION, Kind.FORWARD, "read-after-write"),
        (Kind.RECV_ACTIVATION, Kind.SEND_ACTIVATION, "send-recv-pair"),
        (Kind.FORWARD, Kind.RECV_ACTIVATION, "read-after-write"),
        (Kind.BACKWARD, Kind.RECV_GRADIENT, "read-after-write"),
        (Kind.SEND_ACTIVATION, Kind.ACQUIRE, "send-into-memory"),
        (Kind.RELEASE, Kind.SEND_GRADIENT, "free-after-use"),
    ],
)
def test_a_dropped_wait_between_ranks_names_its_rule(kind: Kind, source: Kind, rule: str) -> None:
    plan = uniform_plan(2, 1, 4, offload=False)
    for op in np.flatnonzero(plan.ops.kind == kind).tolist():
        edge = next((int(e) for e in plan.ops.after[op] if plan.ops.kind[e] == source), None)
        if edge is not None:
            assert rule in _rules(with_column(plan, "after", without_entry(plan.ops.after, op, edge)))
            return
    raise AssertionError("no such edge")


def test_slot_reuse_before_it_was_emptied() -> None:
    """Point two OFFLOADs at one slot."""
    plan = uniform_plan(1, 1, 6, horizon=2)
    first, second = _op(plan, Kind.OFFLOAD), _op(plan, Kind.OFFLOAD, 1)
    slot, other = int(plan.ops.writes[first][0]), int(plan.ops.writes[second][0])
    writes = with_entry(without_entry(plan.ops.writes, second, other), second, slot)
    assert "slot-reuse" in _rules(with_column(plan, "writes", writes))


def test_loading_another_boundary_back() -> None:
    plan = uniform_plan(1, 1, 6, horizon=2)
    a, b = _op(plan, Kind.PREFETCH), _op(plan, Kind.PREFETCH, 1)
    rows = plan.ops.reads.to_lists()
    rows[a], rows[b] = rows[b], rows[a]
    assert "slot-content" in _rules(with_column(plan, "reads", Ragged.from_lists(rows)))


def test_memory_only_on_the_compute_queue() -> None:
    """Free a boundary on the copy queue, as record_stream would have to guard."""
    plan = uniform_plan(1, 1, 6, horizon=2)
    release, offload = _op(plan, Kind.RELEASE), _op(plan, Kind.OFFLOAD)
    buffer = int(plan.ops.frees[release][0])
    frees = with_entry(without_entry(plan.ops.frees, release, buffer), offload, buffer)
    assert "memory-on-compute" in _rules(with_column(plan, "frees", frees))


def test_wrong_bytes_and_wrong_rank() -> None:
    plan = uniform_plan(2, 1, 6, horizon=1)
    nbytes = plan.ops.nbytes.copy()
    nbytes[_op(plan, Kind.OFFLOAD)] += 1
    assert "bytes" in _rules(replace(plan, ops=replace(plan.ops, nbytes=nbytes)))
    ranks = plan.buffers.rank.copy()
    ranks[0] = 1
    assert "own-rank" in _rules(replace(plan, buffers=replace(plan.buffers, rank=ranks)))


def test_a_forward_edge_is_malformed() -> None:
    plan = uniform_plan(1, 1, 4)
    assert _rules(with_column(plan, "after", with_entry(plan.ops.after, 0, 3))) == {"well-formed"}


def test_optimizer_step_comes_last() -> None:
    plan = uniform_plan(1, 1, 2, offload=False)
    order = list(range(len(plan)))
    assert "optimizer-last" in _rules(take_ops(plan, [order[-1], *order[:-1]]))


def test_check_raises_one_line_and_explain_shows_the_queues() -> None:
    plan = _drop(uniform_plan(1, 1, 6, horizon=2), Kind.RELEASE, Kind.OFFLOAD)
    with pytest.raises(CheckFailed) as caught:
        check(plan)
    assert "\n" not in str(caught.value) and "RELEASE 0.0.0" in str(caught.value)
    text = explain(plan, verify(plan)[0])
    assert text.splitlines() == [
        "free-after-use: RELEASE 0.0.0 (operation 4, rank 0 compute) does not wait for OFFLOAD 0.0.0 (operation 1, "
        "rank 0 d2h), which still uses device boundary 0.0.0 (buffer 0)",
        "  rank 0 compute 0:FORWARD 0.0.0 | 2:FORWARD 0.0.1 | >4:RELEASE 0.0.0< | 5:FORWARD 0.0.2 | 7:RELEASE 0.0.1 "
        "| ...",
        "  rank 0 d2h     >1:OFFLOAD 0.0.0< | 3:OFFLOAD 0.0.1 | 6:OFFLOAD 0.0.2 | ...",
    ]


def test_a_plan_written_by_hand() -> None:
    """The text form as a test's notation: one unit, two microbatches, no offload."""
    text = "\n".join(
        [
            f'{FORMAT} {VERSION} "by hand" ranks 1 microbatches 2',
            "policy {}",
            "buffer 0 0.0.0 rank 0 device boundary 8",
            "buffer 1 0.0.1 rank 0 device boundary 8",
            "rank 0 compute: 0:F0.0.0<0>0+0 1:F0.0.1<1>1+1 2:R0.0.0<0 3:B0.0.0<0-0 4:R0.0.1<1 5:B0.0.1<1-1 6:OPT",
            "rank 0 d2h:",
            "rank 0 h2d:",
            "rank 0 send:",
            "rank 0 recv:",
        ]
    )
    plan = plan_from_text(text + "\n")
    assert verify(plan) == []
    assert plan_to_text(plan) == text + "\n"
