"""Advice by hand: the words a user reads, for figures that can be checked, and what is said of a search cut short."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.sim.advice import advice_on_rows, advise, search
from loadahead.sim.advice.findings import Alternative, Figures
from loadahead.sim.advice.within import slower_text
from loadahead.sim.advice.words import savings
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.step_metrics import METRIC_COLUMNS, ROOM_COLUMNS, SweepRow
from loadahead.sim.units import format_change, part_of
from loadahead.sim.work import Work
from tests.support.plans import MB, MS, uniform_costs, uniform_workload

# One rank, 4 units, 4 microbatches, all forwards first: 16 FORWARDs of 1 ms, then 16 BACKWARDs of 2 ms: 48 ms.
GPIPE = Policy(pipeline="simple", microbatches=4, ranks=1, horizon=4)


def test_the_least_memory_within_one_percent_by_hand() -> None:
    """A copy in takes 2.1 ms where a BACKWARD takes 2 ms.

    At horizon h the first may start h FORWARDs before the first BACKWARD, at 16 - h ms. If the link never waits, copy j
    has ended at 16 - h + 2.1 (j + 1) ms and is needed at 16 + 2 j ms. At h = 3 the last one of 16 is 0.6 ms late, which
    is 1.25 %; at h = 4 none is late. With all kept there are 16 boundaries and a gradient after the turn.
    """
    costs = uniform_costs(1, 4, h2d_bandwidth=476_190_477)
    advice = advise(uniform_workload(1, 4), costs, GPIPE)
    assert advice is not None and advice.best is not None
    assert (advice.best.horizon, advice.best.step_time_ns, advice.keep_all.step_time_ns) == (4, 48 * MS, 48 * MS)
    best = simulate(build_plan(uniform_workload(1, 4), GPIPE), costs).metrics
    assert (advice.keep_all.peak_device_bytes, advice.best.peak_device_bytes) == (17 * MB, best.peak_device_bytes)
    assert advice.obstacles == ("prefetch_stalls",)
    assert advice.sentence.startswith(
        "Horizon 4 (tasks, release window 1) needs the least device memory of all horizons whose step is within 1 % of "
        "keeping all boundaries on the GPU: it saves 9.537 of 16.21 MiB, step +0 %. This plan has it. Horizon 3 "
        "waits too long for prefetches."
    )


def test_one_percent_is_what_counts_and_not_whether_anything_waits() -> None:
    """A copy in takes 2.0202 ms: at h = 2 the last one is 0.32 ms late, 0.67 % of the step; at h = 3 none is late."""
    costs = uniform_costs(1, 4, h2d_bandwidth=495_000_000)
    advice = advise(uniform_workload(1, 4), costs, replace(GPIPE, horizon=1))
    assert advice is not None and advice.best is not None and advice.own is not None
    assert advice.best.horizon == 2
    assert advice.best.slower_than(advice.keep_all) == pytest.approx(0.32 / 48, abs=0.0002)
    assert advice.own.slower_than(advice.keep_all) == pytest.approx(1.32 / 48, abs=0.0002)


def test_a_slow_link_is_no_longer_advised_at_32_percent() -> None:
    """The smallest horizon without prefetch stalls is 9 there, and takes 127 ms where keeping all takes 96 ms."""
    advice = la.advise("slow-link", {"hardware.d2h": "500 MB/s"})
    assert advice is not None and advice.best is None
    assert (
        la.simulate(
            "slow-link", {"hardware.d2h": "500 MB/s", "offload.activation_loading_horizon": 9}
        ).metrics.step_time_ns
        == 127 * MS
    )
    assert advice.keep_all.step_time_ns == 96 * MS
    assert advice.obstacles == ("offload_stalls",)
    assert advice.sentence == (
        "No horizon (tasks, release window 1) saves device memory in a step within 1 % of keeping all boundaries on "
        "the GPU, 96 ms: each costs +25.0 % or more. In the way are offload stalls (copies out of the GPU take too "
        "long). With release_window = 3 horizon 28 saves 976.6 KiB of 31.47 MiB, step +0 %. This plan's horizon 2 "
        "saves 26.7 of 31.47 MiB, step +46.9 %. Horizon 1, which needs least, saves 27.66 of 31.47 MiB, step +49.0 %."
    )


def test_eight_ranks_in_layers_are_not_hopeless() -> None:
    """There are stalls at each horizon, and none makes the step longer than keeping all: 6 MB do instead of 27 MB."""
    changes = {
        "model.units_per_stage": 3,
        "parallel.microbatches": 16,
        "parallel.pipeline_parallel_degree": 8,
        "offload.horizon_unit": "layers",
    }
    advice = la.advise("uniform", changes)
    assert advice is not None and advice.best is not None
    assert (advice.keep_all.peak_device_bytes, advice.best.peak_device_bytes) == (27 * MB, 6 * MB)
    assert advice.best.step_time_ns == advice.keep_all.step_time_ns
    best = la.simulate("uniform", changes | {"offload.activation_loading_horizon": advice.best.horizon}).metrics
    assert max(rank.peak_device_bytes for rank in best.ranks) == 6 * MB
    assert any(rank.stall_prefetch_ns for rank in best.ranks)


def test_a_search_over_twenty_thousand_horizons_is_whole() -> None:
    """80 units, 256 microbatches, a copy in 1 % slower than a BACKWARD: thousands of copies have to be loaded ahead."""
    costs = uniform_costs(1, 80, h2d_bandwidth=int(1e9 / 2.5))
    workload, policy = uniform_workload(1, 80), Policy(pipeline="simple", microbatches=256, ranks=1, horizon=4)
    advice = advise(workload, costs, policy)
    assert advice is not None and advice.best is not None
    horizon = advice.best.horizon
    assert horizon is not None and horizon > 4000
    assert advice.searched.complete
    limit = advice.keep_all.step_time_ns * 1.01
    assert advice.best.step_time_ns <= limit
    smaller = advise(workload, costs, replace(policy, horizon=horizon - 1))
    assert smaller is not None and smaller.own is not None
    assert smaller.own.step_time_ns > limit


def test_too_few_tasks_are_named() -> None:
    advice = la.advise("no-help", {"offload.release_window": 4})
    assert advice is not None and advice.best is None
    assert advice.obstacles == ("too_few_tasks",)
    assert advice.sentence == (
        "No horizon (tasks, release window 4) offloads anything: there are too few tasks between FORWARD and BACKWARD, "
        "at most 2 tasks, for a release window of 4 and a horizon of 1. No release window from 1 to 4, in tasks or in "
        "layers, saves memory in such a step."
    )


@pytest.mark.parametrize("name", ["no-help", "slow-link", "shared-switch"])
def test_without_alternatives_all_else_is_the_same(name: str) -> None:
    scenario = prepared_of(name, {"offload.release_window": 4})
    assert scenario.costs is not None
    of_scenario = (scenario.workload, scenario.costs, scenario.policy)
    whole, alone = advise(*of_scenario), advise(*of_scenario, alternatives=False)
    assert whole is not None and alone is not None and whole.windows
    assert alone == replace(whole, alternatives=(), windows=(), alternatives_complete=True)
    assert "No release window" not in alone.sentence and "horizon_unit =" not in alone.sentence


def test_what_is_offloaded_may_be_back_when_memory_peaks() -> None:
    advice = la.advise("no-help")
    assert advice is not None and advice.best is None and advice.smallest is not None
    assert advice.obstacles == ("too_few_tasks",) and advice.smallest.offloaded == 6
    assert advice.smallest.rank_device_bytes == advice.keep_all.rank_device_bytes
    assert advice.sentence.startswith(
        "No horizon (tasks, release window 1) saves device memory: at horizon 1, 6 boundaries are offloaded, and none "
        "of them is away from the GPU when its memory peaks."
    )


def test_no_step_is_said_to_be_cheaper_than_it_is() -> None:
    """On shared links a bound tells which horizons are too slow, and not by how much."""
    changes = {"hardware.uplink_d2h": "2 GB/s", "offload.horizon_unit": "layers"}
    advice = la.advise("shared-switch", changes)
    assert advice is not None and advice.best is None and advice.largest is not None
    assert advice.least_step_time_ns is None
    largest = advice.largest.horizon
    step = la.simulate("shared-switch", changes | {"offload.activation_loading_horizon": largest}).metrics
    assert advice.largest.step_time_ns == step.step_time_ns
    cost = format_change(step.step_time_ns / advice.keep_all.step_time_ns - 1)
    assert f"the largest that saves any, {largest}, costs {cost}." in advice.sentence


def test_a_search_cut_short_says_what_it_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that issues slowly makes steps that no bound orders; with no time left, some of the horizons are tried."""
    monkeypatch.setattr(search, "MOST_SECONDS", 0.0)
    costs = uniform_costs(1, 16, launch_ns=400_000)
    advice = advise(uniform_workload(1, 16), costs, Policy(pipeline="simple", microbatches=16, ranks=1))
    assert advice is not None
    assert not advice.searched.complete
    assert advice.searched.tried < advice.searched.last
    assert f"the {advice.searched.tried} of {advice.searched.last} horizons" in advice.sentence
    assert "all horizons" not in advice.sentence and "No horizon" not in advice.sentence


