"""The answer in words: each case that a run or a sweep can be, and every number of it read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loadahead as la
from loadahead.prediction import keep_all
from loadahead.reports.about import About
from loadahead.reports.answer import NextStep, answer, answer_of
from loadahead.reports.answer.of_runs import instead_of, next_step
from loadahead.reports.answer.subject import subject
from loadahead.reports.findings import Found, Taken, read_found
from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.reports.sweep_facts import SweepFacts
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import decisions_of
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.step_metrics import METRIC_COLUMNS, ROOM_COLUMNS, SweepRow
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_bytes, format_duration, parse_bytes
from tests.support.plans import uniform_costs

MIB, MS = 2**20, 1_000_000
KEEP_ALL = {"horizon": None, "step_time_ns": 100 * MS, "peak_device_bytes": 25 * MIB, "saved_bytes": 0, "slower": 0.0}


def taken(horizon: int, peak_mib: int, slower: float, waits_ms: int | None = None) -> dict[str, Any]:
    return {
        "horizon": horizon,
        "step_time_ns": round(100 * MS * (1 + slower)),
        "peak_device_bytes": peak_mib * MIB,
        "saved_bytes": (25 - peak_mib) * MIB,
        "slower": slower,
        "waits_ns": None if waits_ms is None else waits_ms * MS,
    }


def findings(**more: Any) -> dict[str, Any]:
    """What advice.json holds, of a scenario in which horizon 3 of 10 is advised."""
    best, smaller = taken(3, 16, 0.002), taken(2, 15, 0.08, waits_ms=41)
    return {
        "horizon_unit": "tasks",
        "release_window": 1,
        "capacity_bytes": 64 * MIB,
        "keep_all": KEEP_ALL,
        "best": best,
        "smaller": smaller,
        "smallest": taken(1, 14, 0.3),
        "own": taken(5, 18, 0.001),
        "searched": {"last": 10, "tried": 10, "complete": True},
        "sentence": "Horizon 3 ...",
    } | more


def step_of(
    source: str = "compiled", time_ms: int = 101, peak_mib: int = 16, costs: str = "scenario", **header: Any
) -> Timeline:
    """A timeline with its summary alone."""
    base = la.simulate("slow-link")
    summary = base.header["summary"]
    rank = summary["ranks"][0] | {"peak_device_bytes": peak_mib * MIB}
    own = {"summary": summary | {"step_time_ns": time_ms * MS, "ranks": [rank]}, "costs": costs}
    return replace(base, source=source, plan=None, header=own | header)


def text_of(data: RunData) -> str:
    return "\n".join(answer(data))


def run_of(**more: Any) -> RunData:
    return RunData(predicted=step_of(), findings=findings(**more))


def test_it_fits_without_offloading_and_the_horizon_saves() -> None:
    lines = answer(run_of())
    assert lines[0] == (
        "Horizon 3 (tasks, release window 1): 16 instead of 25 MiB, step time +0.2 %; the smallest whose step is "
        "within 1 % of keeping all; horizon 2 would wait 41 ms for copies, step time +8.0 %."
    )
    assert lines[1:] == (
        "Nothing was measured: these are predictions.",
        "It fits without offloading: 25 MiB of 64 MiB, a step of 100 ms.",
        "This plan has horizon 5: 18 instead of 25 MiB, step time +0.1 %.",
        "Predicted (compiled): one step takes 101 ms, 16 MiB of device memory.",
        "Next: take horizon = 3.",
    )


def test_it_fits_with_offloading_alone() -> None:
    text = text_of(run_of(capacity_bytes=20 * MIB))
    assert "It does not fit without offloading: 25 MiB, 5 MiB more than the GPU's 20 MiB." in text
    assert "16 instead of 25 MiB, step time +0.2 %, fits;" in text and "18 instead of 25 MiB" in text


def test_the_best_does_not_fit_and_a_slower_one_does() -> None:
    lines = answer(run_of(capacity_bytes=15 * MIB, fitting=taken(2, 15, 0.08)))
    assert "Horizon 2, the largest that fits: 15 instead of 25 MiB, step time +8.0 %, fits." in lines
    assert "Next: take horizon = 2." in lines
    assert any(line.startswith("Horizon 3 ") and ", does not fit;" in line for line in lines)


def test_nothing_fits() -> None:
    text = text_of(run_of(capacity_bytes=10 * MIB))
    assert "Nothing fits: horizon 1, which needs least, needs 4 MiB more than the GPU has." in text
    assert "fits without" not in text.replace("It does not fit without", "")


def test_the_host_has_no_room() -> None:
    text = text_of(run_of(capacity_bytes=14 * MIB))
    assert "No horizon fits both the GPU and the host." in text
    smaller = taken(2, 15, 0.001)
    assert "keeping all and whose slots fit the host." in text_of(run_of(smaller=smaller))


def test_a_plan_whose_slots_the_host_has_no_room_for_does_not_fit() -> None:
    own = taken(5, 18, 0.001) | {"host_bytes": 9 * MIB}
    data = run_of(own=own, host_capacity_bytes=8 * MIB, capacity_bytes=20 * MIB)
    assert "This plan has horizon 5: 18 instead of 25 MiB, step time +0.1 %, does not fit the host." in answer(data)


def test_a_run_that_the_host_has_no_room_for_is_not_the_next_step() -> None:
    scenario = {"scenario": {"model": {"kind": "module"}}}
    step = step_of(host_capacity_bytes=2**40)
    plan = replace(la.plan("slow-link"), policy=scenario)
    assert answer(RunData(predicted=step, plan=plan))[-1].startswith("Next: run it")
    assert step.metrics.host_bytes > 1
    short = step_of(host_capacity_bytes=1)
    assert not answer(RunData(predicted=short, plan=plan))[-1].startswith("Next")


def test_the_least_size_of_boundaries_that_leave_is_named() -> None:
    assert "Horizon 3 (tasks, release window 1, min_bytes 64 KiB): " in text_of(run_of(min_bytes=2**16))


def test_no_horizon_is_short_enough() -> None:
    lines = answer(run_of(best=None, smaller=None, why_none="No horizon saves. In the way are copies."))
    assert "No horizon saves. In the way are copies." in lines
    assert "Horizon 1, which needs least: 14 instead of 25 MiB, step time +30.0 %." in lines
    # Its own horizon is short enough, so that nothing is to be done.
    assert not any(line.startswith("Next") for line in lines)


def test_a_horizon_that_costs_too_much_where_none_is_needed() -> None:
    slow = taken(2, 15, 0.3)
    lines = answer(run_of(best=None, smaller=None, own=slow, why_none="No horizon saves."))
    assert lines[0] == (
        "It fits without offloading: 25 MiB of 64 MiB, a step of 100 ms. This plan has horizon 2: 15 instead of 25 "
        "MiB, step time +30.0 %."
    )
    assert lines[-1] == "Next: take offload.offload_activations = False."


def test_another_unit_leads_where_it_decides() -> None:
    news = taken(2, 10, 0.005) | {"horizon_unit": "layers", "release_window": 1}
    lines = answer(run_of(news=news, news_leads=True))
    other = 'With horizon_unit = "layers" horizon 2: 10 instead of 25 MiB, step time +0.5 %.'
    assert lines[0] == other and lines[3].startswith("Horizon 3 ")
    assert lines[-1] == "Next: take horizon_unit = layers, horizon = 2."
    behind = answer(run_of(news=news))
    assert behind[0].startswith("Horizon 3 ") and behind.index(other) == 3 and behind[-1] == "Next: take horizon = 3."


def test_another_unit_decides_where_no_horizon_of_this_one_does() -> None:
    """The sentence that decides is on what is to be done next, though keeping all fits."""
    news = taken(2, 10, 0.005) | {"horizon_unit": "layers", "release_window": 2}
    said = answer_of(run_of(best=None, smaller=None, why_none="No horizon saves.", news=news, news_leads=True))
    assert said.headline.startswith('With horizon_unit = "layers" and release_window = 2 horizon 2: 10 instead of 25')
    assert said.upcoming == "Next: take horizon_unit = layers, release_window = 2, horizon = 2."


def test_another_window_leads_where_it_beats_the_best_horizon_in_both() -> None:
    news = taken(1, 15, 0.0) | {"horizon_unit": "tasks", "release_window": 2}
    said = answer_of(run_of(news=news))
    assert said.headline == "With release_window = 2 horizon 1: 15 instead of 25 MiB, step time +0 %."
    assert said.upcoming == "Next: take release_window = 2, horizon = 1."
    # It is not as short, or needs more: both are told, and the best horizon decides.
    for peak, slower in ((15, 0.003), (17, 0.0)):
        other = taken(1, peak, slower) | {"horizon_unit": "tasks", "release_window": 2}
        assert answer_of(run_of(news=other)).headline.startswith("Horizon 3 ")


def test_a_plan_has_what_decides_and_nothing_else() -> None:
    """The advised horizon does not fit or another unit decides: a plan that has it has not what is to be taken."""
    mine = taken(3, 16, 0.002)
    short = answer_of(run_of(capacity_bytes=15 * MIB, fitting=taken(2, 15, 0.08), own=mine))
    assert short.headline.startswith("Horizon 2, the largest that fits") and "has it" not in short.headline
    assert "This plan has horizon 3: 16 instead of 25 MiB, step time +0.2 %, does not fit." in short.more
    news = taken(2, 10, 0.005) | {"horizon_unit": "layers", "release_window": 1}
    assert "has it" not in "".join(answer(run_of(news=news, news_leads=True, own=mine)))
    nothing = answer_of(run_of(capacity_bytes=10 * MIB, own=mine))
    assert nothing.headline == "Nothing fits: horizon 1, which needs least, needs 4 MiB more than the GPU has."


def test_the_plan_has_it_or_offloads_nothing() -> None:
    assert answer(run_of(own=taken(3, 16, 0.002)))[0].endswith("step time +8.0 %. This plan has it.")
    assert "This plan does not offload." in answer(run_of(own=None))
    # As good, within a percent: there is nothing to do next.
    assert next_step(run_of(own=taken(4, 16, 0.0))) is None


def test_a_search_that_was_cut_short_claims_no_more() -> None:
    text = text_of(run_of(searched={"last": 90, "tried": 40, "complete": False}))
    assert "the smallest of the 40 of 90 that were tried whose step" in text


def measured_run(time_ms: int = 100, steps: int = 7, **more: Any) -> RunData:
    measured = step_of("cpu", time_ms, step_times_ns=[time_ms * MS] * steps)
    return replace(run_of(own=taken(3, 16, 0.002)), measured=measured, **more)


def test_how_well_it_held() -> None:
    text = text_of(measured_run())
    assert (
        "Measured on cpu, 7 timed steps: step time 100 ms, predicted 101 ms (+1.0 %); peak device memory 16 MiB, as "
        "predicted." in text
    )
    assert "No kind of operation is off by more than 1 % of the step in all." in text
    assert "predictions" not in text and "Next" not in text


def test_which_operations_were_off() -> None:
    """What is longer in all is named where the step is as long as predicted."""
    data = measured_run(200)
    assert data.predicted is not None and data.measured is not None
    # All offloads but the last, which end while something else runs.
    longer = (data.measured.kind == Kind.OFFLOAD) & (data.measured.end_ns < data.measured.end_ns.max() - 50 * MS)
    end = data.measured.end_ns + longer * 5 * MS
    text = text_of(replace(data, measured=replace(data.measured, end_ns=end)))
    shown, before = (
        int((side - data.measured.start_ns)[data.measured.kind == Kind.OFFLOAD].sum())
        for side in (end, data.measured.end_ns)
    )
    assert (
        f"Of all kinds of operation OFFLOAD is off most: {format_duration(shown)} in all, predicted "
        f"{format_duration(before)}." in text
    )


def test_a_demo_names_the_horizons_that_are_off() -> None:
    metrics = step_of().metrics
    points = tuple(
        HorizonPoint(horizon=h, microbatches=8, predicted=metrics, measured=replace(metrics, step_time_ns=ms * MS))
        for h, ms in ((1, 101), (2, 139))
    )
    assert "far off: horizon 2 (−27.3 %)" in text_of(measured_run(horizons=points))


def test_an_estimate_for_another_device_says_nothing_of_a_cpu() -> None:
    estimated = step_of(costs="estimate by roofline for h100-sxm")
    text = text_of(replace(measured_run(), predicted=estimated))
    assert "Predicted (compiled; estimate by roofline for h100-sxm)" in text
    assert "neither says anything of the other" in text and "peak device memory 16 MiB, as predicted" in text


def test_decisions_that_were_given_are_compared_with_keeping_all() -> None:
    data = RunData(predicted=step_of(), keep_all=step_of(time_ms=100, peak_mib=25))
    assert "Against keeping all: 16 instead of 25 MiB, step time +1.0 %." in answer(data)
    assert "It fits" not in text_of(data)


def test_a_timeline_alone_and_nothing_at_all() -> None:
    assert answer(RunData(measured=step_of("cuda"))) == ("Measured on cuda: a step takes 101 ms.",)
    assert answer(RunData()) == ()
    assert answer(RunData(predicted=step_of(), findings={"sentence": "of an earlier version"}))[1].startswith("Nothing")


def row(horizon: int, step_ms: int, peak_mib: int, offloaded: int = 1, **known: Any) -> SweepRow:
    figures = dict.fromkeys(METRIC_COLUMNS, 0) | dict.fromkeys(ROOM_COLUMNS)
    own = {"step_time_ns": step_ms * MS, "offloaded": offloaded, "peak_device_bytes": peak_mib * MIB}
    return SweepRow.from_dict({"microbatches": 4, "horizon": horizon} | figures | own | known)


ROWS = (row(1, 1300, 14), row(2, 1080, 15), row(3, 1010, 16), row(4, 995, 18), row(9, 990, 25, offloaded=0))


def test_a_sweep_names_the_chosen_point_what_keeps_all_and_its_neighbours() -> None:
    lines = answer(RunData(sweep=ROWS))
    assert lines[0].startswith("The best that fits: microbatches 4, horizon 4. ")
    # 990 is half a percent below 995, so that both count as equally fast, and 1010 is 1.5 % above it.
    assert lines[1:4] == (
        "The best that keeps all (microbatches 4, horizon 9): 25 MiB of device memory, GPU time per microbatch −0.5 %.",
        "The next leaner (microbatches 4, horizon 3): 16 MiB of device memory, GPU time per microbatch +1.5 %.",
        "The next faster (microbatches 4, horizon 9): 25 MiB of device memory, GPU time per microbatch −0.5 %.",
    )
    assert lines[-2:] == (
        "Nothing was measured: these are predictions.",
        "Next: take microbatches = 4, horizon = 4.",
    )


@pytest.mark.parametrize("is_axis", [True, False])
def test_a_tuned_point_that_misses_its_budget_is_no_leaner_choice(is_axis: bool) -> None:
    """Horizon 3's row needs 16 MiB: it stands for the nearest plan to a budget of one byte less."""
    own = {"decisions": "auto"}
    rows = tuple(replace(row, axes=dict(row.axes) | own) for row in ROWS)
    least = 16 * MIB

    def said(budget: int) -> tuple[str, ...]:
        axis = {"offload.memory": f"{budget} B"} if is_axis else {}
        data = swept(tuple(replace(row, axes=dict(row.axes) | axis) for row in rows))
        assert data.facts is not None
        tables = {} if is_axis else {"offload": {"memory": f"{budget} B"}}
        return answer(replace(data, facts=replace_facts(data.facts, tables), findings={}))

    assert any(line.startswith("The next leaner") and "16 MiB" in line for line in said(25 * MIB))
    assert not any(line.startswith("The next leaner") and "16 MiB" in line for line in said(least - 1))


