"""What a scenario states about links stands in place of what costs say of them; one line says so for each key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.executor.links import Hardware as Emulated
from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.links import with_stated_links
from loadahead.scenarios.loader import load_scenario
from loadahead.sim.costs import Costs, SharedLinks, UnitCost, load_costs
from loadahead.sim.errors import InputError
from loadahead.sim.placement import Placement
from loadahead.sim.step_metrics import SweepRow

GOLDEN = Path(__file__).parents[2] / "golden" / "costs"
LINKS = {
    "d2h_bandwidth": 53_000_000_000,
    "h2d_bandwidth": 54_000_000_000,
    "d2h_latency_ns": 12_000,
    "h2d_latency_ns": 11_000,
    "memory_bytes": 80 * 2**30,
}
CONFIGURED = {
    "d2h_bandwidth": 1_000_000_000,
    "h2d_bandwidth": 2_000_000_000,
    "d2h_latency_ns": 50_000,
    "h2d_latency_ns": 50_000,
    "p2p_latency_ns": 0,
    "p2p_bandwidth": None,
    "memory_bytes": 2**30,
}
# What copies took over these links: some more than configured, and one, by chance, less.
MEASURED = CONFIGURED | {"d2h_latency_ns": 70_000, "h2d_latency_ns": 40_000, "p2p_latency_ns": 5_000}


def costs(**own: Any) -> Costs:
    unit = UnitCost(forward_ns=10, recompute_ns=5, backward_ns=20)
    return Costs(**{"units": ((unit,),), "static_bytes": (0,)} | LINKS | own)


def emulated(**own: Any) -> Costs:
    return costs(**MEASURED | {"source": "calibrated on cpu", "evidence": {"configured_links": CONFIGURED}} | own)


def measured_on_a_gpu(**own: Any) -> Costs:
    return costs(source="calibrated on cuda", evidence={"links": {}}, **own)


def given(known: Costs, hardware: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that are others in the costs which the hardware makes of these, and the sentences."""
    tables = {"model": {"kind": "module", "python": "a.b:c"}, "hardware": hardware}
    found, said = with_stated_links(known, load_scenario(tables).hardware, Placement(), **settings)
    before, after = known.model_dump(exclude={"evidence"}), found.model_dump(exclude={"evidence"})
    assert (found is known) == (before == after)
    return {name: value for name, value in after.items() if value != before[name]}, said


SAME = {"d2h": "1 GB/s", "h2d": "2 GB/s", "link_latency": "50 us", "memory": "1 GiB"}


@pytest.mark.parametrize(
    ("hardware", "changed", "sentences"),
    [
        ({}, {}, []),
        (
            {"d2h": "8 GB/s"},
            {"d2h_bandwidth": 8_000_000_000},
            ["hardware.d2h = 8 GB/s, as the scenario states, stands in place of the costs' 1 GB/s"],
        ),
        (
            {"h2d": "2.00001 GB/s"},
            {"h2d_bandwidth": 2_000_010_000},
            ["hardware.h2d = 2000010000 B/s, as the scenario states, stands in place of the costs' 2000000000 B/s"],
        ),
        # What the machine added, 20 us and nothing, stays.
        (
            {"link_latency": "10 us"},
            {"d2h_latency_ns": 30_000, "h2d_latency_ns": 10_000},
            [
                "hardware.link_latency = 10 us, as the scenario states, stands in place of the 50 us that the costs "
                "were calibrated with; what the machine adds to it stays"
            ],
        ),
        (
            {"p2p": "1 ms", "p2p_bandwidth": "3 GB/s"},
            {"p2p_latency_ns": 1_005_000, "p2p_bandwidth": 3_000_000_000},
            [
                "hardware.p2p = 1 ms, as the scenario states, stands in place of the 0 ns that the costs were "
                "calibrated with; what the machine adds to it stays",
                "hardware.p2p_bandwidth = 3 GB/s, as the scenario states, stands in place of the costs' none",
            ],
        ),
        (
            {"memory": "2 GiB"},
            {"memory_bytes": 2**31},
            ["hardware.memory = 2 GiB, as the scenario states, stands in place of the costs' 1 GiB"],
        ),
        (
            {"duplex": "3 GB/s", "d2h_weight": 1},
            {"shared": SharedLinks(duplex=3_000_000_000).model_dump()},
            ["hardware.duplex = 3 GB/s, as the scenario states, stands in place of the costs' none"],
        ),
    ],
)
def test_costs_of_emulated_links_keep_what_was_measured_over_them(
    hardware: dict[str, Any], changed: dict[str, Any], sentences: list[str]
) -> None:
    assert given(emulated(), SAME | hardware) == (changed, tuple(sentences))