def test_work_that_takes_long_is_told_before_it() -> None:
    told: list[str] = []
    advise(uniform_workload(1, 4), uniform_costs(1, 4), GPIPE, told.append)
    assert told == []
    costs = uniform_costs(1, 24, launch_ns=400_000)
    advise(uniform_workload(1, 24), costs, Policy(pipeline="simple", microbatches=32, ranks=1), told.append)
    assert len(told) == 1 and told == ["looking for the best horizon"]


def test_a_scenario_that_does_not_offload_gets_advice_and_one_without_checkpointing_none() -> None:
    advice = la.advise("uniform", {"offload.offload_activations": False, "model.units_per_stage": 2})
    assert advice is not None and advice.best is not None and advice.own is None
    assert advice.sentence.startswith("If activations were offloaded: Horizon 1 ")
    assert la.advise("uniform", {"checkpoint.enabled": False}) is None


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ("40 MB", ""),
        (
            "20 MB",
            "Keeping all does not fit the GPU's 19.07 MiB; the largest horizon that does, 17, saves 12.4 of 31.47",
        ),
        (
            "3 MB",
            "No horizon (tasks, release window 1) fits the GPU's 2.861 MiB: 1 needs the least, 3.815 MiB, 976.6",
        ),
    ],
)
def test_what_does_not_fit_is_said_where_keeping_all_does_not(memory: str, words: str) -> None:
    """Each horizon is simulated by itself: no larger one than the named one fits."""
    changes = {"hardware.memory": memory}
    advice = la.advise("slow-link", changes)
    assert advice is not None
    assert words in advice.sentence and (words or "fit" not in advice.sentence)
    peaks = {
        horizon: la.simulate("slow-link", changes | {"offload.activation_loading_horizon": horizon}).metrics
        for horizon in range(1, advice.searched.last + 1)
    }
    fit = [horizon for horizon, step in peaks.items() if step.peak_device_bytes <= advice.capacity_bytes]
    assert (advice.fitting.horizon if advice.fitting else None) == (max(fit) if fit and words else None)


