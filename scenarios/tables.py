"""A scenario has these tables beside the model: hardware, parallelism, checkpointing, offloading and jitter.

SageMaker's names are kept. DESIGN, sections 2 and 3, gives meanings and defaults; smp's parameters are those of the
SageMaker Python SDK's page "Run a Distributed Training Job Using the SageMaker Python SDK".
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from loadahead.scenarios.catalogue.hardware import ACCELERATORS, ANY_GPU
from loadahead.scenarios.catalogue.machines import MACHINES, allowed_machines, find_machine
from loadahead.scenarios.catalogue.nccl import (
    ANY_GENERATION,
    SEND_BETWEEN_HOSTS_NS,
    SEND_OVER_NVLINK_NS,
    SEND_OVER_PCIE_NS,
)
from loadahead.scenarios.communication.links import Links
from loadahead.scenarios.fields import (
    LARGEST_COUNT,
    Bare,
    Budget,
    Bytes,
    Count,
    Duration,
    Fraction,
    Memory,
    Natural,
    Rate,
    Share,
    Speed,
    Table,
    Variation,
    in_doubt,
    not_allowed,
    one_of,
)
from loadahead.scenarios.layers import STRATEGIES, is_strategy
from loadahead.scenarios.roofline import Compute
from loadahead.sim.costs import MOST_WEIGHT, P2PLink, SharedLinks
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import KindName
from loadahead.sim.placement import PLACEMENT_ORDERS
from loadahead.sim.planner import HORIZON_UNITS, MAKERS, Goal, order_names
from loadahead.sim.planner.policy import Policy


def _strategy(value: object) -> object:
    if not is_strategy(value):
        raise not_allowed(f"it must be one of {STRATEGIES}")
    return value


def _partition(value: object) -> tuple[int, ...]:
    layers = list(value) if isinstance(value, list | tuple) else []
    if not layers or not all(type(count) is int and 1 <= count <= LARGEST_COUNT for count in layers):
        raise not_allowed(
            "it must be a list of integers of at least 1, the number of layers of each stage, e.g. [3, 5]"
        )
    return tuple(layers)


def _capacity(value: int) -> int:
    if value == 0:
        raise not_allowed('it must be above 0, e.g. "80 GiB"')
    return value


def _machine(value: object) -> str:
    """Return the catalogue's name of a machine that is spelled in one of the ways in which people do."""
    found = find_machine(value) if isinstance(value, str) else None
    if found is None:
        raise not_allowed(allowed_machines(value))
    return found


def _weight(value: object) -> object:
    if type(value) is not int or not 1 <= value <= MOST_WEIGHT:
        raise not_allowed(f"it must be an integer of at least 1 and at most {MOST_WEIGHT}")
    return value


def _zero_stage(value: object) -> object:
    if type(value) is not int or not 0 <= value <= 3:
        raise not_allowed("it must be 0, 1, 2 or 3")
    return value


def _draws(value: object) -> object:
    if type(value) is not int or not 1 <= value <= MOST_DRAWS:
        raise not_allowed(f"it must be an integer of at least 1 and at most {MOST_DRAWS}")
    return value


# With more draws nothing is gained: a quantile's error is far below any other by then.
MOST_DRAWS = 1_000_000
_SHARED = tuple(SharedLinks.model_fields)
Weight = Annotated[int, BeforeValidator(_weight)]
ZeroStage = Annotated[int, BeforeValidator(_zero_stage)]


# The keys of [hardware] that say how quick sends are, and those that times of computing follow from.
SEND_KEYS = (
    "p2p",
    "p2p_bandwidth",
    "p2p_link",
    "network_bandwidth",
    "gpu_network_bandwidth",
    "gpus_per_nic",
    "network_latency",
)
COMPUTE_KEYS = ("flops", "efficiency", "memory_bandwidth")


