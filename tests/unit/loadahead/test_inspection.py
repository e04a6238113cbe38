"""What is understood of a scenario before anything is run, beside figures worked out by hand and the engines'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import loadahead as la
from loadahead.inspection import Inspection, inspect_prepared
from loadahead.inspection.hiding import Counts, Free, Horizon
from loadahead.inspection.meaning import Turns, Understood, meaning
from loadahead.inspection.ratios import Ratios
from loadahead.scenarios.prepare import prepare
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.planner import Policy
from loadahead.sim.workload import LayerShape, ModuleShapes

HARDWARE = {"d2h": "1 GB/s", "h2d": "2 GB/s", "memory": "10 MB"}


def uniform(**tables: Any) -> dict[str, Any]:
    """Return 2 stages of 2 units: boundaries of 1 MB, forward 4 ms, recompute 4 ms, backward 8 ms."""
    model = {"kind": "uniform", "units_per_stage": 2, "boundary": "1 MB"}
    model |= {"forward": "4 ms", "recompute": "4 ms", "backward": "8 ms", "static": "3 MB"}
    content: dict[str, Any] = {
        "name": "uniform",
        "model": model,
        "hardware": dict(HARDWARE),
        "parallel": {"microbatches": 8, "pipeline_parallel_degree": 2},
    }
    for table, keys in tables.items():
        content[table] = content.get(table, {}) | keys
    return content


def ratios(found: Inspection, stage: int = 0) -> Ratios:
    of_stage = found.stages[stage].ratios
    assert of_stage is not None
    return of_stage


# ---- units -----------------------------------------------------------------------------------------------------------


def test_a_transformers_units_have_the_flops_of_the_published_formula() -> None:
    tables = {"model": {"kind": "transformer", "preset": "gpt3-1.3b"}, "hardware": {"preset": "a100-sxm-80gb"}}
    found = la.inspect(tables, {"parallel.pipeline_parallel_degree": 2})
    b, s, h, v = 1, 2048, 2048, 50257
    block = 24 * b * s * h**2 + 4 * b * s**2 * h
    assert [unit.facts.flops for unit in found.units] == [0, *[block] * 24, 2 * b * s * h * v]
    assert [unit.layers for unit in found.units] == [(layer, layer + 1) for layer in range(26)]
    assert [unit.facts.kinds for unit in found.units[:2]] == [(("embedding", 1),), (("block", 1),)]
    # Of a tensor group each GPU has its part, and a unit of two layers has the FLOPs of both.
    more = {"parallel.tensor_parallel_degree": 4, "checkpoint.strategy": "group_2"}
    parts = la.inspect(tables, more)
    assert parts.units[1].facts.flops == 2 * block // 4
    assert (parts.units[1].facts.kinds, parts.units[1].layers) == ((("block", 2),), (2, 4))


def test_a_uniform_models_units_are_as_given() -> None:
    found = la.inspect(uniform())
    assert [(unit.stage, unit.unit, unit.layers) for unit in found.units] == [
        (0, 0, None),
        (0, 1, None),
        (1, 0, None),
        (1, 1, None),
    ]
    facts = found.units[0].facts
    assert (facts.boundary_bytes, facts.flops, facts.kinds) == (10**6, None, ())
    assert (facts.forward_ns, facts.recompute_ns, facts.backward_ns) == (4_000_000, 4_000_000, 8_000_000)
    # A rank's static bytes are its first unit's.
    assert [unit.facts.static_bytes for unit in found.units] == [3 * 10**6, 0, 3 * 10**6, 0]


def test_what_is_never_run_takes_no_time() -> None:
    facts = la.inspect(uniform(checkpoint={"enabled": False})).units[0].facts
    assert (facts.recompute_ns, facts.workspace_recompute) == (0, 0)


def traced(costs: bool = True) -> Inspection:
    """Inspect 4 traced layers in 2 stages: the first is frozen, the second's FLOPs are an estimate."""
    shape = {"input_bytes": 1000, "gradient_bytes": 1000, "saved_bytes": 50, "static_bytes": 4}
    flops = [(600, True, "Linear"), (1, False, "GELU"), (600, True, "Linear"), (600, False, "LSTM")]
    layers = [LayerShape(**shape, flops=n, counted=counted, kind=kind) for n, counted, kind in flops]
    cost = UnitCost(forward_ns=500, recompute_ns=500, backward_ns=1000)
    known = Costs(
        units=((cost, cost), (cost, cost)),
        static_bytes=(8, 8),
        d2h_bandwidth=10**9,
        h2d_bandwidth=10**9,
        memory_bytes=10**6,
        source="by hand",
    )
    content = {
        "name": "traced",
        "model": {"kind": "module", "python": "a.b:c"},
        "hardware": HARDWARE,
        "parallel": {"microbatches": 4, "pipeline_parallel_degree": 2},
        "checkpoint": {"partition": [2, 2]},
    }
    shapes = ModuleShapes(layers=tuple(layers), frozen_layers=1)
    return inspect_prepared(prepare(Scenario.model_validate(content), shapes, known if costs else None))