def test_the_host_has_to_have_room_for_the_slots() -> None:
    """Horizon 1 needs 19 MB of the host, and less is there: a larger horizon offloads less."""
    changes = {"model.units_per_stage": 2, "hardware.host_memory": "15 MB"}
    advice = la.advise("uniform", changes)
    assert advice is not None and advice.best is not None and advice.best.horizon is not None

    def needs(horizon: int) -> int:
        step = la.simulate("uniform", changes | {"offload.activation_loading_horizon": horizon})
        return sum(rank.peak_host_bytes for rank in step.metrics.ranks)

    horizon = advice.best.horizon
    assert needs(1) == 19 * MB and needs(horizon - 1) > 15 * MB >= needs(horizon)
    assert advice.obstacles == ("host_memory",)
    assert "keeping all boundaries on the GPU and whose slots fit the host: it saves" in advice.sentence
    assert f"Horizon {horizon - 1} needs more than the host has." in advice.sentence
    none = la.advise("uniform", changes | {"hardware.host_memory": "10 kB"})
    assert none is not None and none.best is None
    assert none.largest is not None and none.largest.host_bytes == needs(none.searched.last)
    assert (
        "with slots that fit the host. In the way is the host's memory, 9.766 KiB: the largest horizon that saves "
        f"any, {none.searched.last}, needs "
    ) in none.sentence


def test_a_horizon_has_to_fit_device_and_host() -> None:
    """The device has room for horizons up to 511 and the host for those from 646 on."""
    changes = {"hardware.memory": "74.5 GiB", "hardware.host_memory": "60 GiB"}
    advice = la.advise("four-rank", changes)
    assert advice is not None and advice.best is not None and advice.fitting is None
    assert "No horizon (tasks, release window 1) fits both the GPU's 74.5 GiB and the host's 60 GiB." in advice.sentence
    for horizon in (1, 100, 300, 511, 645, 646, 700):
        metrics = la.simulate("four-rank", changes | {"offload.activation_loading_horizon": horizon}).metrics
        host = sum(rank.peak_host_bytes for rank in metrics.ranks)
        assert metrics.peak_device_bytes > advice.capacity_bytes or host > 60 << 30
    enough = la.advise("four-rank", changes | {"hardware.memory": "80 GiB", "hardware.memory_bandwidth": "3 TB/s"})
    assert enough is not None and enough.best is not None and enough.fits(enough.best)


