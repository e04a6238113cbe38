"""Tuned plans beside the best horizons under the same budget, on this machine's CPU over slow links.

Three models train in units of about a millisecond or more, with two cores for each rank: one for what it computes, and
one for its copies and all else, as a rank whose core is taken is slower than it was when it was calibrated. What does
not depend on a clock is tested in virtual time, in tests/e2e/test_tuned_runs.py.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

import loadahead as la
from loadahead.sim.costs import Costs
from loadahead.sim.units import counted
from tests.support.tuned_jobs import ORDERS, TunedJob, held
from tests.times.figure import Figure

REPEATS = 20
ROUNDS = 4
STEPS = 4  # the first is not timed
# So much of the predicted gain has to be there: ranks that compute at once share caches and the interpreter, which
# calibration has for itself, and both plans lose the same time by it.
SHARE = 0.5
CORES = 2  # of each rank


def tuned_beside_horizon(job: TunedJob, order: str) -> Sequence[Figure]:
    """The tuned plan's step is shorter than the best horizon's, by a good part of what is predicted; both in turns."""
    ranks = ranks_of(job)
    calibrated = la.calibrate(job.scenario(order, large=True, ranks=ranks), repeats=REPEATS)
    scenario = job.paced(order, _forwards(calibrated), large=True, ranks=ranks)
    costs = la.calibrate(scenario, repeats=REPEATS)
    plans = job.tuned(scenario, costs, large=True)
    policy = plans.horizon.policy
    names = ("tuned plan", f"horizon of {policy.horizon} {policy.horizon_unit}, window {policy.release_window}")
    both = (plans.tuned.plan, plans.by_horizon)
    # Only the first round is compared with plain training, which is outside the clock but takes its time.
    rounds = [
        [la.execute(scenario, decisions=plan, costs=costs, steps=STEPS, check=not number) for plan in both]
        for number in range(ROUNDS)
    ]
    predicted = [run.predicted.step_time_ns for run in rounds[0]]
    gains = [statistics.median(_times(horizon)) / statistics.median(_times(tuned)) - 1 for tuned, horizon in rounds]
    least = SHARE * (predicted[1] / predicted[0] - 1)
    return [
        *[
            Figure(
                name=f"{name}, {counted(ranks, 'rank')}",
                measured=[took for one in runs for took in _times(one)],
                predicted=expected,
            )
            for name, runs, expected in zip(names, zip(*rounds, strict=True), predicted, strict=True)
        ],
        Figure(
            name=f"the horizon's step is longer by, in each of {ROUNDS} rounds",
            measured=gains,
            wanted=f"median at least {least:.1%}, {SHARE:.0%} of the {predicted[1] / predicted[0] - 1:.1%} predicted",
            holds=least > 0 and statistics.median(gains) >= least,
            show=lambda share: f"{share:.1%}",
        ),
        _exact(
            "largest difference of a gradient from plain training's", [run.max_grad_error or 0 for run in rounds[0]]
        ),
        _exact("bytes by which a peak is not the predicted one", [_off(run) for runs in rounds for run in runs]),
        _exact(
            f"bytes beyond the budget of {plans.limit} ({job.budget})",
            [max(0, held(run.metrics)[job.budget] - plans.limit) for runs in rounds for run in runs],
        ),
    ]


def ranks_of(job: TunedJob) -> int:
    """On how many ranks a job is timed here."""
    return min(job.ranks, max((os.cpu_count() or 1) // CORES, 1))


def orders_of(job: TunedJob) -> Sequence[str]:
    """In which orders a job is timed: 1F1B on one rank holds one boundary of a unit, which has no time to leave."""
    return ORDERS if ranks_of(job) > 1 else ORDERS[1:]


def _forwards(costs: Costs) -> list[int]:
    return [unit.forward_ns for stage in costs.units for unit in stage]


def _times(run: la.Run) -> list[int]:
    return run.execution.step_times_ns


def _off(run: la.Run) -> int:
    ours, theirs = (held(metrics) for metrics in (run.metrics, run.predicted.metrics))
    return max(abs(ours[name] - theirs[name]) for name in ours)


def _exact(name: str, values: Sequence[float]) -> Figure:
    """A figure that is to be 0 in every run."""
    return Figure(name=name, measured=values, wanted="0 in every run", holds=not any(values), show=lambda n: f"{n:g}")
