"""Any order with any decisions runs on real tensors: gradients bit for bit, every rank's peaks as predicted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.training.oracle import pass_orders
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import build_plan
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, tiny_spec, workload_of
from tests.support.orders import decision_rows, orders, policies_for

SPEC = tiny_spec(optimizer="adamw")
PEAKS = ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes")


@cache
def workload(stages: int) -> Workload:
    return workload_of(SPEC, stages)


@cache
def costs(stages: int, checkpoint: bool) -> Costs:
    return calibrate(workload(stages), SPEC, hardware=HARDWARE, repeats=1, checkpoint=checkpoint)


def can_be_compared(plan: Plan) -> bool:
    """Whether all units go backward through the microbatches in one order, which plain training can follow."""
    try:
        pass_orders(plan)
    except InputError:
        return False
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_gradients_and_peaks(data: st.DataObject) -> None:
    order = data.draw(orders(most_stages=4))
    policy, own = data.draw(policies_for(order)), workload(order.stages)
    policy = replace(policy, receive_ahead=data.draw(st.integers(0, 3)))
    rows = data.draw(st.none() | decision_rows(own, policy))
    plan = build_plan(own, policy, decisions=None if rows is None else Decisions.from_rows(rows))
    known = costs(order.stages, policy.checkpoint)
    check, seed = can_be_compared(plan), data.draw(st.none() | st.integers(0, 9))
    done = execute(plan, own, SPEC, costs=known, steps=2, check_gradients=check, delays_seed=seed, poison=True)
    assert done.max_grad_error == (0.0 if check else None)
    predicted = simulate(plan, known).metrics
    for measured, wanted in zip(done.timeline.metrics.ranks, predicted.ranks, strict=True):
        assert [getattr(measured, name) for name in PEAKS] == [getattr(wanted, name) for name in PEAKS]