def test_what_is_named_beside_says_whether_it_fits() -> None:
    advice = la.advise("shared-switch", {"hardware.memory": "1 GiB"})
    assert advice is not None
    assert "horizon 2 saves 1.669 of 2.086 GiB on the rank that needs most, step +0.5 %, and fits." in advice.sentence
    small = la.advise("shared-switch", {"hardware.memory": "400 MiB"})
    assert small is not None and "step +0.5 %, and does not fit the GPU." in small.sentence


def test_in_layers_nothing_is_said_of_tasks() -> None:
    advice = la.advise("no-help", {"offload.horizon_unit": "layers", "offload.release_window": 4})
    assert advice is not None and advice.smallest is None
    assert advice.sentence.startswith(
        "No horizon (layers, release window 4) offloads anything: each boundary would be loaded back before it is "
        "released."
    )


def test_all_ranks_are_looked_at() -> None:
    """The rank that needs most offloads nothing, and others save: that is said, and no +0 B."""
    keep_all = Figures(
        horizon=None, step_time_ns=100, rank_device_bytes=(30 << 20, 20 << 20), host_bytes=0, offloaded=0
    )
    best = replace(keep_all, horizon=2, step_time_ns=101, rank_device_bytes=(30 << 20, 5 << 20), offloaded=3)
    assert savings(best, keep_all) == (
        "saves nothing on rank 0, which needs most (30 MiB), and 15 of 20 MiB on rank 1, step +1.0 %"
    )
    assert savings(keep_all, keep_all) == "saves no device memory (30 MiB either way), step +0 %"
    # Of ranks that need as much, the one is named that still does.
    twins = replace(keep_all, rank_device_bytes=(30 << 20, 30 << 20))
    assert savings(replace(twins, rank_device_bytes=(5 << 20, 30 << 20)), twins) == (
        "saves nothing on rank 1, which needs most (30 MiB), and 25 of 30 MiB on rank 0, step +0 %"
    )


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (8_800 * 2**20, 25_100 * 2**20, "8.594 of 24.51 GiB"),
        (512 * 2**20, 25 * 2**30, "512 MiB of 25 GiB"),
        (0, 7, "0 of 7 B"),
        (1023 * 2**30 - 2**20, 1023 * 2**30, "all but 1 MiB of 1023 GiB"),
    ],
)
def test_parts_of_sizes(part: int, whole: int, text: str) -> None:
    assert part_of(part, whole) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "+0 %"), (0.002, "+0.2 %"), (0.0004, "+0.04 %"), (-0.031, "−3.1 %"), (0.32291, "+32.3 %"), (12.0, "×13")],
)
def test_changes(share: float, text: str) -> None:
    assert format_change(share) == text


def row(horizon: int, step: int, peak: int, offloaded: int = 1, **known: int) -> SweepRow:
    """A row of a sweep over horizons, with room for anything unless capacities are given."""
    figures = dict.fromkeys(METRIC_COLUMNS, 0) | dict.fromkeys(ROOM_COLUMNS)
    figures |= {"step_time_ns": step, "offloaded": offloaded, "peak_device_bytes": peak}
    return SweepRow.from_dict({"horizon": horizon} | figures | known)


def test_advice_on_rows_looks_at_no_others() -> None:
    keep_all = row(1, 1000, 10 << 20, offloaded=0)
    rows = [row(1, 1320, 2 << 20), row(2, 1010, 4 << 20), row(3, 1000, 5 << 20), row(4, 1000, 10 << 20, offloaded=0)]
    advice = advice_on_rows({"microbatches": 8}, rows, keep_all)
    assert advice.best is rows[1]
    assert advice.sentence == (
        "of the 4 horizons swept, 2 needs the least device memory in a step within 1 % of keeping all on the GPU: it "
        "saves 6 of 10 MiB, step +1.0 %."
    )
    assert advice_on_rows({}, rows[:1], keep_all).sentence == (
        "the one horizon swept does not save device memory in a step within 1 % of keeping all on the GPU: it costs "
        "+32.0 %."
    )
    assert advice_on_rows({}, rows[:1] * 2, keep_all).sentence == (
        "none of the 2 horizons swept saves device memory in a step within 1 % of keeping all on the GPU: each that "
        "saves any costs +32.0 % or more."
    )
    assert advice_on_rows({}, rows[3:], keep_all).sentence == (
        "the one horizon swept does not save device memory on the rank that needs most."
    )
    found = advice.to_dict()
    assert (found["horizon"], found["saved_bytes"], found["keep_all"]["step_time_ns"]) == (2, 6 << 20, 1000)


