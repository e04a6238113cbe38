"""What options ask for, as the tables ``parallel`` and ``offload``, with the rules by which they go together."""

from __future__ import annotations

from typing import Any

from loadahead.scenarios.smp import v1
from loadahead.scenarios.smp.options import Options
from loadahead.sim.errors import InputError

PIPELINE, OLDER_PIPELINE = "pipeline_parallel_degree", "partitions"

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
    active = given.get("active_microbatches")
    return table if active is None else {**table, "active_microbatches": active}


def _parallel_v2(options: Options) -> Tables:
    tensor = options.value("tensor_parallel_degree")
    return {"microbatches": 1, PIPELINE: 1, "tensor_parallel_degree": tensor, "data_parallel_degree": 1}


def offload_of(options: Options) -> Tables:
    """Return the table of offloading; where it is off, a horizon is only there if one is given."""
    old = options.version == v1.NAME
    on = options.value("offload_activations" if old else "sm_activation_offloading")
    table: Tables = {"offload_activations": on}
    if on or "activation_loading_horizon" in options.parameters:
        table["activation_loading_horizon"] = options.value("activation_loading_horizon")
        table |= {} if old else {"horizon_unit": "layers"}
    return table


def shards_of(options: Options) -> tuple[str, int]:
    """Return the key by which state is sharded, and over how many data-parallel processes; 1 where that is not said."""
    name = "sharded_data_parallel_degree" if options.version == v1.NAME else "hybrid_shard_degree"
    value = options.value(name)
    return name, max(value, 1) if type(value) is int else 1
