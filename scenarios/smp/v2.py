"""The parameters of SageMaker's model parallel library v2, each with what becomes of it.

Names, types and defaults: "The SageMaker model parallel library v2 reference" in the SageMaker developer guide, "SMP v2
core feature configuration parameters"; ``moe`` and ``fp8`` are set in the training script, by its "torch.sagemaker"
package. That experts and tensor parallelism do not go together is in "Expert parallelism" there.
"""

from __future__ import annotations

from loadahead.scenarios.smp.keys import Key, table_of
from loadahead.scenarios.smp.values import ANYTHING, COUNT, FLAG, INTEGER, NATURAL

NAME = "v2"
DEFAULT_HORIZON = 2

# What a hybrid_shard_degree of 0 becomes: ZeRO's stage 3 over all replicas, however many there are.
ALL_STATE = 3

KEYS = table_of(
    Key(
        name="sm_activation_offloading",
        allowed=FLAG,
        default=True,
        becomes="offload.offload_activations",
        why="false leaves offloading to PyTorch's own wrapper, which is not modelled: it is off",
    ),
    Key(
        name="activation_loading_horizon",
        allowed=COUNT,
        default=DEFAULT_HORIZON,
        becomes="offload.activation_loading_horizon",
        why='in layers that are on the GPU at once (offload.horizon_unit = "layers")',
    ),
    Key(name="tensor_parallel_degree", allowed=COUNT, default=1, becomes="parallel.tensor_parallel_degree"),
    Key(
        name="hybrid_shard_degree",
        allowed=NATURAL,
        default=0,
        becomes="parallel.sharded_data_parallel_degree",
        instead={0: "parallel.zero_stage"},
        why=(
            "weights, gradients and optimizer state are shared out over so many replicas, as by FSDP's hybrid "
            "sharding; 0 is taken for all of them, FSDP's full sharding"
        ),
    ),
    Key(
        name="expert_parallel_degree",
        allowed=COUNT,
        default=1,
        becomes="parallel.expert_parallel_degree",
        why="a layer's experts are dealt out among so many replicas",
    ),
    Key(
        name="context_parallel_degree",
        allowed=COUNT,
        default=1,
        why="sequences are counted whole on every GPU, and what their parts send each other is not modelled",
    ),
    Key(name="random_seed", allowed=INTEGER, why="no numbers are drawn"),
    Key(name="fsdp_cache_flush_warnings", allowed=FLAG, default=True, why="a warning of the training run"),
    Key(
        name="allow_empty_shards",
        allowed=FLAG,
        default=False,
        why="state is sharded evenly",
    ),
    Key(name="fp8", allowed=FLAG, default=False, why="sizes and times come from the model and the machine"),
    Key(
        name="moe",
        allowed=ANYTHING,
        why="a layer's experts are those that the model has",
    ),
)
