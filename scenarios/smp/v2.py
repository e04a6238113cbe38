"""The parameters of SageMaker's model parallel library v2, each with what becomes of it.

Names, types and defaults: "The SageMaker model parallel library v2 reference" in the SageMaker developer guide, "SMP v2
core feature configuration parameters"; ``moe`` and ``fp8`` are set in the training script, by its "torch.sagemaker"
package.
"""

from __future__ import annotations

from loadahead.scenarios.smp.keys import Key, table_of
from loadahead.scenarios.smp.values import ANYTHING, COUNT, FLAG, INTEGER, NATURAL

NAME = "v2"
DEFAULT_HORIZON = 2

_NOT_SHARDED = "weights, gradients and optimizer state are counted whole on every GPU"

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
        why=f"{_NOT_SHARDED}; it is checked to divide the data parallel degree (0: all of it)",
    ),
    Key(
        name="expert_parallel_degree",
        allowed=COUNT,
        default=1,
        why="experts are counted whole on every GPU, and what they send each other is not modelled",
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
        why=f"it sets how state is sharded, and {_NOT_SHARDED}",
    ),
    Key(name="fp8", allowed=FLAG, default=False, why="sizes and times come from the model and the machine"),
    Key(
        name="moe",
        allowed=ANYTHING,
        why="experts are counted whole on every GPU, and what they send each other is not modelled",
    ),
)