def test_a_modules_flops_are_those_that_were_counted() -> None:
    assert [unit.facts.flops for unit in traced().units] == [600, None, 600, None]
    assert [unit.facts.kinds for unit in traced().units] == [
        ((name, 1),) for name in ("Linear", "GELU", "Linear", "LSTM")
    ]


def test_a_frozen_unit_only_goes_forward_and_its_boundary_stays() -> None:
    found = traced()
    frozen, trained = found.units[0].facts, found.units[1].facts
    assert (frozen.frozen, frozen.forward_ns, frozen.recompute_ns, frozen.backward_ns) == (True, 500, 0, 0)
    assert (trained.frozen, trained.recompute_ns, trained.backward_ns) == (False, 500, 1000)
    # Of the stage's two units one has a boundary that leaves, 1000 ns out and 500 ns back (the scenario's links stand
    # for the costs'), beside 500 + 500 forward and 500 + 1000 recompute and backward.
    assert ratios(found).out == 1000 / 1000
    assert ratios(found).back == 500 / 1500
    assert ratios(found).k == 1500 / 2500
    assert ratios(found, 1).k == 3000 / 4000


def test_without_costs_times_and_what_follows_from_them_are_not_known() -> None:
    found = traced(costs=False)
    assert found.units[1].facts.forward_ns is None
    assert found.units[1].facts.boundary_bytes == 1000
    assert found.fits is None and found.room is None
    assert [stage.sentence for stage in found.stages] == ["k is not known: calibrate, and give the costs."] * 2
    assert [resource.name for resource in found.resources][:2] == ["a GPU's link, out", "a GPU's link, back"]
    plain = found.to_dict()
    assert (plain["fits"], plain["hosts"], plain["stages"][0]["copy_to_compute"]) == (None, [], None)


def test_costs_of_other_units_are_refused() -> None:
    other = prepare(Scenario.model_validate(uniform(model={"units_per_stage": 3}))).costs
    with pytest.raises(la.InputError, match=r"uniform: costs.units describes 2 stages with \[3, 3\] units"):
        la.inspect(uniform(), costs=other)


# ---- ranks and resources ---------------------------------------------------------------------------------------------


def test_degrees_ranks_and_sends_from_host_to_host() -> None:
    parallel = {"pipeline_parallel_degree": 4, "tensor_parallel_degree": 2, "data_parallel_degree": 2}
    found = la.inspect(uniform(parallel=parallel, hardware={"gpus_per_host": 4}))
    degrees = found.degrees
    assert (degrees.processes, degrees.hosts, degrees.order) == (16, 4, "DPT")
    # Four processes a host, T fastest: ranks 0 and 1 of the pipeline share a host, as do 2 and 3.
    assert found.crossing_sends == (1,)
    assert found.to_dict()["ranks"][5] == {"rank": 5, "host": 1, "gpu": 1, "switch": 0, "d": 0, "p": 2, "t": 1}
    # P fastest: each host has one pipeline.
    other = {"parallel.placement_strategy": "DTP", "hardware.gpus_per_host": 4}
    assert la.inspect(uniform(parallel=parallel), other).crossing_sends == ()