class Hardware(Table):
    """Describes one GPU and its links; a value that is not written comes from the preset.

    Attributes:
        d2h, h2d: bandwidth of the link to the host, each direction.
        link_latency: time from a copy's start to its first byte.
        p2p, p2p_bandwidth: a send between ranks takes this long, and its bytes at this bandwidth if one is given; where
            ``p2p`` is not written, a known GPU's sends take what NCCL reckons with.
        launch: host time to issue one operation; ``launch_by_kind`` replaces it for the kinds that it names. A task
            runs while it is issued, and ends no earlier; any other operation starts once it has been issued.
        memory, host_memory: what one GPU has, and what the host has for the pinned slots of all ranks together.
        flops, efficiency: the GPU's peak, and one share of it that layers reach, in place of the curve that the
            catalogue has of its matrix products; only model kinds that count FLOPs use them.
        communication: "modelled", or "ideal": what GPUs send to each other takes no time.
        memory_bandwidth: the GPU's, for the OPTIMIZER_STEP of such models.
        machine: a host by name, whose GPUs and figures stand where nothing else is written.
        gpus_per_host: processes on one host, one for each GPU.
        gpus_per_switch, uplink_d2h, uplink_h2d, duplex, host_memory_bandwidth, network_bandwidth, d2h_weight,
            h2d_weight: what the GPUs of a host share; see :class:`loadahead.sim.costs.SharedLinks`.
        gpu_network_bandwidth, network_latency: of one GPU's sends to another host.
        p2p_link: over which links the GPUs of a host send; see :data:`loadahead.sim.costs.P2PLink`.
    """

    machine: Annotated[str, BeforeValidator(_machine)] | None = None
    preset: one_of(*ACCELERATORS) | None = None  # type: ignore[valid-type]
    d2h: Rate | None = None
    h2d: Rate | None = None
    link_latency: Duration | None = None
    p2p: Duration | None = None
    p2p_bandwidth: Rate | None = None
    launch: Duration = 0
    launch_by_kind: dict[KindName, Duration] = Field(default_factory=dict)
    memory: Annotated[Memory, AfterValidator(_capacity)] | None = None
    host_memory: Annotated[Memory, AfterValidator(_capacity)] | None = None
    flops: Speed | None = None
    efficiency: Fraction | None = None
    memory_bandwidth: Rate | None = None
    communication: one_of("modelled", "ideal") = "modelled"  # type: ignore[valid-type]
    gpus_per_host: Count | None = None
    gpus_per_switch: Count | None = None
    uplink_d2h: Rate | None = None
    uplink_h2d: Rate | None = None
    duplex: Rate | None = None
    host_memory_bandwidth: Rate | None = None
    network_bandwidth: Rate | None = None
    gpu_network_bandwidth: Rate | None = None
    gpus_per_nic: Count | None = None
    network_latency: Duration | None = None
    p2p_link: one_of(*get_args(P2PLink)) | None = None  # type: ignore[valid-type]
    d2h_weight: Weight | None = None
    h2d_weight: Weight | None = None

    # How it was written, and no part of what it says.
    _bare: Bare = PrivateAttr(default_factory=Bare)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_bare(cls, data: Any, made: ModelWrapValidatorHandler[Hardware]) -> Hardware:
        """Keep which bandwidths and sizes were written without a unit; pydantic converts them after this."""
        table = made(data)
        if isinstance(data, dict):
            table._bare = Bare(tuple(key for key in _IN_DOUBT if isinstance(data.get(key), int | float)))
        return table

    def cautions(self) -> list[str]:
        """Return a warning for each bandwidth and size that was written without a unit."""
        return [_IN_DOUBT[key].caution(f"hardware.{key}", getattr(self, key)) for key in self._bare.keys]

    def bare(self) -> dict[str, int]:
        """Return the bandwidths and sizes that were written without a unit, by key, as they were written."""
        return {key: getattr(self, key) for key in self._bare.keys}

    def without_cautions(self) -> Hardware:
        """Return the same table as one that was not written by a person."""
        table = self.model_copy()
        table._bare = Bare()
        return table

    @model_validator(mode="after")
    def _switches(self) -> Hardware:
        for key in ("uplink_d2h", "uplink_h2d"):
            if getattr(self, key) is not None and self.value_of("gpus_per_switch") is None:
                raise not_allowed(f"{key} is given and gpus_per_switch is not; write how many GPUs share the uplink")
        host, switch = self.value_of("gpus_per_host"), self.value_of("gpus_per_switch")
        if host is not None and switch is not None and switch > host:
            raise not_allowed(
                f"gpus_per_switch is {switch} and gpus_per_host is {host}; a switch is one host's, so it must be "
                f"at most {host}"
            )
        return self

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Hardware:
        """Refuse more processes on a host than its machine has GPUs."""
        most = None if self.machine is None else MACHINES[self.machine].gpus_per_host
        if most is not None and self.gpus_per_host is not None and self.gpus_per_host > most:
            raise not_allowed(
                f"gpus_per_host is {self.gpus_per_host} and a {self.machine} has {most} GPUs; it must be at most "
                f"{most}, as each process has a GPU of its own"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_gpu(self) -> Hardware:
        """Refuse a preset that is not the machine's GPU: which figures are meant would be a guess."""
        if self.machine is not None and self.preset is not None and self.preset != MACHINES[self.machine].preset:
            raise not_allowed(
                f"machine is {self.machine}, whose GPUs are {MACHINES[self.machine].preset}, and preset is "
                f"{self.preset}; leave one of them out, or write the figures that are other ones"
            )
        return self

    @property
    def accelerator(self) -> str | None:
        """Return the catalogue's name of the GPUs: the preset, or else the machine's; None where neither is given."""
        if self.preset is not None or self.machine is None:
            return self.preset
        return MACHINES[self.machine].preset

    def catalogued(self, name: str) -> Any:
        """Return what the machine says of a figure, or else its GPUs' preset; None where neither says anything."""
        own = None if self.machine is None else getattr(MACHINES[self.machine], name, None)
        if own is not None or self.accelerator is None:
            return own
        return getattr(ACCELERATORS[self.accelerator], name, None)

    def origin(self, name: str) -> str | None:
        """Return where a figure of the catalogue comes from, e.g. "the preset h100-sxm"; None for what it has not."""
        if self.machine is not None and getattr(MACHINES[self.machine], name, None) is not None:
            return f"the machine {self.machine}"
        found = None if self.accelerator is None else getattr(ACCELERATORS[self.accelerator], name, None)
        return None if found is None else f"the preset {self.accelerator}"

    def value_of(self, name: str, default: Any = None) -> Any:
        """Return a value as written, or else the machine's, or else the preset's, or else the default."""
        own = getattr(self, name)
        if own is None:
            own = self.catalogued(name)
            if own is not None and name in ("gpus_per_switch", "gpus_per_nic") and self.gpus_per_host is not None:
                own = min(own, self.gpus_per_host)  # a host of which fewer GPUs are used
        return default if own is None else own

    def stated(self, name: str, with_preset: bool = False) -> Any:
        """Return a value that is written, or else the catalogue's where that counts; None where neither states it."""
        own = getattr(self, name) if name in self.model_fields_set else None
        return self.catalogued(name) if own is None and with_preset else own

    def required_value(self, name: str, example: str) -> int:
        """Return a value as written or the preset's; raise InputError where neither it nor a preset is given."""
        value: int | None = self.value_of(name)
        if value is None:
            raise missing(name, example)
        return value

    def compute(self) -> Compute:
        """Return how fast the GPU computes, its links apart."""
        accelerator = None if self.accelerator is None else ACCELERATORS[self.accelerator]
        return Compute(
            flops=self.value_of("flops"),
            efficiency=self.efficiency,
            memory_bandwidth=self.value_of("memory_bandwidth"),
            kernels=ANY_GPU if accelerator is None else accelerator.kernels,
            flops_of_16_bits=self.flops is None and accelerator is not None,
        )

    def links(self) -> dict[str, Any]:
        """Return the links and the memory under the names of :class:`loadahead.sim.costs.Costs`; raise InputError."""
        latency = self.value_of("link_latency", 0)
        return {
            "d2h_bandwidth": self.required_value("d2h", "32 GB/s"),
            "h2d_bandwidth": self.required_value("h2d", "32 GB/s"),
            "d2h_latency_ns": latency,
            "h2d_latency_ns": latency,
            "p2p_latency_ns": self._send_ns(),
            "p2p_bandwidth": self._of_sends("p2p_bandwidth"),
            "memory_bytes": self.value_of("memory", 80 * 2**30),
            "host_memory_bytes": self.value_of("host_memory"),
        }

    def routes(self) -> dict[str, Any]:
        """Return over what GPUs send to each other, under the names of :class:`loadahead.sim.costs.Costs`."""
        return {
            "network_latency_ns": self._network_ns(),
            "gpu_network_bandwidth": self._of_sends("gpu_network_bandwidth"),
            "p2p_link": self._of_sends("p2p_link"),
        }

    def shared(self) -> SharedLinks | None:
        """Return what the GPUs of a host share; None where nothing of it is known."""
        known = {name: self._of_sends(name) if name in SEND_KEYS else self.value_of(name) for name in _SHARED}
        written = {name: value for name, value in known.items() if value is not None}
        return SharedLinks(**written) if written else None

    def connections(self) -> Links:
        """Return by what GPUs are connected, for collectives."""
        accelerator = None if self.accelerator is None else ACCELERATORS[self.accelerator]
        return Links(
            generation=ANY_GENERATION if accelerator is None else accelerator.generation,
            has_nvlink=self.value_of("p2p_link") != "pcie",
            bandwidth=self.value_of("p2p_bandwidth"),
            network=self.value_of("network_bandwidth"),
            card=self.value_of("gpu_network_bandwidth"),
            gpus_per_card=self.value_of("gpus_per_nic", 1),
            gpus_per_host=self.value_of("gpus_per_host"),
            network_ns=self.value_of("network_latency", SEND_BETWEEN_HOSTS_NS),
        )

    @property
    def is_ideal(self) -> bool:
        """Return whether what GPUs send to each other is to take no time."""
        return bool(self.communication == "ideal")

    def _of_sends(self, name: str) -> Any:
        """Return a value that says how quick sends are; None where they take no time."""
        return None if self.is_ideal else self.value_of(name)

    def _send_ns(self) -> int:
        """Return what a send inside a host takes beside its bytes: as written, or else NCCL's for a known GPU."""
        if self.is_ideal:
            return 0
        if self.p2p is not None:
            return int(self.p2p)
        if self.accelerator is None:
            return 0
        return SEND_OVER_PCIE_NS if self.value_of("p2p_link") == "pcie" else SEND_OVER_NVLINK_NS

    def _network_ns(self) -> int | None:
        """Return what a send between hosts takes; where nothing is known of a network, it is as one inside a host."""
        value: int | None = self._of_sends("network_latency")
        if value is not None or self.is_ideal or self.accelerator is None:
            return value
        known = (self.value_of("network_bandwidth"), self.value_of("gpu_network_bandwidth"))
        return None if known == (None, None) else SEND_BETWEEN_HOSTS_NS


# The keys whose figures a machine, or a preset, may have.
CATALOGUED = tuple(
    name
    for name in Hardware.model_fields
    if name != "preset" and any(hasattr(row, name) for row in (*MACHINES.values(), *ACCELERATORS.values()))
)
# The bandwidths and sizes among the keys: each is warned of where it has no unit.
_IN_DOUBT = in_doubt(Hardware.model_fields)


def missing(name: str, example: str) -> InputError:
    """Return the error of a figure that neither the scenario nor its catalogue's row has."""
    return InputError(
        f'hardware.{name} is missing; write {name} = "{example}", or preset = one of {", ".join(ACCELERATORS)}, or '
        "machine, e.g. p4d.24xlarge"
    )


# What SageMaker's names for two of the orders stand for.
STRATEGY_ORDERS = {"cluster": "DPT", "spread": "TPD"}


class Parallel(Table):
    """Says how a step is cut into microbatches and the model into stages, one rank each, and how that is replicated.

    Attributes:
        placement_strategy: an order of D, P and T, of which the right-most varies fastest over the processes.
        sequence_parallel: whether what a tensor-parallel layer does to each token alone is divided over the tokens.
        expert_parallel_degree: GPUs of the replicas among which a layer's experts are dealt out.
        zero_stage: what is divided over replicas: 1 the optimizer's state, 2 gradients too, 3 weights too.
        sharded_data_parallel_degree: over how many replicas; None: over all. Above 1 it stands for ``zero_stage = 3``
            where that is not written, as with smp.
        shard_optimizer_state: smp's name for ``zero_stage = 1``.
        overlap_grad_reduce: whether replicas add up gradients while the last BACKWARD runs.
    """

    microbatches: Count = 1
    pipeline_parallel_degree: Count = 1
    tensor_parallel_degree: Count = 1
    data_parallel_degree: Count = 1
    ddp: bool = False
    placement_strategy: one_of(*STRATEGY_ORDERS, *PLACEMENT_ORDERS) = "cluster"  # type: ignore[valid-type]
    pipeline: one_of(*order_names()) = "interleaved"  # type: ignore[valid-type]
    active_microbatches: Count | None = None
    sequence_parallel: bool = False
    expert_parallel_degree: Count = 1
    zero_stage: ZeroStage | None = None
    sharded_data_parallel_degree: Count | None = None
    shard_optimizer_state: bool = False
    overlap_grad_reduce: bool = True

    @model_validator(mode="before")
    @classmethod
    def _partitions(cls, data: Any) -> Any:
        """Take ``partitions``, smp's older name, for ``pipeline_parallel_degree``."""
        if not isinstance(data, dict) or "partitions" not in data:
            return data
        if "pipeline_parallel_degree" in data:
            raise not_allowed(
                "partitions and pipeline_parallel_degree are one setting under two names; give one of them"
            )
        return {("pipeline_parallel_degree" if key == "partitions" else key): value for key, value in data.items()}


class Checkpoint(Table):
    """Sets activation checkpointing; the strategies are those of ``smp.set_activation_checkpointing``.

    ``partition`` gives the number of layers of each stage; None: layers are dealt out evenly by their work.
    ``recompute_granularity`` is Megatron-LM's: "full", or "selective", which recomputes attention's core alone.
    """

    enabled: bool = True
    recompute_granularity: one_of("full", "selective") = "full"  # type: ignore[valid-type]
    strategy: Annotated[str, BeforeValidator(_strategy)] = "each"
    partition: Annotated[tuple[int, ...], BeforeValidator(_partition)] | None = None

    @property
    def of_units(self) -> bool:
        """Return whether units keep their boundary alone, which a plan's RECOMPUTE starts from."""
        return self.enabled and self.recompute_granularity == "full"

    @property
    def is_selective(self) -> bool:
        """Return whether attention's core alone is recomputed, inside BACKWARD."""
        return self.enabled and self.recompute_granularity == "selective"


# The keys of [offload] that say what tuning is to reach, and those by which a horizon decides.
GOAL_KEYS = ("memory", "boundary_memory", "host_memory", "within")
HORIZON_KEYS = ("activation_loading_horizon", "horizon_unit", "release_window")


class Offload(Table):
    """Sets activation offloading, with smp's parameters; ``min_bytes`` and what follows are none of smp's.

    Where ``activation_loading_horizon`` is not written, the horizon is the default of its unit, which the policy knows.

    Attributes:
        decisions: "horizon", or "auto": tuning decides which boundaries leave and when.
        memory, boundary_memory, host_memory, within: what tuning is to reach; see
            :class:`loadahead.sim.planner.goal.Goal`.
    """

    offload_activations: bool = True
    activation_loading_horizon: Count | None = None
    horizon_unit: one_of(*HORIZON_UNITS) = "tasks"  # type: ignore[valid-type]
    release_window: Count = 1
    receive_ahead: Natural = 1
    min_bytes: Bytes = 0
    decisions: one_of(*MAKERS) = MAKERS[0]  # type: ignore[valid-type]
    memory: Budget | None = None
    boundary_memory: Budget | None = None
    host_memory: Budget | None = None
    within: Share | None = None

    def goal(self) -> Goal:
        """Return what tuning is to reach."""
        return Goal(**{key: getattr(self, key) for key in GOAL_KEYS})


class Jitter(Table):
    """Sets the random spread on durations that :class:`loadahead.sim.jitter.Spread` describes."""

    compute: Variation = 0.0
    copies: Variation = 0.0
    seed: Natural = 0
    draws: Annotated[int, BeforeValidator(_draws)] = 1000


def policy_of(parallel: Parallel, checkpoint: Checkpoint, offload: Offload) -> Policy:
    """Return the planner's choices as the tables make them."""
    horizon = offload.activation_loading_horizon
    stated: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    return Policy(
        pipeline=parallel.pipeline,
        microbatches=parallel.microbatches,
        ranks=parallel.pipeline_parallel_degree,
        active_microbatches=parallel.active_microbatches,
        checkpoint=checkpoint.of_units,
        offload=offload.offload_activations,
        horizon_unit=offload.horizon_unit,
        release_window=offload.release_window,
        receive_ahead=offload.receive_ahead,
        min_bytes=offload.min_bytes,
        decisions=offload.decisions,
        goal=offload.goal(),
        **stated,
    )