def replace_facts(facts: SweepFacts, tables: dict[str, Any]) -> SweepFacts:
    return facts.model_copy(update={"tables": tables, "findings": None})


def swept(rows: tuple[SweepRow, ...] = ROWS, **more: Any) -> RunData:
    facts = SweepFacts(
        loadahead="1",
        scenario="s",
        tables={},
        axes={},
        engine="e",
        costs=(),
        points=len(rows),
        findings=findings(**more),
    )
    return RunData(sweep=rows, facts=facts)


def test_what_the_horizons_say_is_better_than_the_marked_point_stands_first() -> None:
    """One recommendation: the headline has what is to be done next, and the sweep's own best point comes after it."""
    own = taken(4, 18, 0.059)
    news = taken(2, 14, 0.005) | {"horizon_unit": "layers", "release_window": 2}
    said = answer_of(swept(own=own, best=None, smaller=None, why_none="None saves.", news=news, news_leads=True))
    assert said.headline == (
        'With horizon_unit = "layers" and release_window = 2 horizon 2: 14 instead of 25 MiB, step time +0.5 %. The '
        "marked point has horizon 4: 18 instead of 25 MiB, step time +5.9 %."
    )
    assert said.more[0].startswith("Of what was swept, the best that fits: microbatches 4, horizon 4. ")
    assert said.upcoming == "Next: take microbatches = 4, horizon = 2, horizon_unit = layers, release_window = 2."