def test_sends_that_cross_hosts_in_some_replicas_are_told_apart() -> None:
    # Six processes, P fastest, three on a host: the second of the three replicas has a host's border between its ranks.
    parallel = {"data_parallel_degree": 3, "placement_strategy": "TDP"}
    for hardware, partly, crossing in (
        ({"gpus_per_host": 3}, (0,), (0,)),
        ({"gpus_per_host": 1}, (), (0,)),
        ({"gpus_per_host": 2}, (), ()),
    ):
        found = la.inspect(uniform(parallel=parallel, hardware=hardware))
        assert (found.partly_crossing_sends, found.crossing_sends) == (partly, crossing)
        assert found.to_dict()["partly_crossing_sends"] == list(partly)
        lanes: dict[int, set[int]] = {}
        for row in found.ranks.rows():
            lanes.setdefault(row["d"], set()).add(row["host"])
        across = [len(hosts) > 1 for hosts in lanes.values()]
        assert (any(across), any(across) and not all(across)) == (bool(crossing), bool(partly))


def test_resources_say_how_many_gpus_share_them() -> None:
    hardware = {"gpus_per_host": 6, "gpus_per_switch": 4, "uplink_d2h": "3 GB/s", "host_memory": "1 GiB"}
    hardware |= {"host_memory_bandwidth": "5 GB/s", "network_bandwidth": "7 GB/s", "p2p_link": "nvlink"}
    hardware |= {"p2p_bandwidth": "9 GB/s", "gpu_network_bandwidth": "500 MB/s", "network_latency": "2 us"}
    found = la.inspect(uniform(hardware=hardware, parallel={"data_parallel_degree": 4}))
    shown = {each.name: (each.bandwidth, each.gpus) for each in found.resources}
    assert shown == {
        "a GPU's link, out": (10**9, 1),
        "a GPU's link, back": (2 * 10**9, 1),
        "a PCIe switch's uplink, out": (3 * 10**9, 4),
        "a host's memory": (5 * 10**9, 6),
        "between GPUs of a host, NVLink": (9 * 10**9, 1),
        "a GPU's sends to another host": (500 * 10**6, 1),
        "a network card, each way": (500 * 10**6, 1),
        "a host's network, each way": (7 * 10**9, 6),
    }
    of_host = next(each for each in found.resources if each.name == "a host's memory")
    assert of_host.capacity_bytes == 2**30


# ---- copies beside computing -----------------------------------------------------------------------------------------


def test_the_ratios_of_a_uniform_model_by_hand() -> None:
    # For each unit 1 ms out and 0.5 ms back, beside 4 ms forward and 12 ms recompute and backward.
    found = ratios(la.inspect(uniform()))
    assert found == Ratios(k=1.5 / 16, alone=1.5 / 16, out=1 / 4, back=0.5 / 12, busier_direction=1 / 16)


@pytest.mark.parametrize(
    ("changes", "out", "back"),
    [
        # Two ranks behind one uplink, and with two tensor-parallel or data-parallel peers of each four: 1 GB/s for all.
        ({"hardware.gpus_per_switch": 2, "hardware.uplink_d2h": "1 GB/s"}, 2, 0.5),
        (
            {"hardware.gpus_per_switch": 4, "hardware.uplink_d2h": "1 GB/s", "parallel.tensor_parallel_degree": 2},
            4,
            0.5,
        ),
        ({"hardware.gpus_per_switch": 4, "hardware.uplink_d2h": "1 GB/s", "parallel.data_parallel_degree": 2}, 4, 0.5),
        # A host's memory takes what all four GPUs copy in both directions; each of the eight has an eighth.
        ({"hardware.host_memory_bandwidth": "4 GB/s", "parallel.data_parallel_degree": 2}, 2, 2),
        # The peers are on a host of their own.
        (
            {
                "hardware.host_memory_bandwidth": "4 GB/s",
                "parallel.data_parallel_degree": 2,
                "hardware.gpus_per_host": 2,
            },
            1,
            1,
        ),
        ({"hardware.duplex": "1 GB/s"}, 2, 2),
    ],
)
def test_all_gpus_of_a_host_copy_at_once(changes: dict[str, Any], out: float, back: float) -> None:
    found = ratios(la.inspect(uniform(), changes))
    assert found.k == pytest.approx((out + back) / 16)
    assert (found.out, found.back) == (pytest.approx(out / 4), pytest.approx(back / 12))
    assert found.alone == 1.5 / 16


