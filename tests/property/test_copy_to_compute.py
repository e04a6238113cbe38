"""What an inspection claims of copies is what the reference engine then shows: who is free never waits for a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import loadahead as la
from loadahead.inspection import inspect_prepared
from loadahead.inspection.copies import StageCopies
from loadahead.inspection.hiding import Horizon
from loadahead.scenarios.prepare import Prepared, prepare
from loadahead.scenarios.schema import Scenario
from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import build_plan
from loadahead.sim.step_metrics import RankMetrics

# No launches, and no sends over the links of copies: the claim leaves both out. Times are some ns, so that rounding
# shows.
_TIMES = st.integers(1, 60)


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a uniform model of even or uneven units over links that GPUs share, in one replica or two."""
    units = draw(st.integers(1, 4))

    def per_unit(of: st.SearchStrategy[int]) -> Any:
        return draw(of) if draw(st.booleans()) else draw(st.lists(of, min_size=units, max_size=units))

    ranks = draw(st.integers(1, 4))
    hardware: dict[str, Any] = {
        "d2h": draw(st.integers(1, 12)) * 10**9,
        "h2d": draw(st.integers(1, 12)) * 10**9,
        "link_latency": draw(st.sampled_from([0, 0, 3])),
        "p2p": draw(st.sampled_from([0, 5])),
        "memory": 2**30,
    }
    if draw(st.booleans()):
        hardware |= {"duplex": draw(st.integers(1, 6)) * 10**9}
    if draw(st.booleans()):
        hardware |= {"gpus_per_switch": draw(st.integers(1, ranks)), "uplink_d2h": draw(st.integers(1, 6)) * 10**9}
    if draw(st.booleans()):
        hardware |= {"host_memory_bandwidth": draw(st.integers(2, 16)) * 10**9}
    if draw(st.booleans()):
        hardware |= {"p2p_bandwidth": draw(st.integers(1, 4)) * 10**9, "p2p_link": "nvlink"}
    if draw(st.booleans()):
        hardware |= {"gpus_per_host": draw(st.integers(1, 2))}
        hardware.pop("gpus_per_switch", None)
        hardware.pop("uplink_d2h", None)
    return {
        "name": "drawn",
        "model": {
            "kind": "uniform",
            "units_per_stage": units,
            "forward": per_unit(_TIMES),
            "recompute": draw(st.integers(0, 60)),
            "backward": per_unit(_TIMES),
            "boundary": per_unit(st.integers(0, 80)),
        },
        "hardware": hardware,
        "parallel": {
            "microbatches": draw(st.integers(1, 10)),
            "pipeline_parallel_degree": ranks,
            "data_parallel_degree": draw(st.integers(1, 2)),
            "pipeline": draw(st.sampled_from(["interleaved", "simple"])),
        },
        "offload": {"release_window": draw(st.integers(1, 2)), "receive_ahead": draw(st.integers(0, 2))},
    }


@st.composite
def prepared_scenarios(draw: st.DrawFn) -> Prepared:
    """Draw the same ready to be planned, with a horizon of either unit, a least size and frozen units at the front."""
    tables = draw(scenarios())
    tables["offload"] |= {
        "horizon_unit": draw(st.sampled_from(["tasks", "layers"])),
        "activation_loading_horizon": draw(st.integers(1, 6)),
        "min_bytes": draw(st.sampled_from([0, 0, 30, 100])),
    }
    prepared = prepare(Scenario.model_validate(tables))
    units = sum(map(len, prepared.workload.stages))
    frozen = draw(st.integers(0, units - 1)) if draw(st.booleans()) else 0
    return replace(prepared, workload=replace(prepared.workload, frozen_units=frozen))


def replace_policy(prepared: Prepared, **choices: Any) -> Prepared:
    return replace(prepared, policy=replace(prepared.policy, **choices))


def _plan(prepared: Prepared, horizon: int, window: int) -> Plan:
    return build_plan(prepared.workload, replace(prepared.policy, horizon=horizon, release_window=window))


def _step(prepared: Prepared, horizon: int, window: int) -> Sequence[RankMetrics]:
    assert prepared.costs is not None
    return simulate(_plan(prepared, horizon, window), prepared.costs, "simpy").metrics.ranks


def _left(prepared: Prepared, horizon: int, window: int) -> list[int]:
    """Return how many boundaries leave each rank; the drawn ranks hold one stage each."""
    rows = Decisions.of(_plan(prepared, horizon, window))
    left = np.bincount(rows.stage[rows.acquire >= 0], minlength=prepared.policy.ranks)
    return [int(count) for count in left]


