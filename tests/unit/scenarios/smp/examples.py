"""The example of SageMaker's documentation, "Activation Offloading", in the forms in which people have it."""

from __future__ import annotations

import json
from typing import Any

from loadahead.scenarios.schema import Scenario

# The options as "Activation Offloading" in the SageMaker developer guide has them.
PYTHON = """
mpi_options = {
    "enabled" : True,
    "processes_per_host" : 8,               # 8 processes
    "custom_mpi_options" : "--mca btl_vader_single_copy_mechanism none "
}

smp_options = {
    "enabled":True,
    "parameters": {
        "microbatches": 4,
        "pipeline_parallel_degree": 2,    # alias for "partitions"
        "placement_strategy": "cluster",
        "tensor_parallel_degree": 2,      # tp over 2 devices
        "ddp": True,
        "offload_activations": True,
        "activation_loading_horizon": 4   # optional. default is 4.
    }
}
"""
PARAMETERS: dict[str, Any] = {
    "microbatches": 4,
    "pipeline_parallel_degree": 2,
    "placement_strategy": "cluster",
    "tensor_parallel_degree": 2,
    "ddp": True,
    "offload_activations": True,
    "activation_loading_horizon": 4,
}
MPI: dict[str, Any] = {
    "enabled": True,
    "processes_per_host": 8,
    "custom_mpi_options": "--mca btl_vader_single_copy_mechanism none ",
}
OPTIONS: dict[str, Any] = {"smp_options": {"enabled": True, "parameters": PARAMETERS}, "mpi_options": MPI}
JSON = json.dumps(OPTIONS)
# The rank map, as the table of "Placement Strategy with Tensor Parallelism" (SageMaker Python SDK) has it for DPT: of
# each of the eight processes its replica, its rank in the pipeline and its tensor-parallel part.
RANKS = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
# v2 has no pipeline: eight processes in two replicas share their layers among four.
PARAMETERS_V2: dict[str, Any] = {
    "tensor_parallel_degree": 4,
    "hybrid_shard_degree": 2,
    "sm_activation_offloading": True,
    "activation_loading_horizon": 4,
}
OPTIONS_V2: dict[str, Any] = {
    "distribution": {
        "torch_distributed": {"enabled": True},
        "smdistributed": {"modelparallel": {"enabled": True, "parameters": PARAMETERS_V2}},
    },
    "instance_type": "ml.p4d.24xlarge",
    "instance_count": 1,
}


def without_cap(scenario: Scenario) -> Scenario:
    """Return a scenario without a cap on microbatches, which a file leaves out where it holds none back."""
    parallel = scenario.parallel.model_dump(exclude_unset=True, exclude={"active_microbatches"})
    return scenario.model_copy(update={"parallel": type(scenario.parallel).model_validate(parallel)})
