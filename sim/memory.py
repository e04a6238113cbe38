"""Memory follows from the plan alone: device memory changes only on the compute queue, so its peak needs no clock.

Walking a rank's compute queue in order, what an operation takes counts while it runs, and what it frees counts until
it has ended (DESIGN, section 2). :func:`samples` then lays those levels, or measured ones, on a timeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.sim.costs import Costs, require_total
from loadahead.sim.ir.kinds import Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.timeline import MemorySamples


@dataclass(frozen=True, slots=True)
class MemoryWalk:
    """Holds the device bytes at each compute operation (0 at other queues' rows), and the ranks' peaks.

    ``during``, ``after`` and ``boundary_during`` have shape (operations,); the peaks have shape (ranks,).
    ``peak_host`` is the size of the rank's planned host pool, all its slots together.
    """

    during: Ints
    after: Ints
    boundary_during: Ints
    peak_device: Ints
    peak_boundary: Ints
    peak_host: Ints


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


def _walk_rank(order: Ints, taken: Ints, freed: Ints, base: int) -> tuple[Ints, Ints]:
    """Return (bytes during, bytes after) along one compute queue; ``order`` holds its operations' positions."""
    after: Ints = base + np.cumsum(taken[order] - freed[order], dtype=np.int64)
    return after + freed[order], after


def _peaks(values: list[Ints], floor: Ints) -> Ints:
    tops = [max(int(v.max()), int(low)) if len(v) else int(low) for v, low in zip(values, floor, strict=True)]
    return np.asarray(tops, dtype=np.int64)


def walk_bytes(plan: Plan, workspace: Ints, static: Ints) -> MemoryWalk:
    """Return the walk with each operation's workspace, shape (operations,), and resident bytes, shape (ranks,).

    Raise InputError when sizes add up to more than can be simulated.
    """
    for amounts in (plan.buffers.nbytes, workspace, static):
        require_total(amounts, "sizes", "bytes")
    device, boundary = _device(plan), _device(plan, Role.BOUNDARY)
    taken, freed = row_sums(plan.ops.allocs, device), row_sums(plan.ops.frees, device)
    taken_boundary, freed_boundary = row_sums(plan.ops.allocs, boundary), row_sums(plan.ops.frees, boundary)
    during, after, boundary_during = (np.zeros(len(plan), dtype=np.int64) for _ in range(3))
    tops, boundary_tops = [], []
    for rank in range(plan.ranks):
        order = plan.queue_ops(rank, Queue.COMPUTE)
        during[order], after[order] = _walk_rank(order, taken, freed, int(static[rank]))
        during[order] += workspace[order]
        boundary_during[order], _ = _walk_rank(order, taken_boundary, freed_boundary, 0)
        tops.append(during[order])
        boundary_tops.append(boundary_during[order])
    host = np.zeros(plan.ranks, dtype=np.int64)
    slots = plan.buffers.space == Space.HOST
    np.add.at(host, plan.buffers.rank[slots], plan.buffers.nbytes[slots])
    return MemoryWalk(
        during, after, boundary_during, _peaks(tops, static), _peaks(boundary_tops, np.zeros_like(static)), host
    )


def walk(plan: Plan, costs: Costs) -> MemoryWalk:
    """Return the walk with the workspace and resident bytes of the costs."""
    return walk_bytes(plan, costs.workspace(plan), costs.static(plan.ranks))


def samples(plan: Plan, during: Ints, after: Ints, start_ns: Ints, end_ns: Ints) -> MemorySamples:
    """Return memory over time from each operation's bytes and times, all of shape (operations,)."""
    host = np.where(plan.buffers.space == Space.HOST, plan.buffers.nbytes, 0)
    taken, freed = row_sums(plan.ops.allocs, host), row_sums(plan.ops.frees, host)
    parts = [_rank_samples(plan, rank, (during, after), (taken, freed), start_ns, end_ns) for rank in range(plan.ranks)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0, np.int64)] * 4
    return MemorySamples(*columns)


def _rank_samples(
    plan: Plan, rank: int, device: tuple[Ints, Ints], host: tuple[Ints, Ints], start: Ints, end: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return (rank, t_ns, device, host) of one rank, ordered by time and, at one instant, by the queue's order."""
    order = plan.queue_ops(rank, Queue.COMPUTE)
    copies = np.flatnonzero((plan.ops.rank == rank) & ((host[0] > 0) | (host[1] > 0)))
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
