"""What options ask for, as the tables ``parallel`` and ``offload``, with the rules by which they go together."""

from __future__ import annotations

from typing import Any

from loadahead.scenarios.smp import v1, v2
from loadahead.scenarios.smp.options import Options
from loadahead.sim.errors import InputError

PIPELINE, OLDER_PIPELINE = "pipeline_parallel_degree", "partitions"
_SHARDS, _HYBRID, _EXPERTS = "sharded_data_parallel_degree", "hybrid_shard_degree", "expert_parallel_degree"

Tables = dict[str, Any]


def parallel_of(options: Options) -> Tables:
    """Return the keys of ``parallel`` that follow from the parameters alone; raise InputError where they conflict."""
    return _parallel_v1(options) if options.version == v1.NAME else _parallel_v2(options)


def _parallel_v1(options: Options) -> Tables:
    given, source = options.parameters, options.source
    if PIPELINE in given and OLDER_PIPELINE in given and given[PIPELINE] != given[OLDER_PIPELINE]:
        raise InputError(
            f"{source}: pipeline_parallel_degree is {given[PIPELINE]} and partitions is {given[OLDER_PIPELINE]}; they "
            "are one setting under two names, give one of them"
        )
    pipeline = given.get(PIPELINE, given.get(OLDER_PIPELINE, options.value(PIPELINE)))
    tensor, ddp = options.value("tensor_parallel_degree"), options.value("ddp")
    if tensor > 1 and not ddp:
        raise InputError(
            f"{source}: tensor_parallel_degree is {tensor} and ddp is not true; more than 1 needs ddp = true"
        )
    if ddp and given.get("horovod") is True:
        raise InputError(f"{source}: ddp and horovod are both true; at most one of them can be")
    if given.get("auto_partition") is False and "default_partition" not in given:
        raise InputError(f"{source}: auto_partition is false and default_partition is not given; it is needed then")
    first = given.get("default_partition", 0)
    if type(first) is int and first >= pipeline:
        raise InputError(
            f"{source}: default_partition is {first}; it must be below the number of partitions, {pipeline}"
        )
    table = {
        "microbatches": options.value("microbatches"),
        PIPELINE: pipeline,
        "tensor_parallel_degree": tensor,
        "data_parallel_degree": 1,
        "ddp": ddp,
        "placement_strategy": options.value("placement_strategy"),
        "pipeline": options.value("pipeline"),
    }
    _require_sharding_of_v1(options, pipeline)
    also = ("active_microbatches", "shard_optimizer_state", _SHARDS)
    return table | {key: given[key] for key in also if key in given}


def _require_sharding_of_v1(options: Options, pipeline: int) -> None:
    """Raise InputError where sharded data parallelism stands beside what it does not go together with."""
    shards = options.value(_SHARDS)
    if shards == 1:
        return
    if pipeline > 1:
        raise InputError(
            f"{options.source}: {_SHARDS} is {shards} and pipeline_parallel_degree is {pipeline}; more than 1 needs a "
            "pipeline of 1"
        )
    if options.value("shard_optimizer_state"):
        raise InputError(
            f"{options.source}: {_SHARDS} is {shards} and shard_optimizer_state is true; more than 1 shards the "
            "optimizer's state, too: leave one of them out"
        )


def _parallel_v2(options: Options) -> Tables:
    tensor, experts = options.value("tensor_parallel_degree"), options.value(_EXPERTS)
    if tensor > 1 and experts > 1:
        raise InputError(
            f"{options.source}: {_EXPERTS} is {experts} and tensor_parallel_degree is {tensor}; SageMaker's library v2 "
            "allows one of them above 1"
        )
    table = {"microbatches": 1, PIPELINE: 1, "tensor_parallel_degree": tensor, "data_parallel_degree": 1}
    shards = options.value(_HYBRID)
    table |= {"zero_stage": v2.ALL_STATE} if shards == 0 else {_SHARDS: shards}
    return table | ({_EXPERTS: experts} if _EXPERTS in options.parameters else {})


def offload_of(options: Options) -> Tables:
    """Return the table of offloading; where it is off, a horizon is only there if one is given."""
    old = options.version == v1.NAME
    on = options.value("offload_activations" if old else "sm_activation_offloading")
    table: Tables = {"offload_activations": on}
    if on or "activation_loading_horizon" in options.parameters:
        table["activation_loading_horizon"] = options.value("activation_loading_horizon")
        table |= {} if old else {"horizon_unit": "layers"}
    return table


def divisors_of(options: Options) -> dict[str, tuple[str, int]]:
    """Return what has to divide the number of replicas: by the key of ``parallel`` the option's name and its value.

    State is sharded among GPUs that have the same part of every layer: tensor-parallel ones have others ("Sharded Data
    Parallelism", example 2).
    """
    if options.version == v1.NAME:
        return {_SHARDS: (_SHARDS, options.value(_SHARDS))}
    return {
        _SHARDS: (_HYBRID, max(options.value(_HYBRID), 1)),
        _EXPERTS: (_EXPERTS, options.value(_EXPERTS)),
    }
