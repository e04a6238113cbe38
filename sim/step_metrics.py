"""The results of a step are typed here, and every metric has its name and its place in a table here and nowhere else.

:mod:`loadahead.sim.metrics` computes a :class:`StepMetrics` from a plan and a timeline, a sweep makes a
:class:`SweepRow` of each of its points, and everything else reads their attributes. To add a metric, add a field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from loadahead.sim.shown import Shown
from loadahead.sim.units import counted, format_bytes, format_duration

if TYPE_CHECKING:
    import pandas as pd

# A rank's compute queue waits for one of these. Each has a field of RankMetrics, StepMetrics and SweepRow,
# whose name :func:`stall_field` gives.
STALLS = ("release", "prefetch", "send", "recv")


# Results from before a metric was kept are read with this in its place. Their ``stall_release_ns`` holds the waits for
# sends as well.
IF_MISSING: dict[str, Any] = {
    "stall_send_ns": 0,
    "peak_parts": None,
    "capacity_bytes": None,
    "host_capacity_bytes": None,
    "gpus": None,
}
# They are read with another column in this one's place. Earlier tables hold the host memory of the largest rank alone.
SAME_AS = {"host_bytes": "peak_host_bytes"}
# A timeline's header has the capacities under these names.
CAPACITY, HOST_CAPACITY = "capacity_bytes", "host_capacity_bytes"


# The axis that says what decides which boundaries leave, its value where tuning does, and the axes of horizons.
DECISIONS, TUNED = "decisions", "auto"
OF_HORIZONS = ("horizon", "horizon_unit", "release_window")


def overlap_share(copying: float, hidden: float) -> float:
    """Return the overlap of copies that run so long, so much of it while compute runs as well; 0.0 without copies."""
    return hidden / copying if copying else 0.0


def step_time(first_start: int, last_end: int) -> int:
    """Return how long a step takes, from the start of its first operation to the end of its last."""
    return last_end - first_start


def stall_field(stall: str) -> str:
    """Return the name of the field that holds a stall's ns."""
    return f"stall_{stall}_ns"