def test_a_marked_point_that_costs_more_than_keeping_all() -> None:
    """An estimate's marked step took 32 times as long as one that keeps all, which fits."""
    own = taken(4, 18, 31.0)
    said = answer_of(swept(own=own, best=None, smaller=None, why_none="None saves."))
    assert said.headline == (
        "It fits without offloading: 25 MiB of 64 MiB, a step of 100 ms. The marked point has horizon 4: 18 instead of "
        "25 MiB, step time ×32."
    )
    assert said.upcoming == "Next: take microbatches = 4, offload.offload_activations = False."


def test_an_advised_horizon_with_the_same_memory_stands_first() -> None:
    said = answer_of(swept(own=taken(4, 16, 0.02)))
    assert said.headline.startswith("Horizon 3 (tasks, release window 1): 16 instead of 25 MiB, step time +0.2 %; ")
    assert said.headline.endswith("The marked point has horizon 4: 16 instead of 25 MiB, step time +2.0 %.")
    assert said.upcoming == "Next: take microbatches = 4, horizon = 3."
    # Where the marked point has it, the sweep's own sentence stays first.
    same = answer_of(swept(own=taken(3, 16, 0.002)))
    assert same.headline.startswith("The best that fits: ") and "The marked point has it." in same.more


PLANS = st.builds(taken, st.integers(1, 9), st.integers(5, 24), st.sampled_from([0.0, 0.002, 0.009, 0.03, 0.4]))
OTHERS = st.builds(
    lambda plan, unit, window: plan | {"horizon_unit": unit, "release_window": window},
    PLANS,
    st.sampled_from(["tasks", "layers"]),
    st.sampled_from([2, 3]),
)