@given(prepared_scenarios(), st.integers(0, 3), st.integers(0, 1))
@settings(max_examples=300, deadline=None)
def test_who_is_free_never_waits_for_a_copy(prepared: Prepared, later: int, wider: int) -> None:
    stages = inspect_prepared(prepared).stages
    free = [stage for stage in stages if stage.free is not None]
    for at in {(stage.free.at.horizon, stage.free.at.release_window) for stage in free if stage.free is not None}:
        for more, further in ((0, 0), (later, wider)):
            ranks = _step(prepared, at[0] + more, at[1] + further)
            for stage in free:
                assert stage.free is not None
                if stage.free.at.horizon <= at[0] + more and stage.free.at.release_window <= at[1] + further:
                    rank = ranks[stage.rank]
                    assert rank.stall_release_ns == 0, (stage, rank)
                    assert rank.stall_prefetch_ns <= stage.free.first_wait_ns, (stage, rank)


@given(prepared_scenarios())
@settings(max_examples=300, deadline=None)
def test_the_sentences_are_true_of_the_plans_and_of_the_reference_engine(prepared: Prepared) -> None:
    found, policy = inspect_prepared(prepared), prepared.policy
    most, own = _left(prepared, 1, 1), _step(prepared, policy.horizon, policy.release_window)
    for stage in found.stages:
        free, sentence = stage.free, stage.sentence
        assert ("none leaves" in sentence or "none of the boundaries" in sentence) == (not most[stage.rank])
        assert free is None or free.can_leave == most[stage.rank]
        small = policy.min_bytes and "smaller than offload.min_bytes" in sentence
        if "needed again too soon" in sentence and not small:
            assert not _left(replace_policy(prepared, min_bytes=0), 1, 1)[stage.rank]
        if " for free" in sentence:
            assert free is not None
            assert free.leaving == _left(prepared, free.at.horizon, free.at.release_window)[stage.rank]
            every = f"{free.leaving} of the {free.can_leave} boundaries" not in sentence
            assert every == ("every boundary that can leave" in sentence) == (free.leaving == most[stage.rank])
            # Silence on the scenario's own is a claim.
            if "the scenario's own" not in sentence:
                assert own[stage.rank].stall_release_ns == 0
                assert own[stage.rank].stall_prefetch_ns <= free.first_wait_ns
        if policy.pipeline == "simple":
            assert "steady" not in sentence and stage.steady is None
    assert found.room is not None
    sizes = prepared.workload.boundary_bytes()
    for text, holds in (
        ("no boundary leaves", not sum(_left(prepared, policy.horizon, policy.release_window))),
        ("have no bytes", not found.room.fullest_host.slots_bytes and found.room.offloaded > 0),
    ):
        assert (text in found.room.sentences[1]) == holds, sizes


@given(scenarios(), st.sampled_from(["tasks", "layers"]), st.integers(0, 2), st.integers(0, 1))
@settings(max_examples=120, deadline=None)
def test_in_a_steady_state_more_microbatches_add_no_waits(
    scenario: dict[str, Any], unit: str, later: int, wider: int
) -> None:
    scenario["offload"]["horizon_unit"] = unit
    scenario["parallel"] |= {"pipeline": "interleaved", "microbatches": 40}
    stages = [stage for stage in la.inspect(scenario).stages if stage.steady is not None]
    for at in {stage.steady for stage in stages if stage.steady is not None}:
        overrides = _offload(at.horizon + later, at.release_window + wider)
        ranks = [
            la.simulate(scenario, overrides | {"parallel.microbatches": count}, engine="compiled").metrics.ranks
            for count in (40, 56)
        ]
        for stage in stages:
            assert stage.steady is not None
            if stage.steady.horizon <= at.horizon and stage.steady.release_window <= at.release_window:
                waits = [(own[stage.rank].stall_release_ns, own[stage.rank].stall_prefetch_ns) for own in ranks]
                assert waits[0] == waits[1], stage


def _offload(horizon: int, window: int) -> dict[str, Any]:
    return {"offload.activation_loading_horizon": horizon, "offload.release_window": window}


def _uniform(**overrides: Any) -> dict[str, Any]:
    """Return a model of one unit a stage; its figures are set by the caller."""
    model = {"kind": "uniform", "units_per_stage": 1, "boundary": 1000, "forward": 1000, "backward": 2000}
    hardware = {"d2h": 10**9, "h2d": 10**9, "memory": 2**30}
    parallel = {"microbatches": 16, "pipeline_parallel_degree": 4}
    tables: dict[str, Any] = {"name": "even", "model": model, "hardware": hardware, "parallel": parallel}
    for key, value in overrides.items():
        table = next(name for name in ("model", "hardware", "parallel") if key in tables[name])
        tables[table][key] = value
    return tables