def test_boundaries_that_stay_for_their_size_are_no_part_of_it() -> None:
    sizes = {"model.boundary": ["1 MB", "10 kB"], "offload.min_bytes": "100 kB"}
    found = la.inspect(uniform(), sizes)
    assert ratios(found).out == 1 / 8
    free = found.stages[0].free
    assert free is not None
    assert (free.leaving, free.boundaries) == (8, 16)


def test_how_many_boundaries_leave_is_what_the_plan_offloads() -> None:
    free = [stage.free for stage in la.inspect(uniform()).stages]
    assert all(each is not None and each.at == Horizon(horizon=1, release_window=1) for each in free)
    plan = la.plan(uniform(), {"offload.activation_loading_horizon": 1})
    assert sum(each.leaving for each in free if each is not None) == plan.policy["offloaded"] > 0
    assert sum(each.boundaries for each in free if each is not None) == plan.policy["offloaded"] + plan.policy["kept"]


POLICY = Policy(microbatches=8, ranks=2, horizon=1)


def of(out: float | None, back: float | None, busier: float | None = 0.5, k: float | None = 0.4) -> Ratios:
    return Ratios(k=k, alone=k, out=out, back=back, busier_direction=busier)


ALL = Free(
    at=Horizon(horizon=2, release_window=1), horizon_unit="tasks", leaving=3, can_leave=3, boundaries=4, first_wait_ns=0
)
SOME = replace(ALL, leaving=1, at=Horizon(horizon=9, release_window=2))
FIRST = replace(ALL, horizon_unit="layers", first_wait_ns=1_500_000)
STEADY = Turns(steady=Horizon(horizon=3, release_window=2), own_in_time=False)
UNSTEADY = Turns(steady=None, own_in_time=False)
OWN = "With the scenario's own, a horizon of 1 task and a release window of 1, copies may have to be waited for."


