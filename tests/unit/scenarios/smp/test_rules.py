"""How options go together: degrees and processes, what is refused, and what is warned of, in the words people see."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.cautions import cautions
from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.sim.errors import InputError
from tests.unit.scenarios.smp.examples import OPTIONS, OPTIONS_V2, PARAMETERS

KNOWN = ", ".join(MACHINES)
CHECKPOINTING = (
    "activation checkpointing is taken as on: it is set in the training script, which the options do not show"
)
INTERLEAVED = (
    "pipeline = interleaved is plain 1F1B here, backward first, as SageMaker has it; elsewhere the word means virtual "
    "stages, several on a GPU, which these are not"
)
STAND_INS = (
    "no model and no machine are given: the uniform scenario's stand in, with 1 ms of forward and 1 MB of boundary a "
    "unit and links of 1 GB/s; set model.preset and hardware.machine"
)

SCRIPT_S = ": the training script's sharding_strategy counts, and FULL_SHARD over all 8 replicas is taken"
# A key of v2 alone that changes nothing.
NEW = {"random_seed": 1}


def v1(launch: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    """Return options of v1 with so many partitions, or as given, and MPI's keys."""
    whole = {"partitions": 2, **parameters}
    return {"smp_options": whole, "mpi_options": launch} if launch is not None else whole


def on(per_host: int, **more: Any) -> dict[str, Any]:
    """Return MPI's keys."""
    return {"processes_per_host": per_host, **more}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            v1(tensor_parallel_degree=2),
            "tensor_parallel_degree is 2 and ddp is not true; more than 1 needs ddp = true",
        ),
        (
            v1(on(8), partitions=3, tensor_parallel_degree=2, ddp=True) | {"instance_count": 1},
            "pipeline_parallel_degree 3 times tensor_parallel_degree 2 is 6, which does not divide 8 processes on one "
            "host, 8 in all; it must divide them",
        ),
        (
            v1(on(8), partitions=3) | {"instance_count": 2},
            "pipeline_parallel_degree 3 times tensor_parallel_degree 1 is 3, which does not divide 8 processes on each "
            "of 2 hosts, 16 in all; it must divide them",
        ),
        (
            v1(pipeline_parallel_degree=4),
            "pipeline_parallel_degree is 4 and partitions is 2; they are one setting under two names, give one of them",
        ),
        (v1(ddp=True, horovod=True), "ddp and horovod are both true; at most one of them can be"),
        (v1(auto_partition=False), "auto_partition is false and default_partition is not given; it is needed then"),
        (
            v1(auto_partition=False, default_partition=2),
            "default_partition is 2; it must be below the number of partitions, 2",
        ),
        (
            v1(on(9)) | {"instance_type": "ml.p4d.24xlarge"},
            "processes_per_host is 9 and a p4d.24xlarge has 8 GPUs; it must be at most that, as each process has a GPU "
            "of its own",
        ),
        (
            v1(on(8), partitions=1, ddp=True, sharded_data_parallel_degree=3) | {"instance_count": 1},
            "sharded_data_parallel_degree is 3 and there are 8 replicas on 8 GPUs; it must divide the number of "
            "replicas",
        ),
        (  # tensor-parallel GPUs have other parts of the state
            v1(on(8), partitions=1, ddp=True, tensor_parallel_degree=2, sharded_data_parallel_degree=8)
            | {"instance_count": 1},
            "sharded_data_parallel_degree is 8 and there are 4 replicas on 8 GPUs; it must divide the number of "
            "replicas",
        ),
        (
            v1(ddp=True, sharded_data_parallel_degree=2),
            "sharded_data_parallel_degree is 2 and pipeline_parallel_degree is 2; more than 1 needs a pipeline of 1",
        ),
        (
            v1(partitions=1, ddp=True, sharded_data_parallel_degree=2, shard_optimizer_state=True),
            "sharded_data_parallel_degree is 2 and shard_optimizer_state is true; more than 1 shards the optimizer's "
            "state, too: leave one of them out",
        ),
        (
            {"smp_options": {"hybrid_shard_degree": 3}, "instance_type": "p4d.24xlarge", "instance_count": 1},
            "hybrid_shard_degree is 3 and there are 8 replicas on 8 GPUs; it must divide the number of replicas",
        ),
        (
            {"smp_options": {"expert_parallel_degree": 3}, "instance_type": "p4d.24xlarge", "instance_count": 1},
            "expert_parallel_degree is 3 and there are 8 replicas on 8 GPUs; it must divide the number of replicas",
        ),
        (
            {"expert_parallel_degree": 2, "tensor_parallel_degree": 4},
            "expert_parallel_degree is 2 and tensor_parallel_degree is 4; SageMaker's library v2 allows one of them "
            "above 1",
        ),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape('scenario: ' + line)}$"):
        load_scenario(given)