def _values(of: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values of these names, and of :data:`IF_MISSING` or :data:`SAME_AS` where one is not there."""
    return {name: _value(of, name) for name in names}


def _value(of: Mapping[str, Any], name: str) -> Any:
    if name not in of and name in IF_MISSING:
        return IF_MISSING[name]
    return of[SAME_AS[name] if name not in of and name in SAME_AS else name]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakParts:
    """Says what a rank's peak of device memory is made of, in bytes; the parts add up to it.

    Attributes:
        weights_and_optimizer_bytes: weights, their gradients and the optimizer's state, and what its step takes.
        inside_units_bytes: activations inside units and what operations need while they run.
        boundaries_bytes: units' inputs.
        transport_bytes: outputs on their way to another rank, and gradients on their way to the unit below.
    """

    weights_and_optimizer_bytes: int
    inside_units_bytes: int
    boundaries_bytes: int
    transport_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMetrics:
    """Holds one rank's metrics under the keys of the command line's JSON (DESIGN, section 4), in ns and bytes.

    ``compute_ns`` is the time from start to end of all tasks, also where one waits inside for the host to issue its
    later kernels; ``idle_ns`` is the rest of the step's time, stalls included. ``overlap`` is the time in which a copy
    and compute run at once over the time in which any copy runs; 0.0 without copies. ``stall_release_ns`` is the wait
    for OFFLOADs alone, ``stall_send_ns`` that for SENDs. ``peak_parts`` is what the peak of device memory is made of;
    None in results from before it was kept.
    """

    rank: int
    peak_device_bytes: int
    peak_boundary_bytes: int
    peak_host_bytes: int
    compute_ns: int
    idle_ns: int
    stall_release_ns: int
    stall_prefetch_ns: int
    stall_send_ns: int
    stall_recv_ns: int
    copy_ns: int
    overlap: float
    peak_parts: PeakParts | None = None

    @property
    def stalls_ns(self) -> dict[str, int]:
        """Return the rank's stalls in ns, by the names of :data:`STALLS`."""
        return {stall: getattr(self, stall_field(stall)) for stall in STALLS}

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> Self:
        """Return the metrics of plain data; other keys are left out. KeyError as in :class:`StepMetrics`."""
        values = _values(columns, [field.name for field in fields(cls)])
        parts = values.pop("peak_parts")
        return cls(peak_parts=None if parts is None else PeakParts(**parts), **values)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StepMetrics(Shown):
    """Holds the step's time in ns, every rank's metrics, and how many boundaries leave the GPU and how many stay.

    ``host_bytes`` is the host memory that the slots of all GPUs of one host take together, of the fullest host.
    """

    step_time_ns: int
    ranks: tuple[RankMetrics, ...]
    offloaded: int
    kept: int
    host_bytes: int

    def _in_a_line(self) -> str:
        """Return the step's time, and the peak of the rank that has most."""
        begin = f" of {counted(len(self.ranks), 'rank')}: step {format_duration(self.step_time_ns)}"
        return f"{begin}, peak device memory {format_bytes(self.peak_device_bytes)}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per rank.

        Columns are the fields of :class:`RankMetrics`: ``rank``, peaks in bytes, times and stalls in ns, ``overlap`` as
        a fraction; then those of :class:`PeakParts`, in bytes, which are missing in results from before they were kept.
        """
        import pandas as pd

        parts = [field.name for field in fields(PeakParts)]
        rows = []
        for rank in self.ranks:
            own = {field.name: getattr(rank, field.name) for field in fields(rank) if field.name != "peak_parts"}
            rows.append(
                own | {name: None if rank.peak_parts is None else getattr(rank.peak_parts, name) for name in parts}
            )
        return pd.DataFrame(rows).astype(dict.fromkeys(parts, "Int64")) if rows else pd.DataFrame()

    @property
    def peak_device_bytes(self) -> int:
        """Return the peak of device memory, in bytes, of the rank that has most."""
        return max((rank.peak_device_bytes for rank in self.ranks), default=0)

    @property
    def peak_boundary_bytes(self) -> int:
        """Return the peak of the boundaries on the device, in bytes, of the rank that has most."""
        return max((rank.peak_boundary_bytes for rank in self.ranks), default=0)

    @property
    def peak_host_bytes(self) -> int:
        """Return the peak of host memory, in bytes, of the rank that has most."""
        return max((rank.peak_host_bytes for rank in self.ranks), default=0)

    @property
    def stalls_ns(self) -> dict[str, int]:
        """Return each stall in ns, of the rank that has most of it, by the names of :data:`STALLS`."""
        return {stall: max((rank.stalls_ns[stall] for rank in self.ranks), default=0) for stall in STALLS}

    @property
    def copy_ns(self) -> int:
        """Return the time in ns in which a copy runs, summed over the ranks."""
        return sum(rank.copy_ns for rank in self.ranks)

    @property
    def overlap(self) -> float:
        """Return the overlap of all ranks' copies together; 0.0 without copies."""
        return overlap_share(self.copy_ns, sum(rank.overlap * rank.copy_ns for rank in self.ranks))

    @classmethod
    def from_dict(cls, summary: Mapping[str, Any]) -> Self:
        """Return the metrics that :meth:`to_dict` made a dictionary of; other keys are left out.

        KeyError where one is missing that has no entry in :data:`IF_MISSING`.
        """
        ranks = tuple(RankMetrics.from_dict(rank) for rank in summary["ranks"])
        # Results from before hosts were known are of one, on which each GPU is a rank.
        known = {"host_bytes": sum(rank.peak_host_bytes for rank in ranks), **summary}
        own = {field.name: known[field.name] for field in fields(cls) if field.name != "ranks"}
        return cls(ranks=ranks, **own)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain data."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return own | {"ranks": [asdict(rank) for rank in self.ranks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Says what a step has to fit into, in bytes, and how many GPUs it takes; None: it is not known.

    Attributes:
        capacity_bytes: memory of one rank's device.
        host_capacity_bytes: memory of one host, which all its GPUs share.
        gpus: of one replica: ranks, each as many times as tensor parallelism divides its work.
        replicas: of the model, which have as many GPUs each.
    """

    capacity_bytes: int | None = None
    host_capacity_bytes: int | None = None
    gpus: int | None = None
    replicas: int | None = None


NOT_KNOWN = Room()


def bytes_missing(needed: int, capacity: int | None) -> int:
    """Return how many bytes more are needed than there are; 0 where they suffice or the capacity is not known."""
    return 0 if capacity is None else max(0, needed - capacity)


# Two rows are equal where they are equal as mappings, as a row and a dictionary of its columns are.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepRow(Mapping[str, Any]):
    """Holds one point of a sweep: the axes' values by column, then the step's metrics, in ns and bytes.

    Peaks and stalls are those of the rank that has most of each; ``overlap`` is that of all ranks' copies together, and
    ``host_bytes`` the host memory of the slots of all GPUs of the fullest host together. The next four are the point's
    :class:`Room`. ``tokens_per_s`` counts those of all replicas, and ``mfu`` is the share of the GPUs' peak that the
    model's own FLOPs take (:class:`loadahead.sim.work.Work`); None where it is not known. The row is also a mapping
    from each column of the sweep's table to its value.
    """

    axes: Mapping[str, Any]
    step_time_ns: int
    peak_device_bytes: int
    peak_boundary_bytes: int
    peak_host_bytes: int
    stall_release_ns: int
    stall_prefetch_ns: int
    stall_send_ns: int
    stall_recv_ns: int
    overlap: float
    offloaded: int
    kept: int
    host_bytes: int
    capacity_bytes: int | None = None
    host_capacity_bytes: int | None = None
    gpus: int | None = None
    replicas: int | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None

    @classmethod
    def of(cls, axes: Mapping[str, Any], metrics: StepMetrics, room: Room = NOT_KNOWN) -> Self:
        """Return the row of a point whose step has these metrics, and this room."""
        return cls(
            axes=axes,
            step_time_ns=metrics.step_time_ns,
            peak_device_bytes=metrics.peak_device_bytes,
            peak_boundary_bytes=metrics.peak_boundary_bytes,
            peak_host_bytes=metrics.peak_host_bytes,
            **{stall_field(stall): ns for stall, ns in metrics.stalls_ns.items()},
            overlap=metrics.overlap,
            offloaded=metrics.offloaded,
            kept=metrics.kept,
            host_bytes=metrics.host_bytes,
            **asdict(room),
        )

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> Self:
        """Return the row of a table's columns; those that are no metric are axes.

        KeyError where a metric is missing that has no entry in :data:`IF_MISSING` or :data:`SAME_AS`.
        """
        metrics = _values(columns, METRIC_COLUMNS) | {name: columns.get(name) for name in LATER_COLUMNS}
        return cls(axes={name: value for name, value in columns.items() if name not in _COLUMNS}, **metrics)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data, by column."""
        return {**self.axes, **{name: getattr(self, name) for name in COLUMNS}}

    @property
    def fits(self) -> bool:
        """Return whether the plan fits the device and the host, as far as their capacities are known."""
        return not (self.missing_device_bytes or self.missing_host_bytes)

    @property
    def missing_device_bytes(self) -> int:
        """Return how many bytes the rank that needs most needs beyond what its device has; 0 where it fits."""
        return bytes_missing(self.peak_device_bytes, self.capacity_bytes)

    @property
    def missing_host_bytes(self) -> int:
        """Return how many bytes the slots of the fullest host need beyond what it has; 0 where they fit."""
        return bytes_missing(self.host_bytes, self.host_capacity_bytes)

    @property
    def all_gpus(self) -> int | None:
        """Return how many GPUs all replicas have together; None where it is not known, as in tables of before."""
        return None if self.gpus is None or self.replicas is None else self.gpus * self.replicas

    @property
    def horizon(self) -> int:
        """Return the point's ``activation_loading_horizon``."""
        return int(self.axes["horizon"])

    @property
    def is_tuned(self) -> bool:
        """Return whether tuning decided for the point, so that its horizon, unit and window are nothing to it."""
        return self.axes.get(DECISIONS) == TUNED

    @property
    def microbatches(self) -> int:
        """Return the point's number of microbatches."""
        return int(self.axes["microbatches"])

    @property
    def stalls_ns(self) -> dict[str, int]:
        """Return the row's stalls in ns, by the names of :data:`STALLS`."""
        return {stall: getattr(self, stall_field(stall)) for stall in STALLS}

    def __getitem__(self, column: str) -> Any:
        return getattr(self, column) if column in _COLUMNS else self.axes[column]

    def __iter__(self) -> Iterator[str]:
        yield from self.axes
        yield from COLUMNS

    def __len__(self) -> int:
        return len(self.axes) + len(COLUMNS)


# A row is made of these; what follows from them is a column too.
SPEED_COLUMNS = ("tokens_per_s", "mfu")
LATER_COLUMNS = ("replicas", *SPEED_COLUMNS)
METRIC_COLUMNS = tuple(field.name for field in fields(SweepRow) if field.name not in ("axes", *LATER_COLUMNS))
FITS = "fits"
# A sweep's table has these columns behind its axes, in this order; every other column is an axis. Tables of before lack
# the last ones.
COLUMNS = (*METRIC_COLUMNS, FITS, *LATER_COLUMNS)
_COLUMNS = frozenset(COLUMNS)
# None stands in these where something is not known.
ROOM_COLUMNS = tuple(field.name for field in fields(Room))

# JSON that holds some of the metrics alone has them under these names.
STEP_TIME, PEAK_DEVICE, PEAK_BOUNDARY, PEAK_HOST = METRIC_COLUMNS[:4]
