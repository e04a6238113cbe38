"""la.tune, and what other functions make of a scenario whose decisions tuning makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.jobs import job_of, with_costs
from loadahead.reports import run_directory
from loadahead.sim.choice import gpu_ns_per_microbatch
from loadahead.sim.costs import Costs, load_costs
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.tuning.horizons import policies

COSTS = Path(__file__).parents[2] / "golden" / "costs" / "two-rank.json"
AUTO = {"offload.decisions": "auto"}
CAP = 12_000_000


@pytest.fixture(scope="module")
def tuned() -> la.Tuned:
    return la.tune("slow-link", boundary_memory="12 MB", budgets=4)


def test_the_plan_keeps_the_budget_and_is_the_step_of_both_engines(tuned: la.Tuned) -> None:
    la.verify(tuned.plan)
    assert tuned.fits and tuned.missing_bytes == 0 and tuned.shortage == ""
    for engine in ("compiled", "simpy"):
        step = la.simulate(tuned.plan, engine=engine).metrics
        assert step.peak_boundary_bytes <= CAP
        assert step == tuned.step.metrics
    assert tuned.bound.step_time_ns <= tuned.step.metrics.step_time_ns
    assert tuned.gap == tuned.step.metrics.step_time_ns / tuned.bound.step_time_ns - 1


def test_it_is_no_worse_than_the_best_horizon_that_is_swept(tuned: la.Tuned) -> None:
    axes = {"horizon": range(1, 25), "release_window": range(1, 9), "horizon_unit": ["tasks", "layers"]}
    rows = [row for row in la.sweep("slow-link", axes).rows if row.peak_boundary_bytes <= CAP]
    assert rows and tuned.step.metrics.step_time_ns <= min(row.step_time_ns for row in rows)
    assert len([*policies(tuned.job.known().policy.by_horizon())]) >= tuned.tuning.horizons


def test_the_scenario_that_it_echoes_makes_the_same_plan(tuned: la.Tuned) -> None:
    again = la.plan(tuned.plan.policy["scenario"])
    assert list(Decisions.of(again).rows()) == list(Decisions.of(tuned.plan).rows())
    assert tuned.plan.policy["scenario"]["offload"]["boundary_memory"] == f"{CAP} B"
    assert tuned.plan.policy["goal"] == {"boundary_memory": CAP}
    assert la.simulate("slow-link", AUTO | {"offload.boundary_memory": CAP}).metrics == tuned.step.metrics


def test_its_own_horizon_is_no_matter_and_needs_no_word(tuned: la.Tuned) -> None:
    assert tuned.warnings == () and "horizon" not in tuned.plan.policy
    assert la.simulate(tuned.plan).header["warnings"] == []
    assert la.advise(tuned.plan) is None


def test_where_it_fits_nothing_leaves() -> None:
    roomy = la.tune("slow-link")
    assert roomy.plan.policy["offloaded"] == 0 and roomy.gap == 0
    without = la.simulate("slow-link", {"offload.offload_activations": False})
    assert roomy.step.metrics == without.metrics


def test_what_is_not_to_be_offloaded_stays_and_says_so() -> None:
    off = {"offload.offload_activations": False}
    roomy = la.tune("slow-link", overrides=off, budgets=0)
    said = 'offload.decisions = "auto" has no effect: offload.offload_activations is false, so that nothing leaves'
    assert roomy.warnings == (said,) and roomy.plan.policy["offloaded"] == 0
    assert roomy.sentences[0].startswith("Nothing is offloaded: offload_activations is false, and all 32 boundaries")
    assert not la.tune("slow-link", overrides=off, memory="20 MB", budgets=0).fits


def test_the_frontier_is_made_when_asked_for_and_is_the_table(tuned: la.Tuned) -> None:
    fresh = la.tune("slow-link", boundary_memory="12 MB", budgets=4)
    told: list[str] = []
    watched = la.tune("slow-link", boundary_memory=CAP, budgets=4, progress=lambda one: told.append(one.what))
    assert fresh.known_frontier is None and "slow-link: tuning 4 budgets" not in told
    table = watched.to_pandas()
    assert "slow-link: tuning 4 budgets" in told and watched.known_frontier is watched.frontier
    assert list(table["budget_bytes"]) == [point.budget_bytes for point in watched.frontier.points]
    assert (table["peak_boundary_bytes"] <= table["budget_bytes"]).all()
    assert (table["bound_ns"] <= table["step_time_ns"]).all()
    assert table["step_time_ns"].is_monotonic_decreasing
    assert watched.to_dict()["frontier"]["of_boundaries"] is True and fresh.to_dict()["frontier"] is None


def test_it_is_drawn_as_far_as_it_is_known() -> None:
    fresh = la.tune("slow-link", boundary_memory="12 MB", budgets=3)
    assert [axes.figure for axes in la.plot(fresh)]
    with pytest.raises(la.InputError, match="frontier"):
        la.plot(fresh, "tuned_frontier")
    assert fresh.frontier.points
    assert [axes.figure for axes in la.plot(fresh, "tuned_frontier")]


def test_within_looks_for_memory_at_that_step_time() -> None:
    found = la.tune("slow-link", within="50 %")
    kept = found.tuning.keep_all.row
    assert found.fits and found.plan.policy["goal"] == {"within": 0.5}
    assert found.step.metrics.step_time_ns <= 1.5 * kept.step_time_ns
    assert found.step.metrics.peak_device_bytes <= kept.peak_device_bytes


def test_a_budget_that_no_plan_keeps_is_told_with_one_that_does() -> None:
    tight = la.tune("slow-link", boundary_memory="1 MB")
    least = tight.step.metrics.peak_boundary_bytes
    assert not tight.fits and tight.missing_bytes == least - 1_000_000
    assert f'With offload.boundary_memory = "{least} B"' in tight.shortage and "\n" not in tight.shortage
    assert la.tune("slow-link", boundary_memory=least).fits
    overrides = AUTO | {"offload.boundary_memory": "1 MB"}
    for function in (la.plan, la.simulate, la.advise):
        with pytest.raises(la.CheckFailed, match=r"^slow-link: No plan that was found keeps the budget: the nearest"):
            function("slow-link", overrides)
    assert la.inspect("slow-link", overrides).room is not None


def test_of_several_the_most_work_in_a_gpu_s_time_wins() -> None:
    found = la.tune("slow-link", memory="12 MB", microbatches=[8, 4, 8], pipelines=["simple", "interleaved"])
    assert [(one.pipeline, one.microbatches) for one in found.tried] == [
        ("simple", 8),
        ("simple", 4),
        ("interleaved", 8),
        ("interleaved", 4),
    ]
    for one in found.tried:
        alone = la.tune(
            "slow-link",
            memory="12 MB",
            overrides={"parallel.microbatches": one.microbatches, "parallel.pipeline": one.pipeline},
        )
        assert alone.step.metrics.step_time_ns == one.tuning.chosen.row.step_time_ns
    best = min(gpu_ns_per_microbatch(one.row()) for one in found.tried if one.tuning.fits)
    (chosen,) = (one for one in found.tried if one.tuning is found.tuning)
    assert 0.99 * gpu_ns_per_microbatch(chosen.row()) <= best
    assert (found.plan.policy["pipeline"], found.plan.microbatches) == (chosen.pipeline, chosen.microbatches)


def test_where_none_of_several_fits_the_nearest_is_taken() -> None:
    found = la.tune("slow-link", memory="1 MB", microbatches=[4, 8])
    assert not found.fits
    assert found.missing_bytes == min(one.tuning.missing.total for one in found.tried)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"memory": "60 horses"}, "offload.memory: '60 horses' is no size"),
        ({"within": 2}, "offload.within: 2 is no share"),
        ({"budgets": -1}, "budgets is -1; it must be a whole number from 0 to 1000"),
        ({"microbatches": [4, "8"]}, "microbatches has the value '8'; give one or several whole numbers"),
        ({"pipelines": []}, "pipelines has no values"),
        ({"pipelines": "zigzag"}, "parallel.pipeline"),
        ({"order": "simple", "microbatches": 4}, "an order is given and microbatches too"),
    ],
)
def test_mistakes_are_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(la.InputError) as found:
        la.tune("slow-link", **given)
    assert says in str(found.value) and "\n" not in str(found.value)


def test_a_plan_is_not_tuned(tuned: la.Tuned, tmp_path: Path) -> None:
    with pytest.raises(la.InputError, match="slow-link: is a plan already"):
        la.tune(tuned.plan)  # type: ignore[arg-type]  # a slip of the pen
    la.tune("slow-link", boundary_memory=CAP, budgets=0, directory=tmp_path)
    with pytest.raises(la.InputError, match="is a plan already; give the scenario that one is to be tuned of"):
        la.tune(tmp_path / run_directory.PLAN)


def test_an_order_of_one_s_own_is_tuned() -> None:
    two = {"parallel.pipeline_parallel_degree": 2, "parallel.microbatches": 2}
    order = [
        ["0F0", "0F1", "3F0", "3B0", "3F1", "3B1", "0B0", "0B1"],
        ["1F0", "2F0", "1F1", "2F1", "2B0", "1B0", "2B1", "1B1"],
    ]
    found = la.tune("uniform", overrides=two, order=order, budgets=0)
    assert len(found.plan.stage_rank) == 4 and found.fits
    la.verify(found.plan)


def test_a_directory_holds_the_plan_and_the_answer(tmp_path: Path) -> None:
    (tmp_path / run_directory.ADVICE).write_text("{}")
    found = la.tune("slow-link", boundary_memory="12 MB", budgets=3, directory=tmp_path)
    assert not (tmp_path / run_directory.ADVICE).exists()
    told = json.loads((tmp_path / run_directory.TUNING).read_text())
    assert told["fits"] and told["chosen"]["step_time_ns"] == found.step.metrics.step_time_ns
    assert told["frontier"]["points"] and told["explanation"]
    assert la.simulate(tmp_path / run_directory.PLAN).metrics == found.step.metrics
    # What tuning found is not another plan's.
    job, costs = with_costs(job_of("slow-link"))
    from loadahead.prediction import predict, write_prediction

    write_prediction(job, predict(job, costs), costs, tmp_path)
    assert not (tmp_path / run_directory.TUNING).exists()
    la.report(found, tmp_path / "page")
    assert (tmp_path / "page" / run_directory.TUNING).exists() and (tmp_path / "page" / run_directory.PAGE).exists()


def test_a_plan_file_is_not_tuned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    la.tune("slow-link", boundary_memory=CAP, budgets=0, directory=tmp_path)

    def tune(*_: object) -> None:
        raise AssertionError("it was tuned again")

    monkeypatch.setattr("loadahead.sim.tuning.tune", tune)
    path = tmp_path / run_directory.PLAN
    assert la.simulate(path).metrics.peak_boundary_bytes <= CAP
    la.verify(path)
    assert la.advise(path) is None


def test_decisions_that_are_given_are_not_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Decisions.of(la.plan("slow-link"))

    def tune(*_: object) -> None:
        raise AssertionError("it was tuned")

    monkeypatch.setattr("loadahead.sim.tuning.tune", tune)
    plan = la.plan("slow-link", AUTO, decisions=given)
    assert list(Decisions.of(plan).rows()) == list(given.rows())
    assert "decisions" not in plan.policy and "as the decisions given say" in plan.policy["sentence"]


def test_what_cannot_leave_takes_no_times() -> None:
    """Without checkpointing nothing leaves, and a module is planned without being calibrated, as it always was."""
    plan = la.plan("two-rank", AUTO | {"checkpoint.enabled": False})
    assert plan.policy["offloaded"] == 0


def test_a_module_is_calibrated_before_it_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    known, asked = load_costs(COSTS), []

    def calibrated(prepared: Any, *_: object, **__: object) -> Costs:
        asked.append(prepared.scenario.name)
        return known

    monkeypatch.setattr("loadahead.jobs.calibrate_prepared", calibrated)
    cap = AUTO | {"offload.boundary_memory": "1 MB"}
    plan = la.plan("two-rank", cap)
    step = la.simulate("two-rank", cap)
    assert asked == ["two-rank"] * 2
    with_file = la.simulate("two-rank", cap, costs=COSTS)
    assert list(Decisions.of(plan).rows()) == list(Decisions.of(with_file.plan).rows())  # type: ignore[arg-type]
    assert step.metrics == with_file.metrics and step.metrics.peak_boundary_bytes <= 1_000_000
    found = la.tune("two-rank", boundary_memory="1 MB", budgets=0)
    assert asked == ["two-rank"] * 3 and found.step.metrics == step.metrics


def test_inspect_says_what_the_tuned_plan_needs() -> None:
    cap = AUTO | {"offload.memory": "20 MB"}
    found = la.inspect("slow-link", cap)
    assert found.room is not None
    assert found.room.fullest.peak_device_bytes == la.simulate("slow-link", cap).metrics.peak_device_bytes
    assert la.inspect("two-rank", cap).room is None
