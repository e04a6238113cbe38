"""What is said of a tuned plan, each sentence from numbers that tests/support/tunings.py reckons by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import Missing, explanation, reasons_of, sentence, shortage, tuning_to_dict
from loadahead.sim.tuning.reasons import Leaving, Reasons
from loadahead.sim.tuning.words import gap_text, nearly_as_quick, ranks_text, sentences, which_leave
from tests.support.plans import MB, MS, uniform_costs, uniform_workload
from tests.support.tuned_runs import frontier_of
from tests.support.tunings import (
    COSTS,
    KEPT,
    POLICY,
    TWO_LEAVE,
    WORKLOAD,
    bound_of,
    candidate,
    trial_of,
    tuning_of,
)


def test_what_leaves_what_it_is_worth_and_how_far_from_the_bound_it_is() -> None:
    """14 ms instead of 12; 3 MB are 2.861 MiB, 4 MB 3.815 MiB; 2 of 14 ms are 14 %; 14 / 12 is 1.167."""
    tuning = tuning_of(goal=Goal(boundary_memory=3 * MB, memory=40 * MB))
    assert sentences(tuning, reasons=reasons_of(tuning, WORKLOAD, COSTS)) == [
        "2 of 4 boundaries leave the GPU, 2 stay: the step takes 14 ms and needs 2.861 MiB of device memory and "
        "2.861 MiB of boundaries.",
        "Boundaries may take 2.861 MiB of each device; all together may take 38.15 MiB.",
        "Against keeping all it saves 976.6 KiB of 3.815 MiB of boundaries, step +16.7 %.",
        "None of 312 horizons that were tried keeps these limits.",
        "On rank 0 keeping all takes 3.815 MiB of boundaries, 976.6 KiB more than may be: some have to leave.",
        "What leaves, 1.907 MiB in all, is away for 2 tasks (3 ms to 5 ms); copies run for 14 % of the step in each "
        "direction.",
        "Copies are waited for 2 ms.",
        "No plan of this order under these limits takes less than 12 ms, a bound that compute on rank 0 sets; this one "
        "takes 16.7 % longer.",
    ]
    assert sentence(tuning) == (
        "Tuned for the shortest step in 2.861 MiB of boundaries and 38.15 MiB of device memory: 2 of 4 boundaries "
        "leave the GPU, 2 stay; step +16.7 % against keeping all."
    )


def test_the_best_horizon_under_the_same_limits_stands_beside() -> None:
    """Boundary 1 away from 3 to 5 ms: B0 does not wait for it, B1 does, from 6 to 6. A row of 15 ms is 7.1 % longer."""
    trial = trial_of()
    policy = replace(POLICY, horizon=2, horizon_unit="layers", release_window=3)
    other = candidate(trial, {0: (2, 3)}, policy)
    slow = replace(other, row=replace(other.row, step_time_ns=15 * MS))
    assert (
        "The best of 312 horizons under these limits, horizon 2 (layers, release window 3), takes 15 ms, +7.1 %."
        in explanation(tuning_of(horizon=slow))
    )
    as_long = replace(other, row=replace(other.row, step_time_ns=14 * MS, peak_boundary_bytes=4 * MB))
    assert "takes as long, and needs 3.815 MiB of boundaries instead of 2.861 MiB." in explanation(
        tuning_of(horizon=as_long)
    )
    same = candidate(trial, TWO_LEAVE, policy)
    assert (
        "It is the plan of the best of 312 horizons under these limits, horizon 2 (layers, release window 3)."
        in explanation(tuning_of(horizon=same))
    )
    assert "horizon" not in explanation(replace(tuning_of(), horizons=0))


def test_what_fits_is_not_offloaded() -> None:
    """80 GiB less a twentieth are 76 GiB, and 4 MB fit."""
    tuning = tuning_of(KEPT, goal=Goal())
    assert sentences(tuning) == [
        "Nothing is offloaded, as all 4 boundaries fit: the step takes 12 ms and needs 3.815 MiB of device memory.",
        "Each device may take 76 GiB, the device's 80 GiB less a reserve of 4 GiB (5 %).",
        "No plan of this order under these limits is faster: compute on rank 0 sets that bound.",
    ]
    assert sentence(tuning) == sentences(tuning)[0]


def test_a_reserve_is_told_where_nobody_stated_the_budget() -> None:
    stated = tuning_of(goal=Goal(memory=3 * MB))
    assert "reserve" not in explanation(stated) and "Each device may take 2.861 MiB." in explanation(stated)
    assert "less a reserve of 4 GiB (5 %)" in explanation(tuning_of())


@pytest.mark.parametrize(
    ("goal", "lacks", "change"),
    [
        (
            Goal(memory=2 * MB),
            "2.861 MiB of device memory where 1.907 MiB may be taken, 976.6 KiB too much",
            'With offload.memory = "3000000 B" (2.861 MiB) that plan would do',
        ),
        (
            Goal(boundary_memory=2 * MB),
            "2.861 MiB of boundaries on the device where 1.907 MiB may be taken, 976.6 KiB too much",
            'With offload.boundary_memory = "3000000 B" (2.861 MiB) that plan would do',
        ),
        (
            Goal(memory=3 * MB - 1, host_memory=MB // 2),
            "3000000 B of device memory where 2999999 B may be taken, 1 B too much and 1.907 MiB of host memory where "
            "488.3 KiB may be taken, 1.431 MiB too much",
            'With offload.memory = "3000000 B" (2.861 MiB) and offload.host_memory = "2000000 B" (1.907 MiB) that plan '
            "would do",
        ),
    ],
)
def test_a_budget_that_is_not_met_says_what_is_missing_and_what_would_meet_it(
    goal: Goal, lacks: str, change: str
) -> None:
    tuning = tuning_of(goal=goal)
    assert not tuning.fits
    assert shortage(tuning) == f"No plan that was found keeps the budget: the nearest needs {lacks}."
    assert sentences(tuning)[:2] == [shortage(tuning), f"{change}: its step takes 14 ms."]
    assert sentence(tuning).startswith("The nearest plan to a budget that none found keeps: 2 of 4 boundaries leave")
    # The change is taken at its word.
    row = tuning.chosen.row
    met = replace(
        goal,
        memory=None if goal.memory is None else row.peak_device_bytes,
        boundary_memory=None if goal.boundary_memory is None else row.peak_boundary_bytes,
        host_memory=None if goal.host_memory is None else row.host_bytes,
    )
    assert tuning_of(goal=met).fits and shortage(tuning_of(goal=met)) == ""


def test_a_step_that_is_too_long_says_which_would_do() -> None:
    """14 ms are 16.7 % more than 12, of which 10 % are allowed."""
    tuning = tuning_of(goal=Goal(boundary_memory=3 * MB, within=0.1))
    assert shortage(tuning) == (
        "No plan that was found keeps the budget in a step of at most 13.2 ms: the nearest takes 14 ms."
    )
    assert sentences(tuning)[1] == "Against keeping all its step is +16.7 %: that much within has to allow."
    lacks = tuning_of(goal=Goal(boundary_memory=2 * MB, within=0.2))
    assert shortage(lacks) == (
        "No plan that was found keeps the budget in a step of at most 14.4 ms: the nearest needs 2.861 MiB of "
        "boundaries on the device where 1.907 MiB may be taken, 976.6 KiB too much."
    )


def test_the_least_memory_within_a_step_time() -> None:
    """A fifth more than 12 ms are 14.4 ms."""
    tuning = tuning_of(goal=Goal(within=0.2))
    said = sentences(tuning)
    assert said[0] == (
        "2 of 4 boundaries leave the GPU, 2 stay: the step takes 14 ms and needs 2.861 MiB of device memory, the least "
        "found in a step of at most 14.4 ms."
    )
    assert "Against keeping all it saves 976.6 KiB of 3.815 MiB of device memory, step +16.7 %." in said
    # How long a step may be was asked for: that it is longer than the bound is no gap.
    # The bound is of plans that need no more memory: keeping all may be quicker.
    assert said[-1].startswith("No plan of this order that needs no more memory takes less than 12 ms")
    assert "longer" not in said[-1] and "faster" not in said[-1]
    assert sentence(tuning).startswith("Tuned for the least memory in a step of at most 14.4 ms: 2 of 4 boundaries")
    exact = sentences(replace(tuning, bound=bound_of(14 * MS)))
    assert exact[-1] == "No plan of this order that needs no more memory is faster: compute on rank 0 sets that bound."
    none = sentences(tuning_of(KEPT, goal=Goal(within=0.2)))
    assert none[0] == (
        "Nothing is offloaded: no plan that was found needs less than 3.815 MiB of device memory in a step of at most "
        "14.4 ms, and all 4 boundaries stay."
    )


def test_horizons_beside_the_least_memory_are_those_within_the_time() -> None:
    """With horizon 1 the step takes 14 ms too; what is compared is what the goal looks for."""
    goal = Goal(within=0.2)
    none = "None of 312 horizons that were tried keeps these limits in a step of at most 14.4 ms."
    assert none in sentences(tuning_of(goal=goal))
    trial = trial_of()
    other = candidate(trial, {0: (2, 3)}, POLICY)
    more = replace(other, row=replace(other.row, peak_device_bytes=4 * MB, step_time_ns=13 * MS))
    best = "The best of 312 horizons under these limits and within 20 %, horizon 4 (tasks, release window 1), needs "
    assert f"{best}3.815 MiB of device memory instead of 2.861 MiB, in a step of 13 ms." in sentences(
        tuning_of(goal=goal, horizon=more)
    )


def test_sizes_that_read_alike_are_as_much() -> None:
    """Where boundaries are limited they are compared, and a byte of the device is no difference."""
    trial = trial_of()
    other = candidate(trial, {0: (2, 3)}, POLICY)
    row = replace(other.row, step_time_ns=14 * MS, peak_boundary_bytes=3 * MB + 1, peak_device_bytes=9 * MB)
    said = explanation(tuning_of(horizon=replace(other, row=row)))
    assert "takes as long, and needs 2.861 MiB of boundaries too." in said and " B " not in said
    row = replace(row, peak_boundary_bytes=3 * MB, peak_device_bytes=3 * MB + 1)
    tuning = tuning_of(goal=Goal(memory=3 * MB), horizon=replace(other, row=row))
    assert "takes as long, and needs 2.861 MiB of device memory too." in explanation(tuning)


@pytest.mark.parametrize(
    ("limited_by", "rank", "words"),
    [
        ("compute", 3, "compute on rank 3"),
        ("link", 2, "the link of rank 2"),
        ("critical_path", None, "the critical path through the ranks"),
    ],
)
def test_what_sets_the_bound_is_named(limited_by: str, rank: int | None, words: str) -> None:
    assert f"a bound that {words} sets" in explanation(tuning_of(bound=bound_of(12 * MS, limited_by, rank)))


def test_a_link_that_sets_the_bound_says_how_much_goes_over_it() -> None:
    bound = replace(bound_of(12 * MS, "link", 2), link_bytes=3 * MB)
    words = "a bound that the link of rank 2 (at least 2.861 MiB must leave and come back over it) sets"
    assert words in explanation(tuning_of(bound=bound))


@pytest.mark.parametrize(("bound", "is_optimal"), [(14 * MS, True), (14 * MS - 1, False), (1, False)])
def test_nothing_is_called_optimal_that_has_a_gap(bound: int, is_optimal: bool) -> None:
    """One nanosecond less than 14 ms is a gap of 7e-8, which is told."""
    said = explanation(tuning_of(bound=bound_of(bound)))
    assert ("is faster" in said) is is_optimal
    assert ("longer" in said or "as long" in said) is not is_optimal
    assert "0 % longer" not in said.replace(".0 % longer", "")


def test_a_bound_of_no_time_says_nothing() -> None:
    assert "No plan of this order" not in explanation(tuning_of(bound=bound_of(0)))


def test_gaps() -> None:
    assert gap_text(0.0) == "no longer"
    assert gap_text(0.0123) == "1.2 % longer"
    assert gap_text(11.0) == "×12 as long"
    assert gap_text(7e-8).endswith("% longer") and float(gap_text(7e-8).split()[0]) > 0


def test_ranks_that_keep_everything_are_named() -> None:
    workload, costs = uniform_workload(4), uniform_costs(4)
    policy = Policy(pipeline="interleaved", microbatches=4, ranks=4, receive_ahead=0)
    trial = trial_of(workload, costs, policy)
    tasks = trial.tasks
    slots = {at: (int(tasks.forward_at[at]) + 2, int(tasks.backward_at[at])) for at in (1,)}
    tuning = tuning_of(slots, Goal(boundary_memory=3 * MB), trial=trial)
    said = explanation(tuning, reasons=reasons_of(tuning, workload, costs))
    assert "On rank 0 keeping all takes 3.815 MiB of boundaries, 976.6 KiB more than may be" in said
    assert "Ranks 1 to 3 keep everything, as it fits." in said
    lean = tuning_of(slots, Goal(within=1), trial=trial)
    assert "Ranks 1 to 3 keep everything." in explanation(lean, reasons=reasons_of(lean, workload, costs))


def test_other_budgets() -> None:
    """Keeping all takes 12 ms: 3 MB cost 16.7 %, 4 MB nothing."""
    three, four = tuning_of(), tuning_of(KEPT, goal=Goal(boundary_memory=4 * MB))
    frontier = frontier_of([three, four], [])
    assert explanation(three, frontier).endswith(
        "The least budget that a plan was found for is 2.861 MiB of boundaries (step 14 ms). From 3.815 MiB of "
        "boundaries (step 12 ms) on a step is within 1 % of keeping all."
    )
    assert nearly_as_quick(frontier) is frontier.points[1]
    assert nearly_as_quick(frontier_of([three], [])) is None
    empty = replace(frontier, points=())
    assert explanation(three, empty).endswith(
        "No plan was found under any budget of boundaries: none keeps the other limits."
    )


def leaving_of(stage: int, units: tuple[int, int], *microbatches: tuple[int, int]) -> Leaving:
    return Leaving(rank=stage, stage=stage, units=units, microbatches=microbatches)


def test_which_leave() -> None:
    """Stages 1 and 2 are alike in all that leaves, stage 0 is not, and stage 4 stands apart from them."""
    alike = [leaving_of(stage, (0, 1), (0, 2), (5, 5)) for stage in (1, 2, 4)]
    found = Reasons(ranks=(), leaving=(leaving_of(0, (3, 3), (7, 7)), *alike))
    assert which_leave(found) == (
        "stage 0, unit 3: microbatch 7; stages 1 to 2, units 0 to 1: microbatches 0 to 2, 5; "
        "stage 4, units 0 to 1: microbatches 0 to 2, 5"
    )
    assert which_leave(found, 1) == "stage 0, unit 3: microbatch 7; and 2 more"
    assert which_leave(Reasons(ranks=(), leaving=())) == ""
    even = leaving_of(0, (0, 0), *((number, number) for number in range(0, 14, 2)))
    assert which_leave(Reasons(ranks=(), leaving=(even,))) == ("stage 0, unit 0: microbatches 0 to 12, 7 of these")


def test_ranks_in_words() -> None:
    assert ranks_text([3]) == "rank 3"
    assert ranks_text([0, 1]) == "ranks 0 and 1"
    assert ranks_text([0, 1, 2, 5]) == "ranks 0 to 2 and 5"


def test_without_checkpointing_there_is_nothing_to_offload() -> None:
    trial = trial_of(policy=replace(POLICY, checkpoint=False))
    assert sentence(tuning_of(KEPT, goal=Goal(), trial=trial)).startswith(
        "Nothing is offloaded: no unit is recomputed from its boundary"
    )


def test_plain_data_is_json_and_says_the_same() -> None:
    tuning = tuning_of()
    reasons, frontier = reasons_of(tuning, WORKLOAD, COSTS), frontier_of([tuning], [])
    plain = tuning_to_dict(tuning, frontier, reasons)
    assert json.loads(json.dumps(plain, allow_nan=False))["gap"] == pytest.approx(14 / 12 - 1)
    assert plain["explanation"] == explanation(tuning, frontier, reasons) == " ".join(plain["sentences"])
    assert plain["reasons"]["ranks"][0]["away_ns"] == (3 * MS, 5 * MS)
    assert plain["reasons"]["which_leave"] == "stage 0, unit 0: microbatches 0, 3"
    assert tuning_to_dict(tuning)["reasons"] is None


def test_what_does_not_fit_is_not_held_against_the_bound() -> None:
    found = tuning_of(goal=Goal(memory=2 * MB))
    assert found.missing == Missing(device_bytes=MB)
    assert "optimal" not in explanation(found) and "faster" not in explanation(found)