def test_what_is_stated_is_what_a_run_emulates_and_stating_it_again_changes_nothing() -> None:
    hardware = load_scenario(
        {"model": {"kind": "module", "python": "a.b:c"}, "hardware": SAME | {"d2h": "8 GB/s", "link_latency": "1 us"}}
    ).hardware
    known = emulated()
    found, said = with_stated_links(known, hardware, Placement())
    assert len(said) == 2
    assert Emulated.of(found) == Emulated(
        d2h_bandwidth=8_000_000_000,
        h2d_bandwidth=2_000_000_000,
        memory_bytes=2**30,
        d2h_latency_ns=1_000,
        h2d_latency_ns=1_000,
    )
    assert with_stated_links(found, hardware, Placement()) == (found, ())
    assert known == emulated()


def test_a_preset_states_links_beside_emulated_ones() -> None:
    changed, said = given(emulated(), {"preset": "a100-sxm-80gb", "h2d": "2 GB/s"})
    assert changed == {
        "d2h_bandwidth": 24_800_000_000,
        "d2h_latency_ns": 30_000,
        "h2d_latency_ns": 10_000,
        "p2p_bandwidth": 300_000_000_000,
        "memory_bytes": ACCELERATORS["a100-sxm-80gb"].memory,
    }
    assert said[0] == (
        "hardware.d2h = 24.8 GB/s, as the preset a100-sxm-80gb has it, stands in place of the costs' 1 GB/s"
    )
    assert len(said) == 4


WRITTEN = {"d2h": "8 GB/s", "h2d": "54 GB/s"}


@pytest.mark.parametrize("known", [costs(), measured_on_a_gpu()])
def test_a_key_that_is_written_stands_in_place_of_other_costs_too(known: Costs) -> None:
    assert given(known, WRITTEN) == (
        {"d2h_bandwidth": 8_000_000_000},
        ("hardware.d2h = 8 GB/s, as the scenario states, stands in place of the costs' 53 GB/s",),
    )
    # Both directions' latencies are one key, which has one sentence.
    assert given(known, WRITTEN | {"d2h": "53 GB/s", "link_latency": "1 us"}) == (
        {"d2h_latency_ns": 1_000, "h2d_latency_ns": 1_000},
        ("hardware.link_latency = 1 us, as the scenario states, stands in place of the costs' 12 us and 11 us",),
    )


def test_what_is_there_by_default_states_nothing() -> None:
    known = costs(p2p_latency_ns=7, p2p_bandwidth=9, shared=SharedLinks(duplex=5))
    assert given(known, {"d2h": "53 GB/s", "h2d": "54 GB/s"}) == ({}, ())


def test_a_preset_states_nothing_beside_links_that_were_measured() -> None:
    changed, said = given(measured_on_a_gpu(), {"preset": "h100-sxm"})
    assert changed == {}
    assert said == (
        "hardware.preset = h100-sxm gives way to what the costs measured: write hardware.d2h, hardware.h2d, "
        "hardware.link_latency, hardware.p2p_bandwidth, hardware.memory to set other values",
    )
    changed, said = given(costs(), {"preset": "h100-sxm"})
    assert changed["d2h_bandwidth"] == changed["h2d_bandwidth"] == 55_600_000_000
    assert said[0] == "hardware.d2h = 55.6 GB/s, as the preset h100-sxm has it, stands in place of the costs' 53 GB/s"


def test_what_is_shared_is_stated_key_by_key() -> None:
    known = measured_on_a_gpu(shared=SharedLinks(duplex=60_000_000_000, d2h_weight=3))
    own = {"d2h": "53 GB/s", "h2d": "54 GB/s", "gpus_per_switch": 2, "uplink_d2h": "70 GB/s", "d2h_weight": 2}
    changed, said = given(known, own)
    expected = SharedLinks(duplex=60_000_000_000, gpus_per_switch=2, uplink_d2h=70_000_000_000, d2h_weight=2)
    assert changed == {"shared": expected.model_dump()}
    assert [text.partition(",")[0] for text in said] == [
        "hardware.gpus_per_switch = 2",
        "hardware.uplink_d2h = 70 GB/s",
        "hardware.d2h_weight = 2",
    ]


@pytest.mark.parametrize("known", [emulated(), measured_on_a_gpu(**CONFIGURED)])
def test_where_links_are_the_devices_own_what_is_stated_has_no_effect(known: Costs) -> None:
    assert given(known, {"preset": "h100-sxm"}, physical=True) == ({}, ())
    assert given(known, {"preset": "h100-sxm", "d2h": "8 GB/s", "memory": "64 MiB"}, physical=True) == (
        {},
        (
            "hardware.d2h = 8 GB/s has no effect on a GPU, whose links and memory are its own: the costs have 1 GB/s",
            "hardware.memory = 64 MiB has no effect on a GPU, whose links and memory are its own: the costs have 1 GiB",
        ),
    )


def test_a_key_that_is_swept_over_is_said_once() -> None:
    for value in ("8 GB/s", "9 GB/s"):
        said = given(emulated(), SAME | {"d2h": value}, swept={"hardware.d2h"})[1]
        assert said == ("hardware.d2h, as each point of the sweep has it, stands in place of the costs' 1 GB/s",)
    for preset in ("h100-sxm", "a100-sxm-80gb"):
        said = given(emulated(), {"preset": preset}, swept={"hardware.preset"})[1]
        assert said[0] == "hardware.d2h, as each point of the sweep has it, stands in place of the costs' 1 GB/s"