def test_two_names_of_one_setting_may_agree() -> None:
    assert load_scenario(v1(pipeline_parallel_degree=2)).parallel.pipeline_parallel_degree == 2


def test_the_documentation_s_example_has_two_replicas() -> None:
    degrees = options_file(OPTIONS).conversion().degrees
    assert (degrees.data, degrees.pipeline, degrees.tensor) == (2, 2, 2)
    assert (degrees.hosts, degrees.per_host, degrees.processes, degrees.said) == (1, 8, 8, ())


# What is given, and by hand: replicas, hosts, processes on each; what is said of it.
NO_COUNT = "instance_count is not given: {} hosts are taken, the fewest whose processes the degrees divide"
NO_PROCESSES = "neither processes_per_host nor a machine is given: {} are taken, as the degrees need"
P4D = "processes_per_host is not given: 8 are taken, one for each GPU of a p4d.24xlarge"
DIVIDED: list[tuple[dict[str, Any], tuple[int, int, int], tuple[str, ...]]] = [
    (v1(on(8), partitions=3, ddp=True), (8, 3, 8), (NO_COUNT.format(3),)),
    (v1(on(8), partitions=16), (1, 2, 8), (NO_COUNT.format(2),)),
    (v1(on(4), ddp=True) | {"instance_count": 4}, (8, 4, 4), ()),
    (v1(), (1, 1, 2), (NO_PROCESSES.format("2 processes on one host"),)),
    (v1({}, partitions=4) | {"instance_count": 2}, (1, 2, 2), (NO_PROCESSES.format("2 processes on each of 2 hosts"),)),
    # No replicas that nobody asked for.
    (v1(partitions=12), (1, 2, 6), (NO_PROCESSES.format("6 processes on each of 2 hosts"),)),
    ({"partitions": 9, "microbatches": 4}, (1, 3, 3), (NO_PROCESSES.format("3 processes on each of 3 hosts"),)),
    (v1({}, partitions=11), (1, 11, 1), (NO_PROCESSES.format("1 process on each of 11 hosts"),)),
    (v1({}, partitions=9) | {"instance_count": 3}, (1, 3, 3), (NO_PROCESSES.format("3 processes on each of 3 hosts"),)),
    (v1({}, partitions=4) | {"instance_count": 6}, (3, 6, 2), (NO_PROCESSES.format("2 processes on each of 6 hosts"),)),
    # Bare parameters of either version, with the instances beside them.
    ({"partitions": 2, "ddp": True, "instance_type": "ml.p4d.24xlarge", "instance_count": 2}, (8, 2, 8), (P4D,)),
    ({"sm_activation_offloading": True, "instance_type": "p4d.24xlarge", "instance_count": 1}, (8, 1, 8), (P4D,)),
    (v1({}, ddp=True) | {"instance_type": "ml.p4d.24xlarge"}, (4, 1, 8), (P4D,)),
    (OPTIONS_V2, (2, 1, 8), (P4D,)),
    (
        {"hybrid_shard_degree": 4, "tensor_parallel_degree": 2},
        (4, 1, 8),
        (NO_PROCESSES.format("8 processes on one host"),),
    ),
    (v1(partitions=1, ddp=True, tensor_parallel_degree=2, sharded_data_parallel_degree=4), (4, 1, 8), ()),
    # "Sharded Data Parallelism", example 2: 32 GPUs by 4 tensor-parallel ones are 8, in two groups of 4.
    (
        v1(on(8), partitions=1, ddp=True, tensor_parallel_degree=4, sharded_data_parallel_degree=4)
        | {"instance_type": "ml.p4d.24xlarge", "instance_count": 4},
        (8, 4, 8),
        (),
    ),
    # The fewest replicas that both degrees divide.
    ({"hybrid_shard_degree": 2, "expert_parallel_degree": 4}, (4, 1, 4), ()),
    ({"hybrid_shard_degree": 4, "expert_parallel_degree": 6}, (12, 2, 6), ()),
]


