"""The costs say how long operations take and how much memory they need.

A plan says what runs in which order, a timeline says when; costs are kept apart from both. They come from a scenario
or from a calibration run, and a ``costs.json`` file holds the same fields. All durations are integer nanoseconds, all
sizes bytes, all bandwidths bytes per second.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from loadahead.sim.errors import InputError, one_line
from loadahead.sim.ir.kinds import COPY_KINDS, SEND_KINDS, UNIT_KINDS, Kind, KindName
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.placement import Placement, Reach
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import Version1, schema_error_line
from loadahead.sim.shown import Shown
from loadahead.sim.units import LARGEST_AMOUNT, counted
from loadahead.sim.workload import distinct_units

if TYPE_CHECKING:
    import pandas as pd

# Costs calibrated over emulated links keep these as they were configured under this key of their evidence, by the names
# of the costs' fields: what transfers took over them is measured.
CONFIGURED = "configured_links"

# What is asked for in the place of a costs file, and what the source of costs begins with whose times nobody measured.
ESTIMATE = "estimate"

# The largest sum over a step: it has to fit int64 with room for what is added to it.
MOST_TOTAL = 2**62

Amount = Annotated[int, Field(ge=0, le=LARGEST_AMOUNT)]
Rate = Annotated[int, Field(gt=0, le=LARGEST_AMOUNT)]
# Weights stay small so that shares are exact: weight times bandwidth has to fit int64.
MOST_WEIGHT = 1000
Weight = Annotated[int, Field(ge=1, le=MOST_WEIGHT)]

NANOSECONDS_PER_SECOND = 1_000_000_000
# These kinds move bytes, so their duration follows from a bandwidth.
MOVING_KINDS = sorted(COPY_KINDS | SEND_KINDS)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# How a unit is checkpointed: FORWARD makes the graph without what it saves and RECOMPUTE stops at the last of that, or
# FORWARD makes no graph and RECOMPUTE does. The first takes the device less time, the second the host.
CheckpointWay = Literal["sparing", "lean"]


class OtherWay(_Frozen):
    """Holds what a unit costs where it is checkpointed the other way; the fields are :class:`UnitCost`'s."""

    forward_ns: Amount
    recompute_ns: Amount
    backward_ns: Amount
    workspace_forward: Amount = 0
    workspace_recompute: Amount = 0
    workspace_backward: Amount = 0


