"""The parameters of SageMaker's model parallel library v1, each with what becomes of it.

Names, types and defaults: "Run a Distributed Training Job Using the SageMaker Python SDK" (SageMaker Python SDK 2.199,
smd_model_parallel_general), its check of these options (``validate_mp_config``), and, for ``bf16`` and
``ddp_dist_backend``, "Sharded Data Parallelism" in the SageMaker developer guide, which says over which processes state
is sharded, too, and what it does not go together with; "Optimizer State Sharding" there does for the optimizer's alone.
"""

from __future__ import annotations

from itertools import permutations

from loadahead.scenarios.smp.keys import Key, table_of
from loadahead.scenarios.smp.values import COUNT, FLAG, FRACTION, INTEGER, NATURAL, POSITIVE, TEXT, WHOLE, one_of

NAME = "v1"
DEFAULT_HORIZON = 4
# active_microbatches is so many above the number of partitions where it is not given.
ACTIVE_ABOVE_PARTITIONS = 2

_COLLECTIVES = "a transformer's collectives are timed as NCCL's, and no other model's are"
_PRECISION = "sizes and times come from the model and the machine"
_LAYERS = "layers are dealt out by their work, or as checkpoint.partition says"

KEYS = table_of(
    Key(name="microbatches", allowed=COUNT, default=1, becomes="parallel.microbatches"),
    Key(
        name="active_microbatches",
        allowed=COUNT,
        default_text=f"partitions + {ACTIVE_ABOVE_PARTITIONS}",
        becomes="parallel.active_microbatches",
    ),
    Key(
        name="pipeline",
        allowed=one_of("interleaved", "simple"),
        default="interleaved",
        becomes="parallel.pipeline",
        why="interleaved is plain 1F1B, backward first; simple is all forwards, then all backwards",
    ),
    Key(name="pipeline_parallel_degree", allowed=COUNT, default=1, becomes="parallel.pipeline_parallel_degree"),
    Key(
        name="partitions",
        allowed=COUNT,
        becomes="parallel.pipeline_parallel_degree",
        why="the older name of pipeline_parallel_degree",
    ),
    Key(
        name="placement_strategy",
        allowed=one_of("cluster", "spread", *map("".join, permutations("DPT"))),
        default="cluster",
        becomes="parallel.placement_strategy",
        why="cluster is DPT, spread is TPD; the right-most letter varies fastest over processes",
    ),
    Key(name="tensor_parallel_degree", allowed=COUNT, default=1, becomes="parallel.tensor_parallel_degree"),
    Key(name="ddp", allowed=FLAG, default=False, becomes="parallel.ddp"),
    Key(name="offload_activations", allowed=FLAG, default=False, becomes="offload.offload_activations"),
    Key(
        name="activation_loading_horizon",
        allowed=COUNT,
        default=DEFAULT_HORIZON,
        becomes="offload.activation_loading_horizon",
        why="in pipeline tasks",
    ),
    Key(
        name="optimize",
        allowed=one_of("memory", "speed"),
        default="memory",
        why="tensor-parallel layers are laid out as Megatron-LM's with either",
    ),
    Key(name="memory_weight", allowed=FRACTION, default_text="0.8, or 0.2 with optimize = speed", why=_LAYERS),
    Key(name="auto_partition", allowed=FLAG, default=True, why=_LAYERS),
    Key(name="default_partition", allowed=NATURAL, default=0, why=_LAYERS),
    Key(name="contiguous", allowed=FLAG, default=True, why="stages are runs of layers that follow each other"),
    Key(name="load_partition", allowed=FLAG, default=False, why=_LAYERS),
    Key(name="partition_file", allowed=TEXT, why=_LAYERS),
    Key(
        name="prescaled_batch",
        allowed=FLAG,
        default=False,
        why="how a batch reaches tensor-parallel GPUs; a microbatch's size comes from the model",
    ),
    Key(
        name="shard_optimizer_state",
        allowed=FLAG,
        default=False,
        becomes="parallel.shard_optimizer_state",
        why="the optimizer's state is shared out over all replicas, as by ZeRO-1",
    ),
    Key(
        name="sharded_data_parallel_degree",
        allowed=COUNT,
        default=1,
        becomes="parallel.sharded_data_parallel_degree",
        why="weights, gradients and optimizer state are shared out over so many replicas, as by ZeRO-3",
    ),
    Key(
        name="sdp_reduce_bucket_size",
        allowed=WHOLE,
        default=500_000_000,
        why="how gradients are cut into buckets is not modelled",
    ),
    Key(
        name="sdp_param_persistence_threshold",
        allowed=WHOLE,
        default=1_000_000,
        why="state is sharded evenly, small tensors' too",
    ),
    Key(
        name="sdp_max_live_parameters",
        allowed=WHOLE,
        default=1_000_000_000,
        why="how far ahead weights are gathered is not modelled",
    ),
    Key(
        name="sdp_hierarchical_allgather",
        allowed=FLAG,
        default=True,
        why="that hosts gather in two steps is not modelled",
    ),
    Key(name="sdp_gradient_clipping", allowed=POSITIVE, default=1.0, why="clipping takes neither time nor memory here"),
    Key(name="fp16", allowed=FLAG, default=False, why=_PRECISION),
    Key(name="fp16_params", allowed=FLAG, default=False, why=_PRECISION),
    Key(name="bf16", allowed=FLAG, default=False, why=_PRECISION),
    Key(
        name="fp32_residual_addition",
        allowed=FLAG,
        default=False,
        why="a layer's residual sums are counted as the model has them",
    ),
    Key(name="skip_tracing", allowed=FLAG, default=False, why="tracing comes before the first step"),
    Key(
        name="ddp_dist_backend",
        allowed=one_of("auto", "nccl"),
        default="auto",
        why=_COLLECTIVES,
    ),
    Key(name="ddp_port", allowed=NATURAL, why="an address takes no time"),
    Key(name="horovod", allowed=FLAG, default=False, why=_COLLECTIVES),
    Key(
        name="deterministic_server",
        allowed=FLAG,
        default=False,
        why="a plan's order is the same on every replica",
    ),
    Key(name="tensor_parallel_seed", allowed=INTEGER, why="no numbers are drawn"),
)
