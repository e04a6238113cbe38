"""Settings without effect are said, in the words of SageMaker's documentation where it has some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.cli.overrides import parse_overrides
from loadahead.scenarios.cautions import cautions
from loadahead.scenarios.fields import in_doubt
from loadahead.scenarios.loader import SHIPPED, load_scenario, scenario_from_dict, scenario_to_dict
from loadahead.scenarios.prepare import prepare
from loadahead.scenarios.tables import Hardware
from loadahead.sim.costs import Costs

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ""),
        (["checkpoint.enabled=false"], "without activation checkpointing"),
        (["checkpoint.enabled=false"], "activation offloading has no effect"),
        (["parallel.microbatches=1"], "does not save memory with only one microbatch"),
        (["parallel.active_microbatches=1"], "only one microbatch in flight"),
        (["parallel.active_microbatches=9"], "the cap has no effect"),
        (["offload.offload_activations=false"], ""),
        (["offload.offload_activations=false", "checkpoint.enabled=false"], ""),
        (["parallel.ddp=true"], "all-reduce of gradients between replicas is not modelled"),
        (
            ["parallel.placement_strategy=spread"],
            "parallel.placement_strategy has no effect on times and memory: nothing is given that the GPUs of a host",
        ),
        (["hardware.gpus_per_switch=2"], "neither uplink_d2h nor uplink_h2d is given"),
        (["hardware.gpus_per_switch=2", "hardware.uplink_d2h=1 GB/s"], ""),
        (["hardware.h2d_weight=2"], "hardware.h2d_weight has no effect"),
        (["hardware.h2d_weight=2", "hardware.duplex=1 GB/s"], ""),
        (["parallel.tensor_parallel_degree=2"], "tensor_parallel_degree does not divide a uniform model's figures"),
        (["hardware.flops=989 TFLOP/s"], "hardware.flops has no effect on a uniform model: its costs are given"),
        (["hardware.preset=h100-sxm"], ""),
        (
            ["hardware.efficiency=0.5", "hardware.memory_bandwidth=1 TB/s"],
            "hardware.efficiency, hardware.memory_bandwidth have no effect on a uniform model: its costs are given",
        ),
        (["checkpoint.strategy=group_2"], 'checkpoint.strategy = "group_2" has no effect on a uniform model'),
    ],
)
def test_uniform(overrides: list[str], words: str) -> None:
    warnings = prepare(load_scenario("uniform", parse_overrides(overrides))).warnings
    assert len(warnings) == (1 if words else 0)
    assert words in "".join(warnings)


def test_the_command_line_says_it_on_stderr_and_in_the_json(capsys: Captured) -> None:
    assert run(["simulate", "uniform", "--set", "checkpoint.enabled=false", "--json"]) == 0
    out, err = capsys.readouterr()
    (warning,) = json.loads(out)["warnings"]
    assert warning.startswith("activation_loading_horizon has no effect: without activation checkpointing")
    assert err == f"warning: {warning}\n"


def test_given_costs_leave_what_issuing_takes_as_they_have_it() -> None:
    plain = prepare(load_scenario("uniform"))
    assert isinstance(plain.costs, Costs)
    assert prepare(load_scenario("uniform"), costs=plain.costs).warnings == ()
    own = {"hardware.launch": "5 us", "hardware.launch_by_kind.FORWARD": "1 us"}
    scenario = load_scenario("uniform", own)
    assert prepare(scenario, costs=plain.costs).costs == plain.costs
    assert la.simulate(scenario, costs=plain.costs).header["warnings"] == [
        "hardware.launch has no effect: the costs hold what the host takes to issue an operation",
        "hardware.launch_by_kind has no effect: the costs hold what the host takes to issue an operation",
    ]


# A number without a unit, with the words that say what it was taken for.
NETWORK = ("network_bandwidth", "gpu_network_bandwidth")
LINKS = ("d2h", "h2d", "p2p_bandwidth", "uplink_d2h", "uplink_h2d", "duplex", *NETWORK)
RATES = (*LINKS, "memory_bandwidth", "host_memory_bandwidth")


def bare(key: str, number: int, unit: str = "bytes per second", example: str = "") -> str:
    return f'hardware.{key} = {number} was taken for {number} {unit}; write the unit, e.g. "{example}"'


def test_every_bandwidth_and_memory_size_is_in_doubt() -> None:
    assert set(in_doubt(Hardware.model_fields)) == {*RATES, "memory", "host_memory"}


@pytest.mark.parametrize("key", RATES)
def test_a_bandwidth_without_a_unit(key: str) -> None:
    loaded = load_scenario("uniform", {f"hardware.{key}": 25, "hardware.gpus_per_switch": 2})
    assert bare(key, 25, example="25 GB/s") in prepare(loaded).warnings


@pytest.mark.parametrize(
    ("number", "taken", "example"), [(80, 80, "80 GB"), (80e9, 80 * 10**9, "80 GB"), (2**36, 2**36, "64 GiB")]
)
def test_memory_without_a_unit(number: float, taken: int, example: str) -> None:
    loaded = load_scenario("uniform", {"hardware.memory": number})
    assert prepare(loaded).warnings == (bare("memory", taken, "bytes", example),)


def test_sizes_of_the_model_and_durations_need_no_unit() -> None:
    plain = {"model.boundary": 1_000_000, "model.static": 5, "model.forward": 1000, "hardware.p2p": 5}
    assert prepare(load_scenario("uniform", plain)).warnings == ()


def test_it_is_said_of_what_counts_in_the_end(tmp_path: Path) -> None:
    """A key that an override replaces is not what was taken."""
    path = tmp_path / "s.toml"
    text = (SHIPPED / "uniform.toml").read_text()
    path.write_text(text.replace("[hardware]\n", "[hardware]\nduplex = 80\n"))
    assert prepare(load_scenario(path)).warnings == (bare("duplex", 80, example="80 GB/s"),)
    assert prepare(load_scenario(path, {"hardware.duplex": "80 GB/s"})).warnings == ()


def test_every_command_says_it(tmp_path: Path, capsys: Captured) -> None:
    override = ["--set", "hardware.d2h=25e9"]
    warning = bare("d2h", 25 * 10**9, example="25 GB/s")
    for command in (["plan"], ["simulate"], ["sweep", "--horizon", "1:2"]):
        assert run([command[0], "uniform", *command[1:], *override, "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["warnings"] == [warning]
        assert f"warning: {warning}\n" in err


def test_of_an_axis_each_value_without_a_unit_is_told() -> None:
    table = la.sweep("uniform", {"hardware.d2h": ["1 GB/s", 25, 2_000_000_000.0], "horizon": [1, 2]})
    assert table.warnings == (bare("d2h", 25, example="25 GB/s"), bare("d2h", 2 * 10**9, example="2 GB/s"))


def test_what_was_read_once_is_not_in_doubt_again(tmp_path: Path) -> None:
    """A plan's echo holds exact texts with units; a loaded scenario is still as it was written."""
    overrides = {"hardware.d2h": 25, "hardware.memory": 80_000_000_001, "hardware.duplex": 3e9}
    loaded = load_scenario("uniform", overrides)
    echo = scenario_to_dict(loaded)
    assert (
        echo["hardware"] | {"d2h": "25 B/s", "memory": "80000000001 B", "duplex": "3000000000 B/s"} == echo["hardware"]
    )
    for again in (scenario_from_dict(echo, "plan"), load_scenario(echo)):
        assert again == loaded
        assert prepare(again).warnings == ()
    given = load_scenario(loaded)
    assert given == loaded
    assert prepare(given).warnings == prepare(loaded).warnings != ()
    older = echo | {"hardware": {"d2h": 25, "h2d": 10**9}}  # as plan files had it
    assert prepare(scenario_from_dict(older, "plan")).warnings == ()
    made = la.plan("uniform", {"hardware.d2h": 25})
    assert la.simulate(made).header["warnings"] == []


def test_how_it_was_written_is_no_part_of_what_it_says() -> None:
    """Tables are compared by what they say: of a sweep's scenarios those that agree are one."""
    assert load_scenario("uniform", {"hardware.d2h": 10**9}) == load_scenario("uniform", {"hardware.d2h": "1 GB/s"})


@pytest.mark.parametrize(
    ("scenario", "words"), [("demo", "on a module model: its times are measured"), ("four-rank", "")]
)
def test_speeds_have_an_effect_only_where_flops_are_counted(scenario: str, words: str) -> None:
    told = cautions(load_scenario(scenario, {"hardware.flops": "1 TFLOP/s", "hardware.efficiency": 0.3}))
    assert told == ([f"hardware.flops, hardware.efficiency have no effect {words}"] if words else [])