class UnitCost(_Frozen):
    """Holds what one unit costs for one microbatch. Workspace is memory in use only while the operation runs.

    Attributes:
        way: how it is checkpointed to cost that.
        other_way: what it costs where it is checkpointed the other way; None where that was not measured.
    """

    forward_ns: Amount
    recompute_ns: Amount
    backward_ns: Amount
    backward_input_ns: Amount | None = None
    backward_weight_ns: Amount | None = None
    workspace_forward: Amount = 0
    workspace_recompute: Amount = 0
    workspace_backward: Amount = 0
    way: CheckpointWay = "sparing"
    other_way: OtherWay | None = None

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Return the (duration in ns, workspace in bytes) of each of :data:`UNIT_KINDS`."""
        amounts = self.amounts()
        return dict(
            zip(UNIT_KINDS, zip(amounts[: len(UNIT_KINDS)], amounts[len(UNIT_KINDS) :], strict=True), strict=True)
        )

    def amounts(self) -> tuple[int, ...]:
        """Return the durations in ns of :data:`UNIT_KINDS`, then their workspaces in bytes.

        A split backward whose parts have no durations of their own takes half of ``backward_ns`` for each part.
        """
        half = self.backward_ns // 2
        first = half if self.backward_input_ns is None else self.backward_input_ns
        second = self.backward_ns - half if self.backward_weight_ns is None else self.backward_weight_ns
        backward = self.workspace_backward
        durations = (self.forward_ns, self.recompute_ns, self.backward_ns, first, second)
        return *durations, self.workspace_forward, self.workspace_recompute, backward, backward, backward


# Of UNIT_KINDS, as :meth:`UnitCost.amounts` has them first.
_DURATIONS = ("forward_ns", "recompute_ns", "backward_ns", "backward_input_ns", "backward_weight_ns")
_WORKSPACES = ("workspace_forward", "workspace_recompute", "workspace_backward")


def is_estimate(source: str) -> bool:
    """Return whether costs with this source say that their times are an estimate."""
    return source.split(" ", 1)[0] == ESTIMATE


def _units(stages: tuple[tuple[UnitCost, ...], ...]) -> tuple[tuple[UnitCost, ...], ...]:
    if not stages or not all(stages):
        raise PydanticCustomError("no_units", "it must hold a list for each stage, with the cost of at least one unit")
    return stages


# How GPUs of one host send to each other: over an NVLink port each, in which what reaches or leaves a GPU at one time
# shares its bandwidth, or over their links to the host, which copies use too.
P2PLink = Literal["nvlink", "pcie"]


class SharedLinks(_Frozen):
    """Describes what the GPUs of a host share, so that they slow each other down. A field that is None limits nothing.

    Attributes:
        gpus_per_switch: GPUs of a host with the same ``gpu // gpus_per_switch`` sit behind one PCIe switch.
        uplink_d2h, uplink_h2d: bandwidth from a switch to the host and back, for all its GPUs together.
        duplex: bandwidth of one GPU's link for both directions together.
        host_memory_bandwidth: bandwidth of all copies of one host's GPUs together.
        network_bandwidth: bandwidth between one host and the network, each direction, for all its GPUs together.
        gpus_per_nic: GPUs of a host with the same ``gpu // gpus_per_nic`` send over one network card, which has
            ``gpu_network_bandwidth``; None: each has a card of its own.
        d2h_weight, h2d_weight: where copies of both directions meet, each gets bandwidth in proportion to its weight.
    """

    gpus_per_switch: Annotated[int, Field(gt=0, le=LARGEST_AMOUNT)] | None = None
    uplink_d2h: Rate | None = None
    uplink_h2d: Rate | None = None
    duplex: Rate | None = None
    host_memory_bandwidth: Rate | None = None
    network_bandwidth: Rate | None = None
    gpus_per_nic: Annotated[int, Field(gt=0, le=LARGEST_AMOUNT)] | None = None
    d2h_weight: Weight = 1
    h2d_weight: Weight = 1

    @model_validator(mode="after")
    def _switches(self) -> SharedLinks:
        if self.gpus_per_switch is None and (self.uplink_d2h is not None or self.uplink_h2d is not None):
            raise PydanticCustomError("no_switch", "an uplink belongs to a switch; give gpus_per_switch too")
        return self


class Costs(Shown, _Frozen):
    """Holds everything that an engine needs beside the plan.

    Attributes:
        units: each unit's cost, indexed ``[stage][unit]``.
        static_bytes: each stage's weights, gradients and optimizer state, which stay in memory throughout.
        optimizer_ns, optimizer_workspace: each stage's part of its rank's OPTIMIZER_STEP; an empty tuple means 0.
        launch_ns: host time to issue one operation; ``launch_by_kind`` replaces it for the kinds that it names.
            :mod:`loadahead.sim.clock` describes what it delays.
        memory_bytes: capacity of one rank's device.
        host_memory_bytes: what one host has for the slots of all its GPUs together; None: it is not known.
        placement: the replicas and tensor-parallel parts, and the hosts on which all stand.
        p2p_link: over which links GPUs of one host send; None: each send has a link of its own.
        network_latency_ns: what a send between hosts takes beside its bytes; None: ``p2p_latency_ns``.
        gpu_network_bandwidth: what one GPU's sends to other hosts reach; None: what the host reaches.
        shared: what the GPUs of a host share; None when they share nothing.
        source: where the costs come from, e.g. ``"scenario"`` or ``"calibrated on cpu"``; see :func:`is_estimate`.
        evidence: sample counts, spread and machine of a calibration.
    """

    format: Literal["loadahead-costs"] = "loadahead-costs"
    version: Version1 = 1
    units: Annotated[tuple[tuple[UnitCost, ...], ...], AfterValidator(_units)]
    static_bytes: tuple[Amount, ...]
    optimizer_ns: tuple[Amount, ...] = ()
    optimizer_workspace: tuple[Amount, ...] = ()
    d2h_bandwidth: Rate
    h2d_bandwidth: Rate
    d2h_latency_ns: Amount = 0
    h2d_latency_ns: Amount = 0
    p2p_latency_ns: Amount = 0
    p2p_bandwidth: Rate | None = None
    launch_ns: Amount = 0
    launch_by_kind: dict[KindName, Amount] = {}
    memory_bytes: Rate
    host_memory_bytes: Rate | None = None
    placement: Placement = Placement()
    p2p_link: P2PLink | None = None
    network_latency_ns: Amount | None = None
    gpu_network_bandwidth: Rate | None = None
    shared: SharedLinks | None = None
    source: str = "scenario"
    evidence: dict[str, Any] = {}

    def _in_a_line(self) -> str:
        """Return of how many units these are the costs, and where they come from."""
        units = counted(sum(map(len, self.units)), "unit")
        return f" of {units} in {counted(len(self.units), 'stage')}, source: {self.source}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per unit, for one microbatch; what a stage costs as a whole, and links, are not in it.

        Columns: ``stage``; ``unit``, its place there; ``forward_ns``, ``recompute_ns``, ``backward_ns``,
        ``backward_input_ns`` and ``backward_weight_ns``, where a backward that is not split has the first alone;
        ``workspace_forward``, ``workspace_recompute`` and ``workspace_backward``, bytes in use only while each runs;
        ``way``, how the unit is checkpointed.
        """
        import pandas as pd

        rows = []
        for stage, units in enumerate(self.units):
            for place, unit in enumerate(units):
                durations = dict(zip(_DURATIONS, unit.amounts(), strict=False))
                spaces = {name: getattr(unit, name) for name in _WORKSPACES}
                rows.append({"stage": stage, "unit": place, **durations, **spaces, "way": unit.way})
        return pd.DataFrame(rows)

    def configured(self) -> dict[str, int | None]:
        """Return the emulated links that these costs were calibrated over, by field; empty where there were none."""
        found = self.evidence.get(CONFIGURED, {})
        if not isinstance(found, dict) or not all(_is_link(name, value) for name, value in found.items()):
            raise InputError(
                f"costs.evidence.{CONFIGURED} is {found!r:.60}; it must hold whole numbers by the names of the costs' "
                "links: calibrate again"
            )
        return dict(found)

    @property
    def lean_units(self) -> frozenset[tuple[int, int]]:
        """Return the (stage, unit) of the units that cost this where they are checkpointed the lean way."""
        return frozenset(
            (s, u) for s, stage in enumerate(self.units) for u, unit in enumerate(stage) if unit.way == "lean"
        )

    def durations(self, plan: Plan) -> Ints:
        """Return how long each operation keeps its queue busy, in ns, without shared links; shape (operations,).

        RELEASE and ACQUIRE take no time of their own, and a RECV none beyond its SEND, which carries the transfer.
        Raise InputError when the costs do not describe the plan's units or the sum is too large to simulate.
        """
        out = self._per_task(plan, 0, self.optimizer(plan.stage_rank, plan.ranks))
        for at, kind, reach in self._moving(plan):
            out[at] = self.transfer(kind, plan.ops.nbytes[at], reach)
        require_total(out, "durations", "ns")
        return out

    def latencies(self, plan: Plan) -> Ints:
        """Return what of each copy's or send's duration is not for its bytes, in ns, else 0; shape (operations,)."""
        out = np.zeros(len(plan), dtype=np.int64)
        for at, kind, reach in self._moving(plan):
            out[at] = self._link(kind, reach)[0]
        return out

    def _moving(self, plan: Plan) -> Iterator[tuple[npt.NDArray[np.bool_], Kind, Reach]]:
        """Yield which operations are of each kind that moves bytes, and of sends of each reach; shape (operations,)."""
        of_send = None
        if self.placement.is_apart(plan.ranks):
            receivers = plan.receivers
            sends = receivers >= 0
            of_send = np.full(len(plan), Reach.HOST, dtype=np.int64)
            of_send[sends] = self.placement.reach(plan.ranks, plan.ops.rank[sends].astype(np.int64), receivers[sends])
        for kind in MOVING_KINDS:
            at = plan.ops.kind == kind
            if kind not in SEND_KINDS or of_send is None:
                yield at, kind, Reach.HOST
                continue
            for reach in Reach:
                yield at & (of_send == reach), kind, reach

    def transfer(self, kind: Kind, nbytes: Ints, reach: Reach = Reach.HOST) -> Ints:
        """Return how long copies, or sends of one reach, take, in ns; the result has the shape of ``nbytes``."""
        latency, bandwidth = self._link(kind, reach)
        return latency + (np.zeros_like(nbytes) if bandwidth is None else transfer_ns(nbytes, bandwidth))

    def transfer_times(self, kind: Kind, sizes: Iterable[int], reach: Reach = Reach.HOST) -> list[int]:
        """Return what :meth:`transfer` does, of a few sizes that are no array."""
        latency, bandwidth = self._link(kind, reach)
        if bandwidth is None:
            return [latency for _ in sizes]
        return [latency + moving_ns(nbytes, bandwidth) for nbytes in sizes]

    @property
    def has_network(self) -> bool:
        """Return whether it is known what sends between hosts reach."""
        return self.gpu_network_bandwidth is not None or (
            self.shared is not None and self.shared.network_bandwidth is not None
        )

    def _link(self, kind: Kind, reach: Reach) -> tuple[int, int | None]:
        """Return latency and bandwidth of the link on which a kind moves bytes; None: it takes no time beyond that."""
        if kind == Kind.OFFLOAD:
            return self.d2h_latency_ns, self.d2h_bandwidth
        if kind == Kind.PREFETCH:
            return self.h2d_latency_ns, self.h2d_bandwidth
        return self.send_link(reach)

    def send_link(self, reach: Reach) -> tuple[int, int | None]:
        """Return latency and bandwidth of a send that is alone.

        Peers of which some send to another host are as slow as the slowest of them. A send between hosts, and one over
        PCIe, goes over its GPUs' links to their hosts too; where nothing is known of a network, it is as one inside.
        """
        latencies, limits = [], []
        if reach != Reach.NETWORK or self.network_latency_ns is None:
            latencies.append(self.p2p_latency_ns)
        if reach != Reach.HOST and self.network_latency_ns is not None:
            latencies.append(self.network_latency_ns)
        if reach != Reach.NETWORK or not self.has_network:
            links = [self.d2h_bandwidth, self.h2d_bandwidth] if self.p2p_link == "pcie" else []
            limits += [self.p2p_bandwidth, *links]
        if reach != Reach.HOST and self.has_network:
            of_host = None if self.shared is None else self.shared.network_bandwidth
            limits += [self.gpu_network_bandwidth, of_host, self.d2h_bandwidth, self.h2d_bandwidth]
        return max(latencies), min((limit for limit in limits if limit is not None), default=None)

    def table(self) -> Ints:
        """Return the :meth:`UnitCost.amounts` of every unit; shape (units, 2 * task kinds)."""
        distinct, of_unit = distinct_units(self.units)
        return np.asarray([unit.amounts() for unit in distinct], dtype=np.int64).take(of_unit, axis=0)

    def require_units(self, units: Sequence[int], what: str = "workload") -> None:
        """Raise InputError unless the costs describe as many units of each stage, of a workload or of a plan."""
        described = [len(stage) for stage in self.units]
        if described != list(units):
            raise InputError(
                f"costs.units describes {len(described)} stages with {described} units; the {what} has {len(units)} "
                f"with {list(units)}: use costs made for this {what}"
            )

    def optimizer(self, stage_rank: Ints, ranks: int) -> Ints:
        """Return how long each rank's OPTIMIZER_STEP takes, in ns, for all its stages; shape (ranks,)."""
        return self._per_rank("optimizer_ns", stage_rank, ranks)

    def optimizer_bytes(self, stage_rank: Ints, ranks: int) -> Ints:
        """Return the bytes in use only while each rank's OPTIMIZER_STEP runs; shape (ranks,).

        A rank's stages step one after the other, so that the largest counts.
        """
        return self._per_rank("optimizer_workspace", stage_rank, ranks, max)

    def launch_table(self) -> Ints:
        """Return the host time to issue an operation of each kind, in ns; shape (kinds,)."""
        if not self.launch_by_kind:
            return np.full(len(Kind), self.launch_ns, dtype=np.int64)
        own: dict[str, int] = {str(name): ns for name, ns in self.launch_by_kind.items()}
        return np.asarray([own.get(kind.name, self.launch_ns) for kind in Kind], dtype=np.int64)

    def launches(self, plan: Plan) -> Ints:
        """Return the host time to issue each operation, in ns; shape (operations,)."""
        out: Ints = self.launch_table()[plan.ops.kind]
        require_total(out, "launches", "ns")
        return out

    def workspace(self, plan: Plan) -> Ints:
        """Return the bytes in use only while each operation runs; shape (operations,)."""
        return self._per_task(plan, 1, self.optimizer_bytes(plan.stage_rank, plan.ranks))

    def static(self, stage_rank: Ints, ranks: int) -> Ints:
        """Return the bytes that stay on each rank's device throughout, its stages' together; shape (ranks,)."""
        return self._per_rank("static_bytes", stage_rank, ranks)

    def _per_rank(
        self, name: str, stage_rank: Ints, ranks: int, together: Callable[[int, int], int] = operator.add
    ) -> Ints:
        """Put the stages' entries on their ranks; ``stage_rank`` is the rank of each stage, -1 where none has it."""
        values: tuple[int, ...] = getattr(self, name)
        if len(values) not in (0, len(self.units)):
            raise InputError(
                f"costs.{name} has {len(values)} entries and costs.units describes {len(self.units)} stages; give one "
                "entry per stage"
            )
        out = [0] * ranks
        for value, rank in zip(values, stage_rank.tolist(), strict=False):
            if rank >= 0:
                out[rank] = together(out[rank], value)
        if max(out, default=0) > MOST_TOTAL:
            raise InputError(
                f"costs.{name} add up to {max(out)} on one rank; at most {MOST_TOTAL} can be "
                "simulated, use smaller figures"
            )
        return np.asarray(out, dtype=np.int64)

    def _per_task(self, plan: Plan, which: int, optimizer: Ints) -> Ints:
        """Look up ``UnitCost.by_kind()[kind][which]`` for every task, and ``optimizer`` for OPTIMIZER_STEP."""
        ops = plan.ops
        width = max(map(len, self.units), default=0)
        table = np.zeros((len(self.units), width, len(Kind)), dtype=np.int64)
        for s, stage in enumerate(self.units):
            for u, unit in enumerate(stage):
                for kind, pair in unit.by_kind().items():
                    table[s, u, kind] = pair[which]
        task = ops.kind < len(UNIT_KINDS)
        if task.any():
            # A stage without tasks, in a part of a plan, asks for nothing.
            described = [len(stage) for stage in self.units]
            same = [own or there for own, there in zip(plan.units, described, strict=False)]
            self.require_units([*same, *plan.units[len(same) :]], "plan")
        stage_of, unit_of = np.where(task, ops.stage, 0), np.where(task, ops.unit, 0)
        outside = (stage_of < 0) | (stage_of >= len(self.units)) | (unit_of < 0) | (unit_of >= width)
        if outside.any():  # a label that is no stage's or no unit's
            bad = int(np.flatnonzero(outside)[0])
            raise InputError(
                f"the plan's {plan.op(bad).name} names stage {int(ops.stage[bad])}, unit {int(ops.unit[bad])}, and "
                f"costs.units describes {len(self.units)} stages of at most {width} units: use costs made for this plan"
            )
        out: Ints = np.where(task, table[stage_of, unit_of, ops.kind], 0)
        step = ops.kind == Kind.OPTIMIZER_STEP
        out[step] = optimizer[ops.rank[step]]
        return out


