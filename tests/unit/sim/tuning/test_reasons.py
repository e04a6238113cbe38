"""Reasons by hand: what has to leave, how long it is away, how busy links are, and what waits."""

from __future__ import annotations

import numpy as np

from loadahead.sim.away import away_ns
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import reasons_of
from loadahead.sim.tuning.reasons import Leaving, RankReasons, leaving, spans
from tests.support.plans import MB, MS, uniform_costs, uniform_workload
from tests.support.tunings import COSTS, KEPT, POLICY, TWO_LEAVE, WORKLOAD, candidate, trial_of, tuning_of


def test_one_rank_by_hand() -> None:
    """Times as in tests/support/tunings.py: 0 is away from 2 to 5 ms, 3 from 5 to 10 ms, each for two tasks."""
    found = reasons_of(tuning_of(), WORKLOAD, COSTS)
    assert found.ranks == (
        RankReasons(
            rank=0,
            boundaries=4,
            leave=2,
            leave_bytes=2 * MB,
            keep_all_device_bytes=4 * MB,
            keep_all_boundary_bytes=4 * MB,
            peak_device_bytes=3 * MB,
            peak_boundary_bytes=3 * MB,
            too_much_bytes=1 * MB,
            away_tasks=(2, 2),
            away_ns=(3 * MS, 5 * MS),
            d2h_ns=2 * MS,
            h2d_ns=2 * MS,
            waits_ns=2 * MS,
            horizon_waits_ns=None,
        ),
    )
    assert found.ranks[0].stay == 2 and found.leave_bytes == 2 * MB and found.beyond == found.ranks
    assert found.leaving == (Leaving(rank=0, stage=0, units=(0, 0), microbatches=((0, 0), (3, 3))),)


def test_each_boundary_has_its_own_time_away() -> None:
    trial = trial_of()
    plan = build_plan(WORKLOAD, POLICY, decisions=candidate(trial, TWO_LEAVE).decisions)
    assert away_ns(plan, simulate(plan, COSTS)).tolist() == [3 * MS, -1, -1, 5 * MS]
    kept = build_plan(WORKLOAD, POLICY, decisions=candidate(trial, KEPT).decisions)
    assert away_ns(kept, simulate(kept, COSTS)).tolist() == [-1] * 4


def test_a_device_limit_counts_all_that_is_on_the_device() -> None:
    """Keeping all takes 5 MB, of which 1 is weights: of a budget of 4.5 MB only half a MB is missing."""
    costs = uniform_costs(1, static_bytes=(MB,))
    trial = trial_of(costs=costs)
    found = reasons_of(tuning_of(goal=Goal(memory=4 * MB + MB // 2), trial=trial), WORKLOAD, costs)
    assert found.ranks[0].too_much_bytes == MB // 2
    assert reasons_of(tuning_of(goal=Goal(), trial=trial), WORKLOAD, costs).beyond == ()


def test_waits_of_the_best_horizon_stand_beside() -> None:
    """Horizon 1 takes each boundary back during the task before, which is long enough, so that nothing waits there."""
    trial = trial_of()
    policy = Policy(pipeline="simple", microbatches=4, ranks=1, horizon=1)
    own = build_plan(WORKLOAD, policy)
    waits = sum(simulate(own, COSTS).metrics.ranks[0].stalls_ns[name] for name in ("release", "prefetch"))
    best = candidate(trial, {0: (2, 3), 1: (3, 4), 2: (4, 5), 3: (5, 6)}, policy)
    found = reasons_of(tuning_of(horizon=best), WORKLOAD, COSTS)
    assert found.ranks[0].horizon_waits_ns == waits


def test_ranks_that_keep_all_are_told_apart() -> None:
    """1F1B holds two microbatches of two units on the first of two ranks, and one on the last."""
    workload, costs = uniform_workload(2, 2), uniform_costs(2, 2)
    policy = Policy(pipeline="interleaved", microbatches=4, ranks=2, receive_ahead=0)
    trial = trial_of(workload, costs, policy)
    tasks = trial.tasks
    # Unit 0 of microbatch 1 leaves before the task that follows its FORWARD by one, and is back for its BACKWARD.
    slots = {1: (int(tasks.forward_at[1]) + 2, int(tasks.backward_at[1]))}
    found = reasons_of(tuning_of(slots, Goal(boundary_memory=3 * MB), trial=trial), workload, costs)
    assert [rank.leave for rank in found.ranks] == [1, 0]
    assert [rank.too_much_bytes for rank in found.ranks] == [1 * MB, 0]
    assert [rank.away_ns is None for rank in found.ranks] == [False, True]
    assert found.leaving == (Leaving(rank=0, stage=0, units=(0, 0), microbatches=((1, 1),)),)


def test_neighbours_that_are_alike_are_one_entry() -> None:
    """Units 0 and 1 of stage 0 lose microbatches 0 to 2, unit 2 only 1, and stage 1's unit 0 begins anew."""
    workload, costs = uniform_workload(2, 3), uniform_costs(2, 3)
    policy = Policy(pipeline="simple", microbatches=4, ranks=2)
    trial = trial_of(workload, costs, policy)
    tasks, slots = trial.tasks, {}
    for unit, microbatches in ((0, (0, 1, 2)), (1, (0, 1, 2)), (2, (1,)), (3, (0, 2))):
        for microbatch in microbatches:
            at = unit * 4 + microbatch
            slots[at] = (int(tasks.forward_at[at]) + 2, int(tasks.backward_at[at]))
    found = leaving(candidate(trial, slots).decisions, {0: 0, 1: 1})
    assert found == (
        Leaving(rank=0, stage=0, units=(0, 1), microbatches=((0, 2),)),
        Leaving(rank=0, stage=0, units=(2, 2), microbatches=((1, 1),)),
        Leaving(rank=1, stage=1, units=(0, 0), microbatches=((0, 0), (2, 2))),
    )


def test_spans() -> None:
    assert spans([]) == ()
    assert spans([1, 2, 3, 7]) == ((1, 3), (7, 7))
    assert spans(np.asarray([4]).tolist()) == ((4, 4),)
