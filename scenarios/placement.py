"""A scenario's degrees and strategy say where its processes stand (DESIGN, section 3, ``[parallel]``)."""

from __future__ import annotations

from loadahead.scenarios.tables import STRATEGY_ORDERS, Hardware, Parallel
from loadahead.sim.errors import InputError
from loadahead.sim.placement import MOST_PROCESSES, Placement

# A host has so many GPUs where nothing says how many: those of the catalogue that train large models have.
GPUS_PER_HOST = 8


def placement_of(parallel: Parallel, hardware: Hardware) -> Placement:
    """Return where the processes of a scenario stand.

    Where nothing says how many GPUs a host has, as many processes as :data:`GPUS_PER_HOST` or as a switch has GPUs, if
    these are more, stand on one.
    """
    strategy: str = parallel.placement_strategy
    data, pipeline, tensor = (
        parallel.data_parallel_degree,
        parallel.pipeline_parallel_degree,
        parallel.tensor_parallel_degree,
    )
    processes = data * pipeline * tensor
    if processes > MOST_PROCESSES:
        raise InputError(
            f"parallel: data_parallel_degree {data}, pipeline_parallel_degree {pipeline} and tensor_parallel_degree "
            f"{tensor} need {processes} processes; at most {MOST_PROCESSES} can be placed, use smaller degrees"
        )
    most = hardware.value_of("gpus_per_host", max(GPUS_PER_HOST, hardware.value_of("gpus_per_switch", 1)))
    return Placement.model_validate(
        {
            "order": STRATEGY_ORDERS.get(strategy, strategy),
            "data": data,
            "tensor": tensor,
            "gpus_per_host": most if processes > most else None,
        }
    )