@pytest.mark.parametrize(
    ("found", "free", "own_in_time", "turns", "sentence"),
    [
        (
            of(0.4, 0.2),
            ALL,
            False,
            UNSTEADY,
            "k = 0.4: every boundary that can leave can do so for free: with a horizon of 2 or more tasks and a "
            f"release window of 1 no copy has to be waited for. {OWN}",
        ),
        (
            of(0.4, 0.2),
            SOME,
            True,
            UNSTEADY,
            "k = 0.4: 1 of the 3 boundaries that can leave does so for free: with a horizon of 9 or more tasks and a "
            "release window of 2 no copy has to be waited for.",
        ),
        (
            of(0.4, 0.2),
            SOME,
            True,
            STEADY,
            "k = 0.4: 1 of the 3 boundaries that can leave does so for free: with a horizon of 9 or more tasks and a "
            "release window of 2 no copy has to be waited for. In a steady state of one forward and one backward with "
            "a horizon of 3 or more tasks and a release window of 2 no copy has to be waited for.",
        ),
        (
            of(0.4, 0.2),
            FIRST,
            False,
            None,
            "k = 0.4: every boundary that can leave can do so for free but the first one back: with a horizon of 2 or "
            "more layers and a release window of 1 no copy has to be waited for but that one, up to 1.5 ms, as it "
            "begins when it is needed. " + OWN.replace("copies", "other copies"),
        ),
        (
            of(2.5, 0.2),
            SOME,
            False,
            STEADY,
            "k = 0.4: 1 of the 3 boundaries that can leave does so for free: with a horizon of 9 or more tasks and a "
            f"release window of 2 no copy has to be waited for. {OWN} In a steady state of one forward and one "
            "backward with a horizon of 3 or more tasks and a release window of 2 no copy has to be waited for. Where "
            "forwards follow each other (the start of 1F1B) copies out take 2.5 times as long as the forwards.",
        ),
        (
            of(2.5, 0.2),
            None,
            False,
            STEADY,
            "k = 0.4: in a steady state of one forward and one backward with a horizon of 3 or more tasks and a "
            f"release window of 2 no copy has to be waited for. {OWN} Where forwards follow each other (the start of "
            "1F1B) copies out take 2.5 times as long as the forwards.",
        ),
        (
            of(None, 0.2),
            None,
            False,
            UNSTEADY,
            "k = 0.4: in a steady state of one forward and one backward the link has the time. Where forwards follow "
            "each other (the start of 1F1B) copies out have nothing to hide behind, as the forwards take no time.",
        ),
        (
            of(0.9, 0.9),
            None,
            False,
            UNSTEADY,
            "k = 0.4: in a steady state of one forward and one backward the link has the time. Elsewhere single copies "
            "may take longer than the tasks that they have to hide behind.",
        ),
        (
            of(4.0, 2.0, busier=1.6, k=2.4),
            None,
            False,
            UNSTEADY,
            "k = 2.4: in a steady state of one forward and one backward the link has the time for about 62 % of the "
            "boundaries; more of them make the step wait.",
        ),
        (
            of(4.0, 2.0, busier=250.0, k=333_333_334.0),
            None,
            False,
            UNSTEADY,
            "k = 3.3e8: in a steady state of one forward and one backward the link has the time for less than 1 % of "
            "the boundaries; more of them make the step wait.",
        ),
        (
            of(4.0, 2.0, busier=1.25, k=2.4),
            None,
            False,
            UNSTEADY,
            "k = 2.4: in a steady state of one forward and one backward the link has the time for about 80 % of the "
            "boundaries; 3 of 4 can leave.",
        ),
        # An order whose passes take no turns has no such state.
        (
            of(4.0, 2.0, busier=1.6, k=2.4),
            None,
            False,
            None,
            "k = 2.4: copies out take 4 times as long as the forwards, and copies back take 2 times as long as the "
            "recomputes and backwards.",
        ),
        (
            of(4.0, 0.2),
            SOME,
            False,
            None,
            "k = 0.4: 1 of the 3 boundaries that can leave does so for free: with a horizon of 9 or more tasks and a "
            f"release window of 2 no copy has to be waited for. {OWN} Copies out take 4 times as long as the forwards.",
        ),
        (
            of(0.9, 0.9),
            None,
            False,
            None,
            "k = 0.4: single copies may take longer than the tasks that they have to hide behind.",
        ),
        (
            of(None, None, None, None),
            None,
            False,
            UNSTEADY,
            "The units take no time, so that no copy hides behind them.",
        ),
    ],
)
def test_what_the_ratios_mean(
    found: Ratios, free: Free | None, own_in_time: bool, turns: Turns | None, sentence: str
) -> None:
    counts = Counts(boundaries=4, can_leave=3)
    understood = Understood(ratios=found, counts=counts, free=free, own_in_time=own_in_time, turns=turns)
    assert meaning(understood, POLICY, "") == sentence


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (Counts(boundaries=4, can_leave=0), "none of the boundaries can leave, as each is needed again too soon."),
        (
            Counts(boundaries=4, can_leave=0, small=4, largest_small_bytes=500),
            "none of the boundaries can leave, as each is smaller than offload.min_bytes (1 KiB).",
        ),
        (
            Counts(boundaries=4, can_leave=0, small=1, largest_small_bytes=1023),
            "none of the boundaries can leave: 1 of 4 is smaller than offload.min_bytes (1 KiB), and each other one is "
            "needed again too soon.",
        ),
        (
            Counts(boundaries=0, can_leave=0),
            "all units of the rank are frozen: no boundary is needed again, and none leaves the GPU.",
        ),
    ],
)
def test_why_none_leaves(counts: Counts, sentence: str) -> None:
    understood = Understood(ratios=of(0.4, 0.2), counts=counts, free=None, own_in_time=True, turns=None)
    assert meaning(understood, replace(POLICY, min_bytes=1024), "") == f"k = 0.4: {sentence}"


