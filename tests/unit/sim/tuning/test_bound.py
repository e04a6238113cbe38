"""The bound by hand, against every decision of tiny orders, and at the size that it has to be quick for."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.planner import Order, Policy
from loadahead.sim.tuning.bound import COMPUTE, CRITICAL_PATH, LINK, Bound
from loadahead.sim.tuning.bound_of_order import bound_of
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial
from loadahead.sim.workload import UnitShape, Workload
from tests.support.every_decision import least_step_ns
from tests.support.orders import v_shape, virtual_stages
from tests.support.plans import GB, MB, MS, uniform_costs, uniform_workload


def _trial(pipeline: str, ranks: int, microbatches: int, copy: int, **changes: Any) -> Trial:
    """FORWARD 1 ms, BACKWARD 2 ms, a boundary of 1 MB takes so many ms each way."""
    ahead = changes.pop("receive_ahead", 1)
    fields = {"d2h_bandwidth": GB // copy, "h2d_bandwidth": GB // copy} | changes
    policy = Policy(pipeline=pipeline, microbatches=microbatches, ranks=ranks, receive_ahead=ahead)
    return Trial(uniform_workload(ranks), uniform_costs(ranks, **fields), policy)


def _bound(trial: Trial, *, boundaries: int | None = None, device: int | None = None) -> Bound:
    limits = Limits(device_bytes=device, boundary_bytes=boundaries, host_bytes=None)
    return bound_of(trial, limits)


def test_where_all_may_stay_the_bound_is_keeping_all() -> None:
    trial = _trial("simple", 4, 8, 4)
    bound = _bound(trial, boundaries=8 * MB)
    assert bound == Bound(
        step_time_ns=33 * MS,
        limited_by=COMPUTE,
        rank=3,  # it waits for three FORWARDs before its own tasks, and three BACKWARDs follow them
        compute_ns=33 * MS,
        link_ns=0,
        critical_path_ns=33 * MS,
    )


def test_a_path_through_several_ranks_is_longer_than_what_any_of_them_computes() -> None:
    """With ``receive_ahead`` 0 ranks of 1F1B wait for each other's memory."""
    bound = _bound(_trial("1f1b", 4, 8, 2, receive_ahead=0), boundaries=4 * MB)
    assert (bound.limited_by, bound.rank, bound.step_time_ns) == (CRITICAL_PATH, None, 37 * MS)
    assert bound.compute_ns == 33 * MS


def test_what_has_to_leave_and_come_back_lengthens_the_step() -> None:
    """Six of eight boundaries are away when the last FORWARD begins, and at the first BACKWARD.

    The first FORWARD ends after 1 ms, six copies of 2 ms end at 13, that FORWARD and the first BACKWARD at 16; six
    copies back end at 28, and the last BACKWARD at 30. But no choice of boundaries suits all tasks: the least case
    takes 34 ms, which is the optimum that CP-SAT has proven.
    """
    bound = _bound(_trial("simple", 1, 8, 2), boundaries=2 * MB)
    assert (bound.step_time_ns, bound.limited_by, bound.rank) == (34 * MS, LINK, 0)
    assert (bound.link_ns, bound.compute_ns, bound.critical_path_ns) == (34 * MS, 24 * MS, 24 * MS)
    assert bound.link_bytes == 6 * MB


def test_a_limit_on_the_device_counts_what_else_is_there() -> None:
    trial = _trial("simple", 1, 8, 2, static_bytes=(10 * MB,))
    assert _bound(trial, device=12 * MB) == _bound(trial, boundaries=2 * MB)
    assert _bound(trial, device=18 * MB).limited_by == COMPUTE