def _is_link(name: object, value: object) -> bool:
    """Return whether a figure of a link, or of the memory, may have this name and value."""
    if name not in Costs.model_fields:
        return False
    if value is None:
        return name in ("p2p_bandwidth", "host_memory_bytes")
    return type(value) is int and value >= (0 if str(name).endswith("_ns") else 1)


def require_total(amounts: Ints | npt.NDArray[np.float64], what: str, unit: str, more: int = 0) -> None:
    """Raise InputError unless the sum of non-negative amounts stays well inside int64.

    The sum is taken in floats, which do not wrap. ``more`` is added to it.
    """
    total = float(amounts.sum(dtype=np.float64)) + more
    if total > MOST_TOTAL:
        raise InputError(
            f"the step's {what} add up to {total:.3g} {unit}; at most {MOST_TOTAL} can be simulated, use smaller "
            "figures or fewer microbatches"
        )


# So few sizes are worked through one by one: finding the distinct ones would take longer.
_FEW = 16


def moving_ns(nbytes: int, bandwidth: int) -> int:
    """Return the time of a transfer without latency, rounded up to whole ns, in Python's integers."""
    return -(-nbytes * NANOSECONDS_PER_SECOND // bandwidth)


def transfer_ns(nbytes: Ints, bandwidth: int) -> Ints:
    """Return the time of each transfer without latency, rounded up to whole ns; shape as ``nbytes``.

    ``nbytes * 1e9`` leaves int64 above 9 GB, so each distinct size goes through Python's integers. Raise InputError for
    a time that cannot be simulated.
    """
    sizes, back = (nbytes, slice(None)) if len(nbytes) < _FEW else np.unique(nbytes, return_inverse=True)
    exact = [moving_ns(n, bandwidth) for n in sizes.tolist()]
    if exact and max(exact) > MOST_TOTAL:
        raise InputError(
            f"a transfer of {max(sizes.tolist())} bytes at {bandwidth} bytes per second takes {max(exact):.3g} ns; at "
            f"most {MOST_TOTAL} can be simulated, use a faster link or smaller boundaries"
        )
    return np.asarray(exact, dtype=np.int64)[back]


def _keys(path: KeyPath) -> list[str]:
    """Return the keys that the object at a path of the file may have."""
    models: dict[int | str, type[BaseModel]] = {"units": UnitCost, "shared": SharedLinks, "placement": Placement}
    own = OtherWay if "other_way" in path[1:] else models[path[0]] if path else Costs
    return list(own.model_fields)


def load_costs(path: str | Path) -> Costs:
    """Read a ``costs.json``; raise InputError with one line when the file is malformed."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as a costs file ({getattr(error, 'strerror', None) or 'it is not text'}); give a "
            f'costs file, as a calibration writes it, or "{ESTIMATE}"'
        ) from error
    try:
        return Costs.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: {schema_error_line(error, 'a costs file', _keys)}") from error


def require_sound(costs: Costs) -> None:
    """Raise InputError where a value is not allowed, as in copies of costs whose changes nobody checked."""
    try:
        Costs.model_validate_json(costs.model_dump_json(exclude={"evidence"}, warnings=False))
    except ValidationError as error:
        raise InputError(f"the costs: {schema_error_line(error, 'costs', _keys)}") from error
    except ValueError as error:  # a value that JSON does not have
        raise InputError(f"the costs hold what a costs file cannot ({one_line(str(error), 120)})") from error


def save_costs(costs: Costs, path: str | Path) -> None:
    """Write the costs to a ``costs.json`` file."""
    Path(path).write_text(json.dumps(costs.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