@pytest.mark.parametrize("links", [3, {"d2h": 1}, {"d2h_bandwidth": "fast"}, {"d2h_bandwidth": 0}, {"units": None}])
def test_configured_links_that_are_none_are_one_line(links: Any) -> None:
    with pytest.raises(InputError, match=r"costs\.evidence\.configured_links is .*: calibrate again$"):
        given(costs(evidence={"configured_links": links}), SAME)


# As the command line and Python see it.


def test_a_sweep_over_a_link_of_given_costs_is_the_step_of_each_link() -> None:
    known = load_costs(GOLDEN / "demo.json")
    table = la.sweep("demo", {"hardware.h2d": ["30 MB/s", "60 MB/s"], "horizon": [1, 2]}, costs=known)
    assert len({row.step_time_ns for row in table.rows}) == 4
    assert table.warnings == ("hardware.h2d, as each point of the sweep has it, stands in place of the costs' 30 MB/s",)
    for row in table.rows:
        own = {"hardware.h2d": row["hardware.h2d"], "offload.activation_loading_horizon": row.horizon}
        step = la.simulate("demo", own, costs=known)
        assert step.metrics.step_time_ns == row.step_time_ns
        assert step.header["warnings"] == (
            []
            if row["hardware.h2d"] == "30 MB/s"
            else ["hardware.h2d = 60 MB/s, as the scenario states, stands in place of the costs' 30 MB/s"]
        )


def metrics(row: SweepRow) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "hardware.d2h"}


def test_rows_of_a_link_axis_differ_in_what_the_link_changes_alone() -> None:
    """Above some bandwidth every copy to the host takes a nanosecond beside its latency: a faster link is no faster."""
    known = load_costs(GOLDEN / "demo.json")
    slow, *fast = la.sweep("demo", {"hardware.d2h": ["30 MB/s", "900 TB/s", "1000 TB/s"]}, costs=known).rows
    assert metrics(fast[0]) == metrics(fast[1]) != metrics(slow)


def test_a_plan_file_is_predicted_over_its_own_scenarios_links(tmp_path: Path) -> None:
    plan = la.plan("demo", {"hardware.h2d": "60 MB/s"})
    step = la.simulate(plan, costs=GOLDEN / "demo.json")
    assert step.metrics == la.simulate("demo", {"hardware.h2d": "60 MB/s"}, costs=GOLDEN / "demo.json").metrics
    assert any("hardware.h2d = 60 MB/s" in text for text in step.header["warnings"])


def test_costs_that_a_scenario_names_have_its_links_too(tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text(json.dumps(costs().model_dump(mode="json")))
    (tmp_path / "own.toml").write_text(
        'costs = "known.json"\n[model]\nkind = "uniform"\nforward = 1\nbackward = 2\nboundary = 8\n'
        '[hardware]\nd2h = "8 GB/s"\nh2d = "54 GB/s"\nmemory = "80 GiB"\n'
    )
    step = la.simulate(tmp_path / "own.toml")
    assert (
        "hardware.d2h = 8 GB/s, as the scenario states, stands in place of the costs' 53 GB/s"
        in (step.header["warnings"])
    )


def test_how_gpus_send_is_the_scenarios_to_say_and_told_where_the_costs_say_otherwise() -> None:
    links = {"d2h": "53 GB/s", "h2d": "54 GB/s"}
    written = links | {"p2p_link": "pcie", "gpu_network_bandwidth": "1 GB/s", "network_latency": "1 ms"}
    new = {"p2p_link": "pcie", "gpu_network_bandwidth": 10**9, "network_latency_ns": 10**6}
    # Calibrations do not know it.
    assert given(measured_on_a_gpu(), written) == (new, ())
    known = {"p2p_link": "nvlink", "gpu_network_bandwidth": 5 * 10**9, "network_latency_ns": 1_000}
    stated = "as the scenario states, stands in place of the costs'"
    assert given(measured_on_a_gpu(**known), written) == (
        new,
        (
            f"hardware.p2p_link = pcie, {stated} nvlink",
            f"hardware.gpu_network_bandwidth = 1 GB/s, {stated} 5 GB/s",
            f"hardware.network_latency = 1 ms, {stated} 1 us",
        ),
    )
    # A run on the device itself has its own.
    changed, said = given(measured_on_a_gpu(**known), written, physical=True)
    assert changed == {} and len(said) == 3 and all("has no effect on a GPU" in text for text in said)
    # A machine states what the costs do not know.
    changed, said = given(measured_on_a_gpu(p2p_link="nvlink"), {"machine": "8x-l40s"})
    assert "p2p_link" not in changed
    changed, said = given(measured_on_a_gpu(), {"machine": "8x-l40s"})
    assert changed["p2p_link"] == "pcie"
    assert given(measured_on_a_gpu(), {"machine": "8x-l40s"}, physical=True)[0] == {}