@pytest.mark.parametrize(("given", "divided", "said"), DIVIDED)
def test_how_processes_are_divided(given: dict[str, Any], divided: tuple[int, int, int], said: tuple[str, ...]) -> None:
    conversion = options_file(given).conversion()
    degrees = conversion.degrees
    assert (degrees.data, degrees.hosts, degrees.per_host) == divided
    assert degrees.data * degrees.pipeline * degrees.tensor == degrees.hosts * degrees.per_host
    assert load_scenario(given).parallel.data_parallel_degree == divided[0]
    if said:
        assert degrees.said == said
        assert set(said) <= set(conversion.notes.sentences())


def test_fewer_processes_than_a_switch_has_gpus() -> None:
    hardware = load_scenario(v1(on(1)) | {"instance_type": "ml.p4d.24xlarge"}).hardware
    assert (hardware.gpus_per_host, hardware.value_of("gpus_per_switch")) == (1, 1)


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        (OPTIONS, CHECKPOINTING),
        (OPTIONS, INTERLEAVED),
        (OPTIONS, STAND_INS),
        (
            v1(offload_activations=True),
            "activation offloading does not save memory with only one microbatch (parallel.microbatches is 1), says "
            "SageMaker's documentation; between the many units of a rank it may still save some",
        ),
        (
            v1(offload_activations=True, microbatches=4, active_microbatches=1),
            "activation offloading does not save memory with only one microbatch in flight "
            "(parallel.active_microbatches is 1), says SageMaker's documentation; between the many units of a rank it "
            "may still save some",
        ),
        (
            v1(activation_loading_horizon=3),
            "activation_loading_horizon has no effect: offload_activations is not true",
        ),
        (
            {"enabled": False, "parameters": {"partitions": 2}},
            "enabled is false: SageMaker would leave the library off; predicted is what it would do if on",
        ),
        (
            v1(on(8)),
            "8 processes make 4 replicas and ddp is not true: SageMaker's documentation asks for ddp = true with data "
            "parallelism",
        ),
        (
            v1({}) | {"instance_type": "ml.g4dn.xlarge"},
            f'instance_type is "ml.g4dn.xlarge", which is none of the machines known: {KNOWN}',
        ),
        (
            {"sm_activation_offloading": False},
            "sm_activation_offloading is false: offloading is off here; PyTorch's own, which the training script may "
            "use then, is not modelled",
        ),
        (
            v1(on(8), ddp=True, shard_optimizer_state=True),
            "parallel.shard_optimizer_state has no effect on a uniform model: its figures are taken as one GPU's",
        ),
        (
            {"smp_options": {"random_seed": 1}, "instance_type": "p4d.24xlarge"},
            "parallel.zero_stage has no effect on a uniform model: its figures are taken as one GPU's",
        ),
        (
            {"smp_options": {"random_seed": 1}, "instance_type": "p4d.24xlarge"},
            f"hybrid_shard_degree is 0, the default{SCRIPT_S}",
        ),
        ({"smp_options": {"hybrid_shard_degree": 0}, "instance_type": "p4d"}, f"hybrid_shard_degree is 0{SCRIPT_S}"),
        (
            {"expert_parallel_degree": 2, "hybrid_shard_degree": 2},
            "parallel.expert_parallel_degree, parallel.sharded_data_parallel_degree have no effect on a uniform model: "
            "its figures are taken as one GPU's",
        ),
        (
            {"context_parallel_degree": 2},
            "context_parallel_degree = 2 does not change this prediction: sequences are counted whole on every GPU, "
            "and what their parts send each other is not modelled",
        ),
    ],
)
def test_what_is_warned_of(given: dict[str, Any], warning: str) -> None:
    said = cautions(load_scenario(given))
    assert said.count(warning) == 1


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (v1(on(8), horovod=True), "ddp = true with data"),
        (v1(on(2)), "ddp = true with data"),
        (v1(partitions=1), "1F1B"),
        (v1(pipeline="simple"), "1F1B"),
        (v1(offload_activations=True), "activation_loading_horizon has no effect"),
        # A cap that nobody wrote.
        (v1(), "active_microbatches"),
        # v2 offloads between a step's layers: there is one microbatch, always.
        ({"random_seed": 1}, "only one microbatch"),
        ({"hybrid_shard_degree": 1}, "hybrid_shard_degree"),
        # On one GPU nobody asked for sharding.
        ({"random_seed": 1}, "hybrid_shard_degree"),
        ({"random_seed": 1}, "zero_stage"),
        # With tensor parallelism the library shards over as many as there are, whatever the script says.
        ({"smp_options": {"tensor_parallel_degree": 2, **NEW}, "instance_type": "p4d"}, "hybrid_shard_degree"),
        (v1({}) | {"instance_type": "ml.p4d.24xlarge"}, "no machine"),
    ],
)
def test_what_is_not_warned_of(given: dict[str, Any], part: str) -> None:
    assert [text for text in cautions(load_scenario(given)) if part in text] == []


