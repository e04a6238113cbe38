"""Settings without effect are said, in the words of SageMaker's documentation where it has some."""

from __future__ import annotations

import json

import pytest

from loadahead.cli.main import run
from loadahead.cli.overrides import parse_overrides
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
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
        (["parallel.placement_strategy=spread"], "placement_strategy has no effect"),
        (["hardware.gpus_per_switch=2"], "neither uplink_d2h nor uplink_h2d is given"),
        (["hardware.gpus_per_switch=2", "hardware.uplink_d2h=1 GB/s"], ""),
        (["hardware.h2d_weight=2"], "hardware.h2d_weight has no effect"),
        (["hardware.h2d_weight=2", "hardware.duplex=1 GB/s"], ""),
        (["parallel.tensor_parallel_degree=2"], "tensor_parallel_degree has no effect on a uniform model"),
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
    other = prepare(load_scenario("uniform", own), costs=plain.costs)
    assert other.costs == plain.costs
    assert other.warnings == (
        "hardware.launch has no effect: the costs given hold what the host takes to issue an operation; calibrate "
        "again to change it",
        "hardware.launch_by_kind has no effect: the costs given hold what the host takes to issue an operation; "
        "calibrate again to change it",
    )
