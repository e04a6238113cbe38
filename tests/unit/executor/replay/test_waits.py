"""Waits that others imply are left out: what is ordered stays as it was, and nothing that is left can go."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings

from loadahead.executor.replay.waits import needed_waits
from loadahead.sim.ir.plan import Plan
from tests.support.plans import plans, stray_plans, uniform_plan


def all_waits(plan: Plan) -> list[list[int]]:
    queues = plan.queue_index.tolist()
    return [[edge for edge in op.after if queues[edge] != queues[op.index]] for op in plan]


def ended_before(plan: Plan, at: int, edges: Sequence[int], earlier: Sequence[set[int]]) -> set[int]:
    """All that has ended before an operation starts, as sets and not as clocks."""
    before = int(plan.previous_in_queue[at])
    direct = [*edges, *([before] if before >= 0 else [])]
    return set(direct).union(*(earlier[other] for other in direct))


def ordered(plan: Plan, waits: list[list[int]]) -> list[set[int]]:
    out: list[set[int]] = []
    for at, edges in enumerate(waits):
        out.append(ended_before(plan, at, edges, out))
    return out


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans() | stray_plans())
def test_the_order_is_the_same_and_each_wait_that_is_left_is_needed(plan: Plan) -> None:
    needed = needed_waits(plan, list(plan))
    whole = ordered(plan, all_waits(plan))
    assert ordered(plan, needed) == whole
    for at, edges in enumerate(needed):
        for edge in edges:
            assert ended_before(plan, at, [other for other in edges if other != edge], whole) != whole[at]


def test_some_are_left_out() -> None:
    plan = uniform_plan(ranks=1, units=3, microbatches=4, horizon=1)
    every, needed = (sum(map(len, waits)) for waits in (all_waits(plan), needed_waits(plan, list(plan))))
    assert 0 < needed < every