@settings(deadline=None)
@given(st.none() | PLANS, st.none() | PLANS, st.none() | PLANS, st.none() | OTHERS, st.booleans(), st.integers(4, 30))
def test_the_headline_is_on_what_is_to_be_done_next(
    best: Any, fitting: Any, own: Any, news: Any, leads: bool, capacity_mib: int
) -> None:
    """One recommendation: the headline names the horizon, or that all fits, which the next step takes."""
    by_horizon = {plan["horizon"]: plan for plan in (own, fitting, best) if plan is not None}
    own, fitting, best = (None if plan is None else by_horizon[plan["horizon"]] for plan in (own, fitting, best))
    found = {
        "best": best if best is None or best["slower"] <= 0.01 else None,
        "fitting": None
        if capacity_mib >= 25 or fitting is None or fitting["peak_device_bytes"] > capacity_mib * MIB
        else fitting,
        "own": own,
        "smaller": None,
        "news": news,
        "news_leads": leads and news is not None,
        "why_none": "None saves.",
        "capacity_bytes": capacity_mib * MIB,
    }
    for data in (run_of(**found), swept(**found)):
        said, upcoming = answer_of(data), next_step(data)
        taken_next = {} if upcoming is None else upcoming.settings
        decided = {name: value for name, value in taken_next.items() if name != "microbatches"}
        if data.sweep and decided == {"horizon": 4}:
            # The marked point's own, which the horizons do not better.
            continue
        if "offload.offload_activations" in decided:
            assert said.headline.startswith("It fits without offloading: 25 MiB of ")
        elif decided:
            assert (
                f"orizon {decided['horizon']}" in said.headline and "does not fit" not in said.headline.split(". ")[0]
            )
            for name in {"horizon_unit", "release_window"} & decided.keys():
                assert f"{name} = " in said.headline
        if " has it." in " ".join(said.sentences):
            assert not decided


