"""Every key of SageMaker's options: where it goes, in the words that people see, and which values it takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.scenarios.parallelism import sharing_of
from loadahead.scenarios.smp import launch, v1, v2
from loadahead.sim.errors import InputError

UNUSED = "known, does not change this prediction: "
LAYERS = f"{UNUSED}layers are dealt out by their work, or as checkpoint.partition says"
PRECISION = f"{UNUSED}sizes and times come from the model and the machine"
REDUCE = f"{UNUSED}a transformer's collectives are timed as NCCL's, and no other model's are"
COUNT = "an integer of at least 1 and at most 2147483647"
NATURAL = "an integer of at least 0 and at most 2147483647"
FLAG = "true or false"
STARTED = "the processes are those of the degrees, whoever starts them"
STRATEGIES = "one of cluster, spread, DPT, DTP, PDT, PTD, TDP, TPD"
# The key, a value, what else is given, where it goes; a value that it does not take, as it is shown, and what it does.
V1: list[tuple[str, Any, dict[str, Any], str, Any, str, str]] = [
    ("microbatches", 6, {}, "parallel.microbatches = 6", 0, "0", COUNT),
    ("active_microbatches", 3, {}, "parallel.active_microbatches = 3", True, "true", COUNT),
    ("pipeline", "simple", {}, 'parallel.pipeline = "simple"', "1f1b", '"1f1b"', "one of interleaved, simple"),
    ("pipeline_parallel_degree", 2, {}, "parallel.pipeline_parallel_degree = 2", 2.0, "2.0", COUNT),
    ("partitions", 2, {}, "parallel.pipeline_parallel_degree = 2", "2", '"2"', COUNT),
    ("placement_strategy", "PTD", {}, 'parallel.placement_strategy = "PTD"', "DP", '"DP"', STRATEGIES),
    ("tensor_parallel_degree", 2, {"ddp": True}, "parallel.tensor_parallel_degree = 2", -1, "-1", COUNT),
    ("ddp", True, {}, "parallel.ddp = true", 1, "1", FLAG),
    ("offload_activations", True, {}, "offload.offload_activations = true", "yes", '"yes"', FLAG),
    (
        "activation_loading_horizon",
        7,
        {"offload_activations": True},
        "offload.activation_loading_horizon = 7",
        0,
        "0",
        COUNT,
    ),
    (
        "optimize",
        "speed",
        {},
        f"{UNUSED}tensor-parallel layers are laid out as Megatron-LM's with either",
        "size",
        '"size"',
        "one of memory, speed",
    ),
    ("memory_weight", 0.2, {}, LAYERS, 1.5, "1.5", "a number from 0 to 1"),
    ("auto_partition", True, {}, LAYERS, None, "None", FLAG),
    ("default_partition", 0, {}, LAYERS, -1, "-1", NATURAL),
    ("contiguous", True, {}, f"{UNUSED}stages are runs of layers that follow each other", 0, "0", FLAG),
    ("load_partition", False, {}, LAYERS, 0, "0", FLAG),
    ("partition_file", "cut.json", {}, LAYERS, 3, "3", "a text"),
    (
        "prescaled_batch",
        True,
        {},
        f"{UNUSED}how a batch reaches tensor-parallel GPUs; a microbatch's size comes from the model",
        2,
        "2",
        FLAG,
    ),
    ("shard_optimizer_state", True, {}, "parallel.shard_optimizer_state = true", "on", '"on"', FLAG),
    (
        "sharded_data_parallel_degree",
        2,
        {"ddp": True},
        "parallel.sharded_data_parallel_degree = 2",
        0,
        "0",
        COUNT,
    ),
    (
        "sdp_reduce_bucket_size",
        5e8,
        {},
        f"{UNUSED}how gradients are cut into buckets is not modelled",
        0.5,
        "0.5",
        "a whole number of at least 1",
    ),
    (
        "sdp_param_persistence_threshold",
        1000,
        {},
        f"{UNUSED}state is sharded evenly, small tensors' too",
        0,
        "0",
        "a whole number of at least 1",
    ),
    (
        "sdp_max_live_parameters",
        1e9,
        {},
        f"{UNUSED}how far ahead weights are gathered is not modelled",
        True,
        "true",
        "a whole number of at least 1",
    ),
    (
        "sdp_hierarchical_allgather",
        True,
        {},
        f"{UNUSED}that hosts gather in two steps is not modelled",
        1,
        "1",
        FLAG,
    ),
    (
        "sdp_gradient_clipping",
        1.0,
        {},
        f"{UNUSED}clipping takes neither time nor memory here",
        0,
        "0",
        "a number above 0",
    ),
    ("fp16", True, {}, PRECISION, "true", '"true"', FLAG),
    ("fp16_params", True, {}, PRECISION, 1, "1", FLAG),
    ("bf16", True, {}, PRECISION, 1, "1", FLAG),
    (
        "fp32_residual_addition",
        True,
        {},
        f"{UNUSED}a layer's residual sums are counted as the model has them",
        1,
        "1",
        FLAG,
    ),
    ("skip_tracing", True, {}, f"{UNUSED}tracing comes before the first step", 1, "1", FLAG),
    ("ddp_dist_backend", "nccl", {}, REDUCE, "gloo", '"gloo"', "one of auto, nccl"),
    ("ddp_port", 1234, {}, f"{UNUSED}an address takes no time", "1234", '"1234"', NATURAL),
    ("horovod", True, {}, REDUCE, 1, "1", FLAG),
    ("deterministic_server", True, {}, f"{UNUSED}a plan's order is the same on every replica", 1, "1", FLAG),
    ("tensor_parallel_seed", -3, {}, f"{UNUSED}no numbers are drawn", 0.5, "0.5", "an integer"),
]
V2: list[tuple[str, Any, dict[str, Any], str, Any, str, str]] = [
    ("sm_activation_offloading", False, {}, "offload.offload_activations = false", 1, "1", FLAG),
    ("activation_loading_horizon", 3, {}, "offload.activation_loading_horizon = 3", 0, "0", COUNT),
    ("tensor_parallel_degree", 4, {}, "parallel.tensor_parallel_degree = 4", 0, "0", COUNT),
    ("hybrid_shard_degree", 2, {}, "parallel.sharded_data_parallel_degree = 2", -1, "-1", NATURAL),
    ("expert_parallel_degree", 2, {}, "parallel.expert_parallel_degree = 2", 0, "0", COUNT),
    (
        "context_parallel_degree",
        2,
        {},
        f"{UNUSED}sequences are counted whole on every GPU, and what their parts send each other is not modelled",
        0,
        "0",
        COUNT,
    ),
    ("random_seed", 12345, {}, f"{UNUSED}no numbers are drawn", "1", '"1"', "an integer"),
    ("fsdp_cache_flush_warnings", False, {}, f"{UNUSED}a warning of the training run", 0, "0", FLAG),
    ("allow_empty_shards", True, {}, f"{UNUSED}state is sharded evenly", 0, "0", FLAG),
    ("fp8", True, {}, PRECISION, 1, "1", FLAG),
    ("moe", {"experts": 8}, {}, f"{UNUSED}a layer's experts are those that the model has", None, "", ""),
]
# A key of v2 alone that changes nothing, so that shared keys are known to be v2's.
OF_V2 = {"random_seed": 1}
LAUNCH: list[tuple[str, Any, dict[str, Any], str, Any, str, str]] = [
    ("processes_per_host", 4, {}, "hardware.gpus_per_host = 4", "4", '"4"', COUNT),
    (
        "custom_mpi_options",
        "-x A=1",
        {},
        f"{UNUSED}MPI starts the processes and carries no activations",
        1,
        "1",
        "a text or a list of texts",
    ),
    ("enabled", True, {}, f"{UNUSED}predicted is what the library does where it is on", 1, "1", FLAG),
    ("mpi.enabled", True, {}, f"{UNUSED}{STARTED}", 1, "1", FLAG),
    ("torch_distributed.enabled", True, {}, f"{UNUSED}{STARTED}", 1, "1", FLAG),
    ("instance_type", "ml.p4d.24xlarge", {}, 'hardware.machine = "p4d.24xlarge"', 4, "4", "a text"),
    ("instance_count", 2, {}, "parallel.data_parallel_degree = 2", 0, "0", COUNT),
]
ALL = [*((v1.NAME, *row) for row in V1), *((v2.NAME, *row) for row in V2), *(("launch", *row) for row in LAUNCH)]


def options(part: str, key: str, value: Any, beside: dict[str, Any]) -> dict[str, Any]:
    """Return options with one key, in the place where that kind of key stands."""
    if part == v1.NAME:
        return {
            "smp_options": {
                "parameters": {"partitions": 1, key: value, **beside} if key != "partitions" else {key: value}
            }
        }
    if part == v2.NAME:
        return {"smp_options": {"parameters": {**OF_V2, key: value}}}
    parameters = {"parameters": {"partitions": 1, "ddp": True}}
    whole: dict[str, Any] = {"smp_options": parameters, "mpi_options": {}, "torch_distributed": {}}
    tables = dict.fromkeys(launch.MPI, "mpi_options") | {"enabled": "smp_options", "mpi.enabled": "mpi_options"}
    table = tables.get(key, "torch_distributed" if key.startswith("torch") else "")
    whole.get(table, whole)[key.rpartition(".")[2]] = value
    return whole


def test_every_key_has_a_line_here() -> None:
    assert [row[0] for row in V1] == list(v1.KEYS)
    assert [row[0] for row in V2] == list(v2.KEYS)
    assert {row[0] for row in LAUNCH} == launch.AROUND.keys()


@pytest.mark.parametrize(
    ("part", "key", "value", "beside", "where"), [row[:5] for row in ALL], ids=lambda one: str(one)[:30]
)
def test_where_a_key_goes(part: str, key: str, value: Any, beside: dict[str, Any], where: str) -> None:
    if key == "pipeline_parallel_degree":
        given: dict[str, Any] = {key: value}
    else:
        given = options(part, key, value, beside)
    conversion = options_file(given).conversion()
    row = next(row for row in conversion.rows if row.key == key)
    assert row.value == value and not row.by_default
    assert row.where() == where
    shown = row.to_dict()
    assert shown["became"] == (None if where.startswith(UNUSED) else where)
    if where.startswith(UNUSED):
        assert shown["note"] == where
    else:
        path, _, text = where.partition(" = ")
        table, name = path.split(".")
        # The scenario has it, as the row says.
        there = getattr(getattr(load_scenario(given), table), name)
        assert str(there).lower() == text.strip('"').lower()


@pytest.mark.parametrize(
    ("part", "key", "beside", "value", "shown", "allowed"),
    [(row[0], row[1], row[3], *row[5:]) for row in ALL if row[7]],
    ids=lambda one: str(one)[:30],
)
def test_a_value_that_a_key_does_not_take(
    part: str, key: str, beside: dict[str, Any], value: Any, shown: str, allowed: str
) -> None:
    given = {key: value} if key == "pipeline_parallel_degree" else options(part, key, value, beside)
    with pytest.raises(InputError, match=f"^{re.escape(f'scenario: {key} is {shown}; it must be {allowed}')}$"):
        load_scenario(given)


@pytest.mark.parametrize("value", [True, False, 0, -1, 4.0, "4", None])
def test_the_horizon_is_an_integer_above_0(value: object) -> None:
    given = {"partitions": 2, "offload_activations": True, "activation_loading_horizon": value}
    with pytest.raises(InputError, match=f"activation_loading_horizon is .*; it must be {COUNT}"):
        load_scenario(given)


# The documentation's defaults, by hand: "Common Parameters" and "PyTorch-specific Parameters" of the SageMaker Python
# SDK for v1, "SMP v2 core feature configuration parameters" of the developer guide for v2.
DEFAULTS_V1 = {
    "microbatches": 1,
    "active_microbatches": 4,
    "pipeline": "interleaved",
    "placement_strategy": "cluster",
    "tensor_parallel_degree": 1,
    "ddp": False,
    "offload_activations": False,
}
DEFAULTS_V2 = {
    "sm_activation_offloading": True,
    "activation_loading_horizon": 2,
    "tensor_parallel_degree": 1,
    "hybrid_shard_degree": 0,
}


@pytest.mark.parametrize(("given", "defaults"), [({"partitions": 2}, DEFAULTS_V1), (OF_V2, DEFAULTS_V2)])
def test_defaults_are_told(given: dict[str, Any], defaults: dict[str, Any]) -> None:
    rows = [row for row in options_file(given).conversion().rows if row.by_default]
    assert {row.key: row.value for row in rows} == defaults
    assert all(row.where().endswith("(default)") for row in rows)
    assert rows[0].to_dict()["note"].startswith("SageMaker's default")


def test_defaults_of_v1_are_in_the_scenario() -> None:
    scenario = load_scenario({"partitions": 3, "offload_activations": True})
    parallel, offload = scenario.parallel, scenario.offload
    assert (parallel.microbatches, parallel.active_microbatches, parallel.pipeline) == (1, 5, "interleaved")
    assert (offload.activation_loading_horizon, offload.horizon_unit) == (4, "tasks")
    assert not load_scenario({"partitions": 3}).offload.offload_activations


def test_defaults_of_v2_are_in_the_scenario() -> None:
    scenario = load_scenario(OF_V2)
    parallel, offload = scenario.parallel, scenario.offload
    assert (parallel.microbatches, parallel.pipeline_parallel_degree, parallel.active_microbatches) == (1, 1, None)
    assert (offload.offload_activations, offload.activation_loading_horizon) == (True, 2)
    assert offload.horizon_unit == "layers"


# Both versions' keys of sharding, each with the stage of ZeRO and over how many of the eight replicas it shards.
SHARDED: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = [
    ({"ddp": True}, {}, (0, 1)),
    ({"ddp": True, "sharded_data_parallel_degree": 1}, {}, (0, 1)),
    ({"ddp": True, "sharded_data_parallel_degree": 4}, {}, (3, 4)),
    ({"ddp": True, "sharded_data_parallel_degree": 8}, {}, (3, 8)),
    ({"ddp": True, "shard_optimizer_state": True}, {}, (1, 8)),
    # 1 is v1's default, with which the optimizer's state is sharded over all all the same.
    ({"ddp": True, "shard_optimizer_state": True, "sharded_data_parallel_degree": 1}, {}, (1, 8)),
    (OF_V2, {}, (3, 8)),
    ({"hybrid_shard_degree": 0}, {}, (3, 8)),
    ({"hybrid_shard_degree": 1}, {}, (0, 1)),
    ({"hybrid_shard_degree": 4}, {}, (3, 4)),
    # What is given by hand counts before it.
    ({"hybrid_shard_degree": 4}, {"parallel.zero_stage": 2}, (2, 4)),
    ({"hybrid_shard_degree": 4}, {"parallel.sharded_data_parallel_degree": 2}, (3, 2)),
    (OF_V2, {"parallel.sharded_data_parallel_degree": 2}, (3, 2)),
    (OF_V2, {"parallel.zero_stage": 0}, (0, 1)),
    (OF_V2, {"parallel.data_parallel_degree": 6}, (3, 6)),
]


@pytest.mark.parametrize(("parameters", "by_hand", "sharded"), SHARDED)
def test_what_is_sharded_over_how_many_replicas(
    parameters: dict[str, Any], by_hand: dict[str, Any], sharded: tuple[int, int]
) -> None:
    given = {"smp_options": parameters, "instance_type": "ml.p4d.24xlarge", "instance_count": 1}
    sharing = sharing_of(load_scenario(given, by_hand).parallel)
    assert (sharing.zero_stage, sharing.shard) == sharded
    assert sharing.data == by_hand.get("parallel.data_parallel_degree", 8)


def test_a_hybrid_degree_of_0_becomes_a_stage_over_all_replicas() -> None:
    conversion = options_file({"hybrid_shard_degree": 0}).conversion()
    row = next(row for row in conversion.rows if row.key == "hybrid_shard_degree")
    assert row.where() == "parallel.zero_stage = 3"
    assert conversion.origins["parallel.zero_stage"] == "hybrid_shard_degree"
    assert "sharded_data_parallel_degree" not in conversion.tables["parallel"]
    by_default = options_file(OF_V2).conversion()
    assert by_default.origins["parallel.zero_stage"] == "hybrid_shard_degree, SageMaker's default"
