"""What a step holds in memory is said here, once. It needs no clock: only compute queues change device memory.

Walking a rank's compute queue in order, what an operation takes counts while it runs, and what it frees counts until
it has ended (DESIGN, section 2). :func:`samples` then lays those levels, or measured ones, on a timeline.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.costs import Costs, require_total
from loadahead.sim.ir.kinds import Kind, Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.timeline import MemorySamples


@dataclass(frozen=True, slots=True)
class MemoryWalk:
    """Holds the device bytes at each compute operation (0 at other queues' rows), and the ranks' peaks.

    ``during``, ``after`` and ``boundary_during`` have shape (operations,); the peaks and ``static``, what is resident
    throughout, have shape (ranks,). ``peak_host`` is the size of the rank's planned host pool, all its slots together.
    """

    during: Ints
    after: Ints
    boundary_during: Ints
    peak_device: Ints
    peak_boundary: Ints
    peak_host: Ints
    static: Ints

    def joined(self, other: MemoryWalk) -> MemoryWalk:
        """Return the larger of both at every operation, of two walks of one plan."""
        return MemoryWalk(*(np.maximum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


def row_sums(column: Ragged, value: Ints) -> Ints:
    """Return the sum of ``value[entry]`` over each row of a ragged column; shape (rows,)."""
    running = np.concatenate([[0], np.cumsum(value[column.values], dtype=np.int64)])
    out: Ints = running[column.starts[1:]] - running[column.starts[:-1]]
    return out


def _device(plan: Plan, role: Role | None = None) -> Ints:
    buffers = plan.buffers
    keep = buffers.space == Space.DEVICE
    if role is not None:
        keep &= buffers.role == role
    return np.where(keep, buffers.nbytes, 0)


@inlined
def level_during(level, taken, workspace):  # type: ignore[no-untyped-def]
    """Return the bytes held while an operation runs that finds ``level`` and takes ``taken``."""
    return level + taken + workspace


@inlined
def level_after(level, taken, freed):  # type: ignore[no-untyped-def]
    """Return the bytes held once that operation has ended."""
    return level + taken - freed


@compiled
def _walk(rank, on_compute, taken, freed, workspace, level, peak, during, after):  # type: ignore[no-untyped-def]
    """Fill the levels at each operation of a compute queue; each rank's ``level`` and ``peak`` are changed."""
    for i in range(len(rank)):
        if on_compute[i]:
            r = rank[i]
            during[i] = level_during(level[r], taken[i], workspace[i])
            after[i] = level[r] = level_after(level[r], taken[i], freed[i])
            peak[r] = max(peak[r], during[i])


def walk_bytes(plan: Plan, workspace: Ints, static: Ints) -> MemoryWalk:
    """Return the walk with each operation's workspace, shape (operations,), and resident bytes, shape (ranks,).

    Raise InputError when sizes add up to more than can be simulated.
    """
    for amounts in (plan.buffers.nbytes, workspace, static):
        require_total(amounts, "sizes", "bytes")
    during, after, peak = _levels(plan, _device(plan), workspace, static)
    nothing = np.zeros(len(plan), dtype=np.int64)
    boundary_during, _, boundary_peak = _levels(plan, _device(plan, Role.BOUNDARY), nothing, np.zeros_like(static))
    host = np.zeros(plan.ranks, dtype=np.int64)
    slots = plan.buffers.space == Space.HOST
    np.add.at(host, plan.buffers.rank[slots], plan.buffers.nbytes[slots])
    return MemoryWalk(during, after, boundary_during, peak, boundary_peak, host, static.astype(np.int64))


def peak_operations(plan: Plan, memory: MemoryWalk) -> Ints:
    """Return the first operation of each rank that holds its peak, or -1 where none holds more than is resident.

    The result has shape (ranks,).
    """
    out = np.full(plan.ranks, -1, dtype=np.int64)
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        if len(own):
            first = own[int(np.argmax(memory.during[own]))]
            out[rank] = first if memory.during[first] > memory.static[rank] else -1
    return out


def transport_during(plan: Plan) -> Ints:
    """Return the bytes of outputs and gradients on their way that each compute operation holds; shape (operations,)."""
    return _transport(plan)[0]


def _transport(plan: Plan) -> tuple[Ints, Ints]:
    nbytes = _device(plan, Role.OUTPUT) + _device(plan, Role.GRADIENT)
    return _levels(plan, nbytes, np.zeros(len(plan), dtype=np.int64), np.zeros(plan.ranks, dtype=np.int64))[:2]


@dataclass(frozen=True, slots=True)
class RoleLevels:
    """Holds what is in one rank's device memory from each of some times on; arrays have shape (times,).

    The four add up to all it holds, and are :class:`PeakParts`' at its peak.
    """

    t_ns: Ints
    weights_and_optimizer: Ints
    inside_units: Ints
    boundaries: Ints
    transport: Ints

    @property
    def total(self) -> Ints:
        """Return all that the device holds."""
        return self.weights_and_optimizer + self.inside_units + self.boundaries + self.transport


def role_levels(
    plan: Plan, rank: int, resident: int, start_ns: Ints, end_ns: Ints, measured: MemorySamples
) -> RoleLevels:
    """Return one rank's device memory over time by what it holds.

    Boundaries and transport follow from the plan and the times of its operations, both of shape (operations,); what
    ``measured`` has beyond them and ``resident`` is inside the operation that runs. Of changes at one instant the last
    counts, as none before it lasts.
    """
    order = plan.queue_ops(rank, Queue.COMPUTE)
    nothing, floor = np.zeros(len(plan), dtype=np.int64), np.zeros(plan.ranks, dtype=np.int64)
    boundary = _levels(plan, _device(plan, Role.BOUNDARY), nothing, floor)[:2]
    events = np.maximum.accumulate(np.stack([start_ns[order], end_ns[order]], axis=1).ravel())
    mine = measured.rank == rank
    sampled = measured.t_ns[mine]
    t = np.unique(np.concatenate([sampled, events]))
    # Before its first operation a queue holds what that operation starts from (see _rank_samples).
    first = 1 if len(order) else 0
    at = np.searchsorted(events, t, side="right") - 1
    at = np.where(at >= 0, at, first)
    by_event = [
        np.stack([during[order], after[order]], axis=1).ravel() for during, after in (boundary, _transport(plan))
    ]
    boundaries, transport = (level[at] if len(order) else np.zeros(len(t), dtype=np.int64) for level in by_event)
    held = measured.device_bytes[mine][np.maximum(np.searchsorted(sampled, t, side="right") - 1, 0)]
    inside = held - resident - boundaries - transport
    steps = np.stack([plan.ops.kind[order] == Kind.OPTIMIZER_STEP, np.zeros(len(order), dtype=bool)], axis=1).ravel()
    optimizer = steps[at] if len(order) else np.zeros(len(t), dtype=bool)
    levels = RoleLevels(
        t, resident + np.where(optimizer, inside, 0), np.where(optimizer, 0, inside), boundaries, transport
    )
    columns = np.stack([getattr(levels, field.name) for field in fields(levels)[1:]])
    keep = np.ones(len(t), dtype=bool)
    keep[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
    return RoleLevels(*(getattr(levels, field.name)[keep] for field in fields(levels)))


def _levels(plan: Plan, nbytes: Ints, workspace: Ints, floor: Ints) -> tuple[Ints, Ints, Ints]:
    """Return (bytes during, bytes after) each operation, 0 off the compute queues, and each rank's peak."""
    ops, peak = plan.ops, floor.astype(np.int64)
    during, after = np.zeros(len(plan), dtype=np.int64), np.zeros(len(plan), dtype=np.int64)
    taken, freed = row_sums(ops.allocs, nbytes), row_sums(ops.frees, nbytes)
    _walk(ops.rank, ops.queue == Queue.COMPUTE, taken, freed, workspace, peak.copy(), peak, during, after)
    return during, after, peak


def walk(plan: Plan, costs: Costs) -> MemoryWalk:
    """Return the walk with the workspace and resident bytes of the costs."""
    return walk_bytes(plan, costs.workspace(plan), costs.static(plan.stage_rank, plan.ranks))


def samples(plan: Plan, during: Ints, after: Ints, start_ns: Ints, end_ns: Ints) -> MemorySamples:
    """Return memory over time from each operation's bytes and times, all of shape (operations,)."""
    host = np.where(plan.buffers.space == Space.HOST, plan.buffers.nbytes, 0)
    taken, freed = row_sums(plan.ops.allocs, host), row_sums(plan.ops.frees, host)
    copies = np.flatnonzero((taken > 0) | (freed > 0))
    copies = copies[np.argsort(plan.ops.rank[copies], kind="stable")]
    of_rank = np.split(copies, np.searchsorted(plan.ops.rank[copies], np.arange(1, plan.ranks)))
    bytes_of = ((during, after), (taken, freed))
    parts = [_rank_samples(plan, rank, own, *bytes_of, start_ns, end_ns) for rank, own in enumerate(of_rank)]
    return MemorySamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rank_samples(
    plan: Plan, rank: int, copies: Ints, device: tuple[Ints, Ints], host: tuple[Ints, Ints], start: Ints, end: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return (rank, t_ns, device, host) of one rank, ordered by time and, at one instant, by the queue's order.

    ``copies`` holds the positions of the rank's operations that take or free host memory, in list order.
    """
    order = plan.queue_ops(rank, Queue.COMPUTE)
    # A compute operation makes two events (bytes while it runs, bytes after it), and so does a change of host memory.
    times = [np.stack([start[order], end[order]], axis=1).ravel(), start[copies], end[copies]]
    levels = np.stack([device[0][order], device[1][order]], axis=1).ravel()
    at = np.argsort(np.concatenate(times), kind="stable")
    t = np.concatenate(times)[at]
    is_device = at < len(levels)
    host_change = np.concatenate([np.zeros(len(levels), dtype=np.int64), host[0][copies], -host[1][copies]])[at]
    last = np.maximum.accumulate(np.where(is_device, np.arange(len(at)), -1))
    level = np.concatenate([levels, np.zeros(2 * len(copies), dtype=np.int64)])[at]
    # Before the first compute operation starts, memory holds what that operation starts from.
    first = int(device[1][order[0]]) if len(order) else 0
    device_bytes = np.where(last >= 0, level[np.maximum(last, 0)], first)
    host_bytes = np.cumsum(host_change)
    keep = np.ones(len(t), dtype=bool)
    keep[1:] = (device_bytes[1:] != device_bytes[:-1]) | (host_bytes[1:] != host_bytes[:-1])
    return np.full(int(keep.sum()), rank, dtype=np.int64), t[keep], device_bytes[keep], host_bytes[keep]