def test_where_nothing_fits_no_point_is_marked() -> None:
    rows = tuple(replace(one, capacity_bytes=10 * MIB) for one in ROWS)
    text = text_of(swept(rows, capacity_bytes=10 * MIB, own=taken(1, 14, 0.3)))
    assert "The nearest point has horizon 1: 14 instead of 25 MiB, step time +30.0 %, does not fit." in text
    assert "marked" not in text


def test_a_sweep_in_which_nothing_fits_and_one_of_several_models() -> None:
    short = tuple(replace(one, capacity_bytes=10 * MIB) for one in ROWS)
    lines = answer(RunData(sweep=short))
    assert lines[0].startswith("Nothing fits: ") and not any(line.startswith("Next") for line in lines)
    models = tuple(replace(one, axes={**one.axes, "model.layers": n}) for one in ROWS for n in (2, 4))
    lines = answer(RunData(sweep=models))
    assert [line.split(":")[0] for line in lines[:2]] == ["model.layers 2", "model.layers 4"]
    assert not any(line.startswith("The next") for line in lines)


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_sizes_can_be_read_back(now: int, before: int) -> None:
    text = instead_of(now, before)
    if now == before:
        assert text == f"{format_bytes(now)} either way"
        return
    small, large = text.split(" instead of ")
    unit = large.partition(" ")[2]
    assert parse_bytes(large) == parse_bytes(format_bytes(before))
    assert parse_bytes(small if " " in small else f"{small} {unit}") == parse_bytes(format_bytes(now))