def test_copies_are_of_whole_boundaries() -> None:
    """A cap that is half a boundary too small asks for a whole copy; latency counts for each."""
    trial = _trial("simple", 1, 8, 2)
    assert _bound(trial, boundaries=2 * MB + MB // 2) == _bound(trial, boundaries=2 * MB)
    late = _trial("simple", 1, 8, 2, d2h_latency_ns=2 * MS, h2d_latency_ns=2 * MS)
    assert _bound(late, boundaries=2 * MB) == _bound(_trial("simple", 1, 8, 4), boundaries=2 * MB)


def test_where_there_is_no_time_for_cases_the_waits_alone_are_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What :func:`test_what_has_to_leave_and_come_back_lengthens_the_step` reckons first."""
    monkeypatch.setattr("loadahead.sim.tuning.bound_cases.MOST_CASES", 1)
    assert _bound(_trial("simple", 1, 8, 2), boundaries=2 * MB).step_time_ns == 30 * MS


def test_a_host_that_is_slow_to_issue_copies_lengthens_the_step() -> None:
    """Each boundary that leaves is four more operations, of which each takes the host 5 ms."""
    trial = _trial("simple", 1, 8, 2, launch_ns=5 * MS)
    kept, capped = _bound(trial, boundaries=8 * MB), _bound(trial, boundaries=2 * MB)
    assert kept.step_time_ns == (8 + 16 + 1) * 5 * MS
    assert capped.step_time_ns == kept.step_time_ns + 6 * 4 * 5 * MS


def test_without_checkpointing_nothing_can_leave() -> None:
    policy = Policy(pipeline="simple", microbatches=8, ranks=1, checkpoint=False)
    trial = Trial(uniform_workload(1), uniform_costs(1), policy)
    assert _bound(trial, boundaries=2 * MB).step_time_ns == 24 * MS


def test_a_budget_that_no_plan_keeps_still_has_a_bound() -> None:
    assert _bound(_trial("simple", 1, 8, 2), boundaries=0).step_time_ns >= 24 * MS


# ---- every decision of tiny orders ----------------------------------------------------------------------------------

CHUNKS, IN_CHUNK = 6, 150


def _order(draw: random.Random, microbatches: int) -> Order:
    if draw.random() < 0.5:
        return v_shape(draw.randint(1, 2), microbatches, draw.randint(1, 3))
    return virtual_stages(2, 2, 2)


def _tiny(draw: random.Random) -> Trial:
    """One to three ranks, uneven units, sizes and times; some hosts slow to issue, some links shared, some frozen."""
    microbatches = draw.randint(2, 4)
    order = _order(draw, microbatches) if draw.random() < 0.3 else None
    ranks = draw.randint(1, 3) if order is None else order.ranks
    stages = ranks if order is None else order.stages
    units, sizes = draw.choice([1, 1, 2]), draw.choice([[1], [1, 2], [2, 3, 5]])
    shapes = tuple(
        tuple(
            UnitShape(
                boundary_bytes=1000 * draw.choice(sizes),
                gradient_bytes=draw.choice([0, 1000]),
                state_bytes=draw.choice([0, 0, 300]),
            )
            for _ in range(units)
        )
        for _ in range(stages)
    )
    frozen = draw.choice([0, 0, 0, 1]) if stages * units > 1 else 0

    def unit() -> UnitCost:
        return UnitCost(
            forward_ns=1000 * draw.randint(1, 12),
            recompute_ns=draw.choice([0, 5000]),
            backward_ns=1000 * draw.randint(1, 24),
            workspace_forward=draw.choice([0, 700]),
            workspace_backward=draw.choice([0, 900]),
        )

    def rate() -> int:
        return draw.choice([30, 77, 200, 1000]) * MB

    shared = SharedLinks(gpus_per_switch=2, uplink_d2h=rate(), uplink_h2d=rate()) if draw.random() < 0.04 else None
    costs = Costs(
        units=tuple(tuple(unit() for _ in stage) for stage in shapes),
        static_bytes=(draw.choice([0, 3000]),) * stages,
        d2h_bandwidth=rate(),
        h2d_bandwidth=rate(),
        d2h_latency_ns=draw.choice([0, 0, 1700]),
        h2d_latency_ns=draw.choice([0, 0, 900]),
        p2p_latency_ns=draw.choice([0, 2000]),
        launch_ns=draw.choice([0, 0, 300, 2500]),
        memory_bytes=GB,
        shared=shared,
    )
    policy = Policy(
        pipeline=draw.choice(["simple", "interleaved"]),
        microbatches=microbatches if order is None else order.microbatches,
        ranks=ranks,
        receive_ahead=draw.randint(0, 2),
        order=order,
    )
    return Trial(Workload(stages=shapes, frozen_units=frozen), costs, policy)


def _capped(trial: Trial, draw: random.Random) -> Limits:
    row, share, which = trial.candidate(*trial.slots_of_nothing()).row, draw.uniform(0.5, 1), draw.random()
    device = int(row.peak_device_bytes * share) if which < 0.4 else None
    boundaries = int(row.peak_boundary_bytes * share) if which > 0.3 else None
    return Limits(device_bytes=device, boundary_bytes=boundaries, host_bytes=None)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_decision_of_a_tiny_order_is_faster_than_its_bound(chunk: int) -> None:
    found = lengthened = met = 0
    for seed in range(chunk * IN_CHUNK, (chunk + 1) * IN_CHUNK):
        draw = random.Random(seed)
        trial = _tiny(draw)
        limits = _capped(trial, draw)
        kept = trial.candidate(*trial.slots_of_nothing())
        try:
            least = least_step_ns(trial, limits, 2_000 if trial.private else 100)
        except ValueError:  # too many to try them all
            continue
        if least is None:
            continue
        bound = bound_of(trial, limits)
        assert bound.step_time_ns <= least, f"seed {seed}"
        found += 1
        lengthened += bound.limited_by == LINK
        met += bound.step_time_ns == least
        if trial.private and not limits.missing(kept.row).total:
            assert bound.step_time_ns == kept.row.step_time_ns == least
    assert 2 * met > found, "for most of them it is the least step itself"
    assert found >= 10, "most were left out: the test says nothing"
    assert lengthened >= 2, "hardly any bound says more than keeping all does"