def test_what_a_claim_leaves_out_is_said_where_it_is_there() -> None:
    def first(**hardware: Any) -> str:
        return la.inspect(uniform(hardware=hardware)).stages[0].sentence

    assert "for free" in first() and "apart" not in first()
    assert first(launch="1 us").endswith("waited for, launches apart.")
    assert first(p2p_link="pcie").endswith("waited for, sends over the same links apart.")
    network = {"gpus_per_host": 1, "network_bandwidth": "1 GB/s", "launch": "1 us"}
    assert first(**network).endswith("waited for, launches and sends over the same links apart.")


def test_how_many_of_those_that_can_leave_do_so_for_free() -> None:
    # In GPipe's order two units and two microbatches: the second boundary, 3 ms out, is released 1 ms after its copy
    # began where the first microbatch's backward needs it two tasks later, and the step waits 2 ms.
    tables: dict[str, Any] = {
        "model": {"kind": "uniform", "forward": ["1 ms", "5 ms"], "backward": "4 ms", "boundary": ["1 MB", "3 MB"]},
        "hardware": HARDWARE,
        "parallel": {"microbatches": 2, "pipeline": "simple"},
        "offload": {"activation_loading_horizon": 1},
    }
    stage = la.inspect(tables).stages[0]
    assert stage.sentence.endswith(
        "2 of the 4 boundaries that can leave do so for free: with a horizon of 2 or more tasks and a release window "
        "of 1 no copy has to be waited for. With the scenario's own, a horizon of 1 task and a release window of 1, "
        "copies may have to be waited for."
    )
    steps = [la.simulate(tables, {"offload.activation_loading_horizon": horizon}).metrics for horizon in (1, 2)]
    assert [step.offloaded for step in steps] == [4, 2]
    assert [step.ranks[0].stall_release_ns for step in steps] == [2_000_000, 0]


def test_a_horizon_in_layers_is_answered_in_layers() -> None:
    # One rank: in layers the last unit's boundary stays, as its BACKWARD follows at once, so that none is loaded late.
    tables: dict[str, Any] = {
        "model": {"kind": "transformer", "preset": "gpt3-1.3b"},
        "hardware": {"machine": "p4d.24xlarge"},
        "parallel": {"microbatches": 16, "data_parallel_degree": 16},
        "offload": {"horizon_unit": "layers", "activation_loading_horizon": 1},
    }
    stage = la.inspect(tables).stages[0]
    assert stage.free is not None
    assert stage.free.at == Horizon(horizon=2, release_window=1)
    assert stage.free.first_wait_ns == 0
    assert stage.to_dict()["free"]["horizon_unit"] == "layers"
    assert "with a horizon of 2 or more layers and a release window of 1 no copy" in stage.sentence
    assert "With the scenario's own, a horizon of 1 layer and a release window of 1," in stage.sentence
    assert la.simulate(tables).metrics.ranks[0].stall_prefetch_ns > 32_000_000
    better = {"offload.activation_loading_horizon": 2}
    assert la.simulate(tables, better).metrics.ranks[0].stall_prefetch_ns == 0
    assert "scenario's own" not in la.inspect(tables, better).stages[0].sentence