def test_what_it_is_of() -> None:
    about = About(
        model="llama3-8b (8.03 billion parameters)",
        machine="2 x p5.48xlarge",
        device="h100-sxm, 79.65 GiB",
        link="55.6 GB/s each way",
        pipeline_parallel=2,
        tensor_parallel=8,
        data_parallel=1,
        expert_parallel=1,
        zero_stage=0,
        sequence_parallel=True,
        gpus=16,
    )
    step = step_of(about=about.to_dict())
    assert subject(RunData(predicted=step)) == (
        "llama3-8b (8.03 billion parameters) on 16 x h100-sxm of 79.65 GiB (2 x p5.48xlarge), copies at 55.6 GB/s each "
        "way; pipeline 2, tensor 8, sequence parallelism."
    )
    assert subject(RunData()) == ""


def test_what_was_found_is_read_as_it_was_written_and_refused_in_a_line() -> None:
    advice = la.advise("shared-switch")
    assert advice is not None
    found = read_found(advice.to_dict(), "advice.json")
    assert found is not None and found.news is not None and found.news_leads
    assert found.keep_all.step_time_ns == advice.keep_all.step_time_ns
    with pytest.raises(InputError, match=r"advice\.json: .*keep_all"):
        read_found(findings(keep_all={"horizon": "x"}), "advice.json")
    assert read_found({"sentence": "of before"}, "advice.json") is None


def test_the_smaller_horizon_waits_as_long_as_its_own_step_does() -> None:
    """One copy in is a little slower than a BACKWARD, so that horizon 4 is advised and 3 waits."""
    costs = uniform_costs(1, 4, h2d_bandwidth=476_190_477)
    waits = _waits(costs, 3)
    from loadahead.sim.advice import advise
    from loadahead.sim.planner import Policy
    from tests.support.plans import uniform_workload

    advice = advise(uniform_workload(1, 4), costs, Policy(pipeline="simple", microbatches=4, ranks=1, horizon=4))
    assert advice is not None and advice.best is not None and advice.best.horizon == 4
    assert advice.smaller is not None and (advice.smaller.horizon, advice.smaller.waits_ns) == (3, waits)
    found = read_found(advice.to_dict(), "advice.json")
    assert isinstance(found, Found) and isinstance(found.smaller, Taken) and found.smaller.waits_ns == waits


def _waits(costs: Costs, horizon: int) -> int:
    """What the one rank of that horizon's own plan waits for copies, by the other engine."""
    from loadahead.sim.engines import simulate
    from loadahead.sim.planner import Policy, build_plan
    from tests.support.plans import uniform_workload

    policy = Policy(pipeline="simple", microbatches=4, ranks=1, horizon=horizon)
    (rank,) = simulate(build_plan(uniform_workload(1, 4), policy), costs, "simpy").metrics.ranks
    return rank.stall_release_ns + rank.stall_prefetch_ns


def test_a_plan_of_given_decisions_says_so() -> None:
    from loadahead.cli.texts import step_text
    from loadahead.jobs import job_of, with_costs
    from loadahead.prediction import predict, prediction_of

    job, costs = with_costs(job_of("slow-link", decisions=decisions_of(la.plan("slow-link"))))
    predicted = prediction_of(job, costs, predict(job, costs), None, None)
    assert predicted.advice is None and predicted.keep_all is not None
    kept = keep_all(job, costs)
    assert kept is not None
    text = step_text(predicted)
    peak = format_bytes(kept.metrics.peak_device_bytes)
    assert f"Its decisions are given. Against keeping all: 4.768 instead of {peak}, step time +62.0 %." in text


def test_whoever_shows_it_says_what_to_do_next() -> None:
    said = answer(run_of(), lambda step: f"{step.settings} {step.measure}")
    assert said[-1] == "{'horizon': 3} False"
    assert NextStep().settings == {}
