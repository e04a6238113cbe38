"""No bound is above an optimum that CP-SAT has proven."""

from __future__ import annotations

import pytest

from loadahead.sim.tuning.bound_of_order import bound_of
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial
from tests.optima import instances, store


def test_no_bound_is_above_a_proven_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    stored, gaps = store.read(), {}
    for instance in instances.EVERY:
        if instance.name in stored and stored[instance.name].status == "OPTIMAL":
            trial = Trial(*instance.problem())
            limits = Limits(device_bytes=None, boundary_bytes=instance.cap_bytes, host_bytes=None)
            bound = bound_of(trial, limits)
            optimum = stored[instance.name].optimum_ns
            assert bound.step_time_ns <= optimum, instance.name
            gaps[instance.name] = optimum / bound.step_time_ns - 1
    ordered = sorted(gaps.values())
    with capsys.disabled():
        print(f"\nbounds below {len(gaps)} optima: mean {sum(ordered) / len(gaps):.2%}, largest {ordered[-1]:.2%}")
    assert sum(gap == 0 for gap in ordered) >= len(ordered) // 2