def test_the_first_copy_back_of_a_horizon_in_layers_begins_when_it_is_needed() -> None:
    changes = {"offload.horizon_unit": "layers", "parallel.pipeline": "simple"}
    stage = la.inspect(uniform(), changes).stages[0]
    assert stage.free is not None
    assert stage.free.first_wait_ns == 500_000
    assert "but that one, up to 500 us, as it begins when it is needed" in stage.sentence
    for horizon in (stage.free.at.horizon, 30):
        rank = la.simulate(uniform(), changes | {"offload.activation_loading_horizon": horizon}).metrics.ranks[0]
        assert (rank.stall_release_ns, rank.stall_prefetch_ns) == (0, 500_000)


def test_an_order_that_takes_no_turns_has_no_steady_state() -> None:
    slow = {"hardware.d2h": "100 MB/s"}
    gpipe = la.inspect(uniform(), slow | {"parallel.pipeline": "simple"}).stages[0]
    assert gpipe.steady is None
    assert "steady" not in gpipe.sentence
    assert gpipe.sentence.lower().endswith("copies out take 2.5 times as long as the forwards.")
    # Nor has 1F1B on a rank whose microbatches only fill and drain the pipeline.
    few = la.inspect(uniform(), slow | {"parallel.microbatches": 2}).stages
    assert ["steady" in stage.sentence for stage in few] == [False, True]
    assert "steady" in la.inspect(uniform(), slow).stages[0].sentence
    # With a cap on what is active GPipe's passes do take turns.
    capped = {"parallel.pipeline": "simple", "parallel.active_microbatches": 2}
    assert la.inspect(uniform(), capped).stages[0].steady is not None


def test_the_last_stage_of_one_unit_has_nothing_that_can_leave() -> None:
    found = la.inspect(uniform(model={"units_per_stage": 1}))
    assert found.stages[1].sentence.endswith("none of the boundaries can leave, as each is needed again too soon.")
    assert found.stages[1].free is None


def test_without_checkpointing_there_is_no_k() -> None:
    found = la.inspect(uniform(checkpoint={"enabled": False})).stages[0]
    assert (found.ratios, found.free) == (None, None)
    assert "No unit is recomputed from its boundary, so that none leaves the GPU" in found.sentence


# ---- what fits -------------------------------------------------------------------------------------------------------


def test_peaks_and_slots_are_those_of_the_simulated_plan() -> None:
    found = la.inspect(uniform()).room
    assert found is not None
    own = la.simulate(uniform(), engine="simpy").metrics.ranks
    keeping = la.simulate(uniform(), {"offload.offload_activations": False}, engine="simpy").metrics.ranks
    assert [rank.peak_device_bytes for rank in found.ranks] == [rank.peak_device_bytes for rank in own]
    assert [rank.slots_bytes for rank in found.ranks] == [rank.peak_host_bytes for rank in own]
    assert [rank.peak_keeping_all_bytes for rank in found.ranks] == [rank.peak_device_bytes for rank in keeping]


def test_slots_add_up_over_all_gpus_of_a_host() -> None:
    one = la.inspect(uniform(), {"offload.activation_loading_horizon": 1}).room
    assert one is not None
    slots = [rank.slots_bytes for rank in one.ranks]
    assert min(slots) > 0
    # Three replicas of two ranks on hosts of four: the first host has two of each rank, the second one of each.
    changes = {"parallel.data_parallel_degree": 3, "hardware.gpus_per_host": 4, "hardware.host_memory": 2 * sum(slots)}
    changes["offload.activation_loading_horizon"] = 1
    found = la.inspect(uniform(), changes)
    assert found.room is not None
    assert [(host.gpus, host.slots_bytes) for host in found.room.hosts] == [(4, 2 * sum(slots)), (2, sum(slots))]
    assert found.fits
    assert found.room.fullest_host.slots_bytes == la.simulate(uniform(), changes).metrics.host_bytes
    assert found.room.sentences[1].endswith(": fits.")
    short = la.inspect(uniform(), changes | {"hardware.host_memory": 2 * sum(slots) - 1})
    assert short.room is not None
    assert not short.fits
    assert [host.fits for host in short.room.hosts] == [False, True]
    assert "of host 0 (no host's take more) take" in short.room.sentences[1]
    assert short.room.sentences[1].endswith("does not fit, 1 B are missing.")


