"""The table ``[parallel]`` says how GPUs share the model, and with ``[hardware]`` how long what they tell others takes.

The groups in which they do follow from where they stand (scenarios/placement.py).
"""

from __future__ import annotations

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.communication.groups import Groups, groups_of
from loadahead.scenarios.placement import placement_of
from loadahead.scenarios.sharing import Sharing
from loadahead.scenarios.tables import Hardware, Parallel
from loadahead.sim.errors import InputError

# Degrees that are over replicas.
_OVER_REPLICAS = ("sharded_data_parallel_degree", "expert_parallel_degree")


def sharing_of(parallel: Parallel) -> Sharing:
    """Return how GPUs share the model; raise InputError where the keys of ``parallel`` do not go together."""
    data, shard = parallel.data_parallel_degree, parallel.sharded_data_parallel_degree
    stage = zero_stage_of(parallel)
    if stage == 0:
        _require_nothing_sharded(parallel)
    if parallel.shard_optimizer_state and parallel.zero_stage is None and (shard or 1) > 1:
        raise InputError(
            f"parallel.shard_optimizer_state is true, which shards over all replicas, and "
            f"parallel.sharded_data_parallel_degree is {shard}; leave one of them out, or say with parallel.zero_stage "
            "what is sharded"
        )
    for key in _OVER_REPLICAS:
        degree = getattr(parallel, key) or 1
        if data % degree:
            raise InputError(f"parallel.{key} is {degree}; it must divide parallel.data_parallel_degree, {data}")
    # smp's shard_optimizer_state is over all replicas, beside its default degree of 1 too.
    all_of_them = shard is None or (parallel.zero_stage is None and shard == 1)
    degree = (data if all_of_them else shard or 1) if stage else 1
    return Sharing(
        tensor=parallel.tensor_parallel_degree,
        sequence_parallel=parallel.sequence_parallel and parallel.tensor_parallel_degree > 1,
        expert=parallel.expert_parallel_degree,
        data=data,
        zero_stage=stage,
        shard=degree,
        overlap=parallel.overlap_grad_reduce,
    )


def zero_stage_of(parallel: Parallel) -> int:
    """Return what is divided over replicas; smp's names say it where ``zero_stage`` is not written."""
    if parallel.zero_stage is not None:
        return int(parallel.zero_stage)
    if (parallel.sharded_data_parallel_degree or 1) > 1:
        return 3
    return int(parallel.shard_optimizer_state)


def _require_nothing_sharded(parallel: Parallel) -> None:
    """Raise InputError where ``zero_stage = 0`` stands beside a key that shards something."""
    shard = parallel.sharded_data_parallel_degree or 1
    if shard > 1:
        raise InputError(
            f"parallel.zero_stage is 0, which shards nothing, and parallel.sharded_data_parallel_degree is {shard}; "
            "make zero_stage 1, 2 or 3, or leave one of them out"
        )
    if parallel.shard_optimizer_state:
        raise InputError(
            "parallel.zero_stage is 0, which shards nothing, and parallel.shard_optimizer_state is true; make "
            "zero_stage 1, 2 or 3, or leave one of them out"
        )


def collectives_of(parallel: Parallel, hardware: Hardware) -> Collectives | None:
    """Return how long what GPUs tell each other takes; None where it is to take no time."""
    return None if hardware.is_ideal else Collectives.of(communicating(parallel, hardware), hardware.connections())


def communicating(parallel: Parallel, hardware: Hardware) -> Groups:
    """Return which GPUs tell each other something, beside what the pipeline's ranks send."""
    placement = placement_of(parallel, hardware)
    return groups_of(placement, parallel.pipeline_parallel_degree, sharing_of(parallel))
