"""Tuned plans beside the best horizons under the same budget, on real tensors over slow links, in virtual time.

What a machine's own clock says of the same is for `make check-times` (tests/times/tuned.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import loadahead as la
from loadahead.sim.ir.plan import Plan
from tests.support.tuned_jobs import JOBS, ORDERS, TunedJob, TunedJobPlans, held, timed_as_told
from tests.support.virtual_time import virtual_time

CASES = {f"{job.name}, {order}": (job, order) for job in JOBS for order in ORDERS}
# So much longer is every best horizon's step, at least; most are longer still.
APART = 1.1
# By so much, at most, tasks take longer or shorter than the costs say where a run is unsteady.
UNSTEADY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One job in one order: its plans, and the runs of the tuned one and of the best horizon's.

    ``unsteady`` has both again, with tasks that take longer or shorter than was told.
    """

    job: TunedJob
    plans: TunedJobPlans
    tuned: la.Run
    horizon: la.Run
    unsteady: tuple[la.Run, la.Run]

    @property
    def runs(self) -> tuple[la.Run, la.Run]:
        return self.tuned, self.horizon


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def beside(request: pytest.FixtureRequest) -> Beside:
    job, order = request.param
    costs = timed_as_told(job, la.calibrate(job.scenario(order), repeats=1))
    scenario = job.paced(order, job.forward_ns)
    plans = job.tuned(scenario, costs)

    def run(plan: Plan, unsteady: float = 0.0) -> la.Run:
        with virtual_time(plan, costs, unsteady):
            return la.execute(scenario, decisions=plan, costs=costs, steps=2, check=not unsteady)

    by_tuning, by_horizon = plans.tuned.plan, plans.by_horizon
    return Beside(
        job=job,
        plans=plans,
        tuned=run(by_tuning),
        horizon=run(by_horizon),
        unsteady=(run(by_tuning, UNSTEADY), run(by_horizon, UNSTEADY)),
    )


def test_the_tuned_plan_is_predicted_to_be_faster(beside: Beside) -> None:
    tuned, horizon = (run.predicted.step_time_ns for run in beside.runs)
    assert tuned == beside.plans.tuned.step.step_time_ns
    assert horizon == beside.plans.horizon.row.step_time_ns > APART * tuned


def test_and_is_measured_to_be_by_as_much(beside: Beside) -> None:
    """No machine's clock is in it, so that every operation is where it was predicted, to the nanosecond."""
    assert beside.horizon.measured.step_time_ns > APART * beside.tuned.measured.step_time_ns
    for run in beside.runs:
        assert run.measured.source == "cpu"
        assert run.measured.start_ns.tolist() == run.predicted.start_ns.tolist()
        assert run.measured.end_ns.tolist() == run.predicted.end_ns.tolist()


def test_it_is_faster_too_where_tasks_take_other_times_than_were_told(beside: Beside) -> None:
    tuned, horizon = (run.measured.step_time_ns for run in beside.unsteady)
    assert tuned < horizon
    for unsteady, steady in zip(beside.unsteady, beside.runs, strict=True):
        assert unsteady.measured.step_time_ns != steady.measured.step_time_ns
        assert unsteady.metrics.peak_device_bytes == steady.metrics.peak_device_bytes
        assert unsteady.execution.losses == steady.execution.losses


def test_gradients_are_plain_trainings_bit_for_bit(beside: Beside) -> None:
    for run in beside.runs:
        assert run.max_grad_error == 0
        run.require_plain_training()
    assert beside.tuned.execution.losses == beside.horizon.execution.losses


def test_peaks_are_the_predicted_ones_to_the_byte_and_keep_the_budget(beside: Beside) -> None:
    plans, budget = beside.plans, beside.job.budget
    for run, row in ((beside.tuned, plans.tuned.tuning.chosen.row), (beside.horizon, plans.horizon.row)):
        for measured, predicted in zip(run.metrics.ranks, run.predicted.metrics.ranks, strict=True):
            assert measured.peak_device_bytes == predicted.peak_device_bytes
            assert measured.peak_boundary_bytes == predicted.peak_boundary_bytes
            assert measured.peak_host_bytes == predicted.peak_host_bytes
        peaks = held(run.metrics)
        assert peaks == {"memory": row.peak_device_bytes, "boundary_memory": row.peak_boundary_bytes}
        assert peaks[budget] <= plans.limit < held(plans.kept)[budget]


def test_some_boundaries_leave_and_fewer_than_by_the_horizon(beside: Beside) -> None:
    tuned, horizon = (run.predicted.metrics.offloaded for run in beside.runs)
    assert 0 < tuned < horizon