def test_what_does_not_fit_a_device_says_what_is_missing() -> None:
    room = la.inspect(uniform()).room
    assert room is not None
    peak = room.fullest.peak_device_bytes
    assert la.inspect(uniform(), {"hardware.memory": peak}).fits
    short = la.inspect(uniform(), {"hardware.memory": peak - 1024})
    assert short.room is not None
    assert not short.fits
    assert "does not fit, 1 KiB are missing. Keeping all boundaries on the GPU would need" in short.room.sentences[0]


def test_nothing_that_leaves_needs_no_slots() -> None:
    found = la.inspect(uniform(offload={"offload_activations": False}))
    assert found.room_sentences[1] == "Host memory: no boundary leaves the GPU, so that no slots are needed."


def test_boundaries_without_bytes_leave_and_take_no_slots() -> None:
    changes = {"model.boundary": 0, "offload.activation_loading_horizon": 1}
    assert la.plan(uniform(), changes).policy["offloaded"] > 0
    sentence = la.inspect(uniform(), changes).room_sentences[1]
    assert sentence == "Host memory: the boundaries that leave the GPU have no bytes, so that their slots take none."


# ---- as plain data ---------------------------------------------------------------------------------------------------


def test_plain_data_has_the_keys_of_the_contract() -> None:
    found = la.inspect(uniform(parallel={"ddp": True, "tensor_parallel_degree": 2}))
    plain = found.to_dict()
    assert {
        "scenario",
        "degrees",
        "units",
        "ranks",
        "resources",
        "groups",
        "stages",
        "hosts",
        "fits",
        "warnings",
    } <= plain.keys()
    assert set(plain["ranks"][0]) == {"rank", "host", "gpu", "switch", "d", "p", "t"}
    assert plain["fits"] is True
    assert plain["stages"][0]["copy_to_compute"] == 1.5 / 16
    assert plain["stages"][0]["stage"] == 0
    assert plain["warnings"] and plain["warnings"] == list(found.warnings)
    assert len(plain["units"]) == 4


def test_groups_are_those_whose_collectives_are_charged() -> None:
    model = {"kind": "transformer", "preset": "mixtral-8x7b", "sequence": 4096}
    parallel = {"tensor_parallel_degree": 2, "data_parallel_degree": 16, "microbatches": 4}
    tables = {"name": "groups", "model": model, "hardware": {"machine": "dgx-h100"}}

    def groups(**more: Any) -> dict[str, tuple[int, int, int]]:
        found = la.inspect(la.load({**tables, "parallel": {**parallel, **more}})).groups
        return {each.name: (each.gpus, each.hosts, each.lanes) for each in found}

    # Pairs of GPUs on each of four hosts, whose peers of 16 replicas send to each other at once.
    assert groups() == {"tensor": (2, 1, 1), "data": (16, 4, 2)}
    assert groups(zero_stage=1, sharded_data_parallel_degree=4) == {
        "tensor": (2, 1, 1),
        "shard": (4, 1, 1),
        "copies": (4, 4, 8),
    }
    experts = groups(expert_parallel_degree=8)
    assert experts == {"tensor": (2, 1, 1), "expert": (8, 2, 2), "data": (16, 4, 2), "expert_data": (2, 2, 8)}
    ideal = la.load({**tables, "parallel": parallel}, {"hardware.communication": "ideal"})
    assert la.inspect(ideal).groups == la.inspect("uniform").groups == ()
    (tensor, _) = la.inspect(la.load({**tables, "parallel": parallel})).groups
    collectives = la.load({**tables, "parallel": parallel}).setting().collectives
    assert collectives is not None
    assert tensor.all_reduce_ns == collectives.all_reduce(collectives.tensor, 64 << 20) > tensor.all_gather_ns > 0