def test_a_cap_that_is_written_is_warned_of() -> None:
    said = cautions(load_scenario(v1(active_microbatches=5)))
    assert any(text.startswith("parallel.active_microbatches is 5 and there are 1 microbatches") for text in said)


def test_what_is_said_once_goes_with_the_scenario() -> None:
    scenario = load_scenario(OPTIONS)
    again = load_scenario(scenario)
    assert again == scenario and again.notes.sentences() == scenario.notes.sentences() != []
    # What is set by hand needs no note any more.
    off = load_scenario(scenario, {"checkpoint.enabled": False, "parallel.pipeline": "simple"})
    assert CHECKPOINTING in again.notes.sentences()
    assert not {CHECKPOINTING, INTERLEAVED} & set(off.notes.sentences())
    assert any("checkpoint.enabled is false" in text for text in cautions(off))


class TestOverrides:
    """One goes on from the options alone."""

    def test_a_preset_makes_the_model_a_transformer(self) -> None:
        scenario = load_scenario(OPTIONS, {"model.preset": "gpt3-13b", "hardware.machine": "p4d.24xlarge"})
        assert (scenario.model.kind, scenario.hardware.machine) == ("transformer", "p4d.24xlarge")
        # Nothing of the stand-ins is left.
        assert scenario.hardware.d2h is None and scenario.hardware.memory is None
        assert not [text for text in scenario.notes.sentences() if "stand" in text]

    def test_a_shape_without_a_preset_is_a_transformer_s(self) -> None:
        shape = {"model.layers": 4, "model.hidden": 64, "model.heads": 4, "hardware.preset": "h100-sxm"}
        assert load_scenario(OPTIONS, shape).model.kind == "transformer"

    def test_a_key_of_the_uniform_model_changes_that(self) -> None:
        scenario = load_scenario(OPTIONS, {"model.units_per_stage": 3, "hardware.d2h": "2 GB/s"})
        assert scenario.model.kind == "uniform" and scenario.hardware.d2h == 2_000_000_000
        assert STAND_INS in scenario.notes.sentences()

    def test_a_model_that_counts_flops_needs_a_machine(self) -> None:
        with pytest.raises(InputError) as caught:
            load_scenario(OPTIONS, {"model.preset": "gpt3-13b"})
        assert str(caught.value) == (
            "scenario: the model counts FLOPs, and no machine says how fast its GPUs are; set hardware.machine, one of "
            f"{KNOWN}"
        )
        assert caught.value.parameters == ("machine",)
        assert load_scenario(OPTIONS, {"model.preset": "gpt3-13b", "hardware.flops": "100 TFLOP/s"})

    def test_degrees_follow_what_is_set(self) -> None:
        scenario = load_scenario(OPTIONS, {"parallel.pipeline_parallel_degree": 4})
        parallel = scenario.parallel
        assert (parallel.data_parallel_degree, parallel.active_microbatches) == (1, 6)
        assert load_scenario(OPTIONS, {"parallel.partitions": 1}).parallel.data_parallel_degree == 4
        assert load_scenario(OPTIONS, {"hardware.gpus_per_host": 4}).parallel.data_parallel_degree == 1
        assert load_scenario(OPTIONS, {"parallel.data_parallel_degree": 5}).parallel.data_parallel_degree == 5

    def test_another_machine_stands_for_the_instance(self) -> None:
        given = {"smp_options": PARAMETERS, "instance_type": "ml.p4d.24xlarge"}
        conversion = options_file(given).conversion({"hardware.preset": "h100-sxm"})
        row = next(row for row in conversion.rows if row.key == "instance_type")
        assert row.where() == "not used: the hardware is given otherwise"
        assert conversion.tables["hardware"] == {"preset": "h100-sxm"}

    @pytest.mark.parametrize("overrides", [{"parallel": 3}, {"hardware": 3}, {"model": 3}, {"offload": "x"}])
    def test_what_is_no_table_is_told_as_ever(self, overrides: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="it must be a table"):
            load_scenario(OPTIONS, overrides)

    def test_a_key_that_is_none_is_told_as_ever(self) -> None:
        with pytest.raises(InputError, match=r"parallel\.microbatchs: is not a key of a scenario; did you mean"):
            load_scenario(OPTIONS, {"parallel.microbatchs": 3})
