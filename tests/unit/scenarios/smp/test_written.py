"""The scenario file that is written of options: it loads back equal and says where each line comes from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.scenarios.smp.toml_text import scenario_toml
from loadahead.sim.ir.json_form import plan_to_json
from tests.unit.scenarios.smp.examples import OPTIONS, OPTIONS_V2, PARAMETERS, without_cap

MODEL = {"model.preset": "gpt3-1.3b", "hardware.machine": "p4d.24xlarge"}


@pytest.mark.parametrize(
    ("given", "overrides"),
    [
        (OPTIONS, {}),
        (OPTIONS, MODEL),
        (
            OPTIONS,
            {"hardware.launch_by_kind": {"FORWARD": "5 us"}, "model.units_per_stage": 2, "model.forward": [1, 2]},
        ),
        (OPTIONS_V2, {}),
        (OPTIONS_V2, {"model.preset": "gpt3-1.3b", "checkpoint.strategy": "group_2"}),
        (PARAMETERS, {}),
        ({"partitions": 9, "microbatches": 12}, {}),
        ({"partitions": 2, "microbatches": 8, "pipeline": "simple"}, {}),
        ({"partitions": 2, "microbatches": 8, "active_microbatches": 3}, {}),
        ({"partitions": 2, "microbatches": 8}, {"parallel.active_microbatches": 3}),
        ({"partitions": 2}, {"offload.activation_loading_horizon": 2, "jitter.compute": 0.1}),
        ({"ddp": True, "sharded_data_parallel_degree": 4, "microbatches": 2}, {}),
        ({"partitions": 2, "ddp": True, "shard_optimizer_state": True}, MODEL),
    ],
)
def test_it_loads_back_equal(tmp_path: Path, given: dict[str, Any], overrides: dict[str, Any]) -> None:
    path = tmp_path / "smp.toml"
    path.write_text(scenario_toml(options_file(given).conversion(overrides)), encoding="utf-8")
    scenario, again = load_scenario(given, overrides), load_scenario(path)
    # A cap that holds nothing back is left out.
    caps = "active_microbatches" in again.parallel.model_fields_set
    assert caps or "parallel.active_microbatches" in scenario.notes.by_default or given is OPTIONS_V2
    same = scenario if caps else without_cap(scenario)
    assert again == same and again.model_fields_set == scenario.model_fields_set
    # The plan of the options says what is to be said of them; in the file that is comments.
    plans = [plan_to_json(la.plan(each)) for each in (again, scenario)]
    assert plans[1]["policy"].pop("notes")
    if not caps:
        plans[1]["policy"]["scenario"]["parallel"].pop("active_microbatches", None)
        plans[1]["policy"]["active_microbatches"] = None
    assert plans[0] == plans[1]
    assert la.simulate(again).metrics == la.simulate(scenario).metrics


def test_it_says_where_each_line_comes_from() -> None:
    lines = scenario_toml(options_file(OPTIONS, machine="ml.p4d.24xlarge").conversion()).splitlines()
    assert lines[0] == "# Made of the options of SageMaker's model parallel library v1 in scenario."
    assert (
        '# custom_mpi_options = "--mca btl_vader_single_copy_mechanism none ": known, does not change this prediction: '
        "MPI starts the processes and carries no activations."
    ) in lines
    for line in [
        'forward = "1 ms" # the uniform scenario\'s, which stands in',
        'machine = "p4d.24xlarge" # set by hand',
        "gpus_per_host = 8 # processes_per_host",
        "microbatches = 4 # microbatches",
        "data_parallel_degree = 2 # the processes divided by the other degrees: change it where they change",
        "# active_microbatches is left out: SageMaker's default, 4, holds no microbatch back here.",
    ]:
        assert line in lines


def test_of_v2_it_says_what_v2_does_not_have() -> None:
    lines = scenario_toml(options_file(OPTIONS_V2).conversion()).splitlines()
    assert "pipeline_parallel_degree = 1 # v2 has no pipeline" in lines
    assert 'horizon_unit = "layers" # v2 counts layers' in lines
    assert 'machine = "p4d.24xlarge" # instance_type' in lines


def test_what_a_comment_may_not_hold_is_left_out() -> None:
    given = {"smp_options": {"partitions": 2, "partition_file": "a\nb\x01 = 1"}, "mpi_options": {}}
    text = scenario_toml(options_file(given).conversion())
    assert tomllib.loads(text)["parallel"]["pipeline_parallel_degree"] == 2


def test_a_cap_that_holds_microbatches_back_says_what_it_follows_from(tmp_path: Path) -> None:
    """All forwards first: with 8 microbatches a cap of 4 is met, and in the file it stays when the degree changes."""
    text = scenario_toml(options_file({"partitions": 2, "microbatches": 8, "pipeline": "simple"}).conversion())
    comment = "active_microbatches = 4 # SageMaker's default, partitions + 2: change it with the degree"
    assert comment in text.splitlines()


def test_a_file_whose_degree_is_changed_is_the_options_of_that_degree(tmp_path: Path) -> None:
    given, degree = {"partitions": 2, "microbatches": 12}, {"parallel.pipeline_parallel_degree": 8}
    path = tmp_path / "smp.toml"
    path.write_text(scenario_toml(options_file(given).conversion()), encoding="utf-8")
    assert la.simulate(path, overrides=degree).metrics == la.simulate(given, overrides=degree).metrics


def test_what_nobody_set_is_not_set_by_hand() -> None:
    """A machine whose GPUs are not all used keeps its switches, which its own number of GPUs caps."""
    given = {"smp_options": {"partitions": 2}, "mpi_options": {"processes_per_host": 1}}
    text = scenario_toml(options_file(given, machine="p4d.24xlarge").conversion())
    assert text.count("set by hand") == 1 and "gpus_per_switch" not in text
    assert load_scenario(given, {"hardware.machine": "p4d.24xlarge"}).hardware.value_of("gpus_per_switch") == 1
    chosen = scenario_toml(options_file({"partitions": 9}).conversion()).splitlines()
    assert "gpus_per_host = 3 # as the degrees need" in chosen