def test_advice_on_rows_minds_what_device_and_host_have() -> None:
    known = {"capacity_bytes": 3 << 20, "host_capacity_bytes": 7 << 20}
    keep_all = row(1, 1000, 10 << 20, offloaded=0, **known)
    rows = [row(1, 1000, 4 << 20, host_bytes=8 << 20, **known), row(2, 1000, 5 << 20, host_bytes=6 << 20, **known)]
    advice = advice_on_rows({}, rows, keep_all)
    assert advice.best is rows[1] and not advice.to_dict()["fits"]
    assert advice.sentence.endswith(
        "and slots that fit the host: it saves 5 of 10 MiB, step +0 %; it needs 2 MiB more than the device has."
    )
    slow = row(2, 1100, 5 << 20, host_bytes=6 << 20, **known)
    assert advice_on_rows({}, [rows[0], slow], keep_all).sentence == (
        "none of the 2 horizons swept saves device memory in a step within 1 % of keeping all on the GPU and slots "
        "that fit the host: the host lacks 1 MiB or more."
    )


def test_another_unit_leads_where_a_horizon_saves_little() -> None:
    """Keeping all takes 25 MiB; the best horizon as set saves 1, another unit 10 or 1.5."""
    advice = la.advise("slow-link")
    assert advice is not None
    keep_all = Figures(horizon=None, step_time_ns=100, rank_device_bytes=(25 << 20,), host_bytes=0, offloaded=0)
    best = replace(keep_all, horizon=3, rank_device_bytes=(24 << 20,), offloaded=5)
    much = Alternative(
        horizon_unit="layers", release_window=1, figures=replace(best, horizon=2, rank_device_bytes=(15 << 20,))
    )
    found = replace(advice, keep_all=keep_all, best=best, own=None, alternatives=(much,), obstacles=())
    assert found.news is much and found.lead is much
    start = 'If activations were offloaded: With horizon_unit = "layers" horizon 2 saves 10 of 25 MiB, step +0 %. '
    assert found.sentence.startswith(f"{start}Horizon 3 (tasks, release window 1) needs the least device memory")
    assert (found.to_dict()["news"]["horizon"], found.to_dict()["news_leads"]) == (2, True)
    little = replace(much, figures=replace(much.figures, rank_device_bytes=((24 << 20) - (1 << 19),)))
    # It saves 2 % more, which is news and does not decide.
    other = replace(found, alternatives=(little,))
    assert other.news is little and other.lead is None
    assert other.sentence.startswith("If activations were offloaded: Horizon 3 ")
    # Where the best horizon saves much, one that saves a third more does not decide either.
    third = replace(found, best=replace(best, rank_device_bytes=(18 << 20,)))
    assert third.news is much and third.lead is None


def test_mfu_and_tokens_by_hand() -> None:
    work = Work(tokens=100, flops=10**12, peak_flops_per_s=10**12)
    # 4 microbatches of 1 TFLOP on 2 GPUs that do 1 TFLOP/s each, in 8 s; 3 replicas of 400 tokens.
    assert work.mfu(8 * 10**9, 4, 2) == 0.25
    assert work.tokens_per_s(8 * 10**9, 4, 3) == 150.0
    assert Work().mfu(1, 1, 1) is None and Work().tokens_per_s(1, 1, 1) is None and work.mfu(0, 1, 1) is None


def test_a_step_of_no_time_has_no_share() -> None:
    def takes(ns: int, nbytes: int) -> Figures:
        return Figures(horizon=1, step_time_ns=ns, rank_device_bytes=(nbytes,), host_bytes=0, offloaded=1)

    kept, later, none = takes(0, 3 * MB), takes(5 * MS, MB), takes(0, MB)
    assert savings(later, kept).endswith("step 5 ms instead of 0 ns")
    assert savings(none, kept).endswith("step 0 ns instead of 0 ns")
    assert later.to_dict(kept)["slower"] is None
    free = {f"model.{name}": "0 ns" for name in ("forward", "backward", "recompute")}
    found = la.advise("slow-link", free)
    assert found is not None and found.keep_all.step_time_ns == 0 and found.best is None
    assert "+0 %" not in found.sentence and "instead of 0 ns" in found.sentence
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("step_ns", "text"),
    [
        (1_010_000_000, "+1.0 %"),
        (1_010_400_000, "+1.04 %"),
        (1_010_004_000, "+1.0004 %"),
        (1_010_000_001, "+1.0000001 %"),
        (1_020_000_000, "+2.0 %"),
        (990_000_000, "−1.0 %"),
    ],
)
def test_what_is_beyond_a_percent_does_not_read_as_one(step_ns: int, text: str) -> None:
    assert slower_text(step_ns, 1_000_000_000) == text