def _stage(scenario: dict[str, Any], number: int = 0) -> StageCopies:
    return la.inspect(scenario).stages[number]


def test_even_units_that_hide_are_free_from_the_horizon_that_the_link_back_needs() -> None:
    # A copy out takes 1000 ns, as a forward does. One back takes 1000 ns, or 2000 ns where the link has half of the
    # bandwidth: the forward before the first backward hides 1000 of them, and the one before that the rest.
    for bandwidth, horizon in ((10**9, 1), (10**9 // 2, 2)):
        for pipeline in ("interleaved", "simple"):
            tables = _uniform(h2d=bandwidth)
            tables["parallel"]["pipeline"] = pipeline
            found = _stage(tables).free
            assert found is not None
            assert found.at.horizon <= horizon
    tables = _uniform(h2d=10**9 // 2)
    stage = _stage(tables)
    assert stage.free is not None
    assert stage.free.at.horizon == 2
    assert "with a horizon of 2 or more tasks and a release window of 1 no copy" in stage.sentence
    waits = [la.simulate(tables, _offload(horizon, 1)).metrics.ranks[0].stall_prefetch_ns for horizon in (1, 2)]
    assert waits[0] > 0
    assert waits[1] == 0


def test_where_the_link_has_the_time_in_turns_the_waits_do_not_grow_with_the_microbatches() -> None:
    # A copy takes 2500 ns, a forward 1000 and a backward 2000: in the first forwards copies queue up, then no more.
    tables = _uniform(boundary=2500)
    stage = _stage(tables)
    assert stage.free is not None
    assert (stage.free.leaving, stage.free.can_leave) == (12, 16)
    assert stage.ratios is not None
    assert stage.ratios.busier_direction == 2500 / 3000
    assert stage.sentence == (
        "k = 1.667: 12 of the 16 boundaries that can leave do so for free: with a horizon of 2 or more tasks and a "
        "release window of 3 no copy has to be waited for. With the scenario's own, a horizon of 4 tasks and a release "
        "window of 1, copies may have to be waited for. In a steady state of one forward and one backward with a "
        "horizon of 2 or more tasks and a release window of 2 no copy has to be waited for. Where forwards follow each "
        "other (the start of 1F1B) copies out take 2.5 times as long as the forwards. Where backwards follow each "
        "other copies back take 1.25 times as long as the recomputes and backwards."
    )

    def waits(horizon: int, window: int, microbatches: int) -> int:
        overrides = {**_offload(horizon, window), "parallel.microbatches": microbatches}
        rank = la.simulate(tables, overrides).metrics.ranks[0]
        return rank.stall_release_ns + rank.stall_prefetch_ns

    assert waits(2, 2, 40) == waits(2, 2, 80)
    assert waits(2, 1, 80) > waits(2, 1, 40)
    assert waits(1, 2, 80) > waits(1, 2, 40)


def test_a_copy_waits_for_those_before_it() -> None:
    # In a pass of six forwards each copy takes 900 ns more than the next forward. The copy out of the fourth, behind
    # three others, ends at 1000 + 4 * 1900 = 8600 ns, and four tasks after its own, at 6000 + 2 * 2000, it is due;
    # three tasks after it, at 8000, it is late. For the fifth, 10500, these are 12000 and 10000.
    tables = _uniform(units_per_stage=6, boundary=1900)
    stage = _stage(tables)
    assert stage.steady == Horizon(horizon=2, release_window=4)

    def waits(window: int, microbatches: int) -> int:
        overrides = {**_offload(2, window), "parallel.microbatches": microbatches}
        return la.simulate(tables, overrides).metrics.ranks[0].stall_release_ns

    assert waits(4, 40) == waits(4, 80)
    assert waits(3, 80) > waits(3, 40)


def test_where_the_link_has_no_time_every_microbatch_adds_to_the_waits() -> None:
    # A copy takes 4000 ns and a microbatch 3000: of each 4 boundaries 3 can be copied in time.
    tables = _uniform(boundary=4000)
    stage = _stage(tables)
    assert stage.sentence == (
        "k = 2.667: in a steady state of one forward and one backward the link has the time for about 75 % of the "
        "boundaries; more of them make the step wait."
    )
    steps = [la.simulate(tables, {**_offload(3, 1), "parallel.microbatches": count}) for count in (40, 80)]
    more = steps[1].metrics.step_time_ns - steps[0].metrics.step_time_ns
    assert more >= 40 * 4000  # the link, and no longer the 3000 ns of computing, says how long a microbatch takes
