"""Writes a plan's allocations as a snapshot of PyTorch's memory viewer, one device for each rank.

What is taken and freed, and in which order, is the plan's: what an operation takes counts from its start, what it frees
until its end, on the compute queue alone. Weights, gradients and the optimizer's state are taken first and stay. The
snapshot is what ``torch.cuda.memory._dump_snapshot`` writes; its addresses are made up, since a plan has none.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadahead.reports.exports.names import operation_name, place_name
from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import Queue, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.timeline import Timeline

Frame = dict[str, Any]
Event = dict[str, Any]
# Devices have different addresses, as GPUs do: each begins at the next multiple of the second number.
_BASE, _APART = 1 << 40, 1 << 21
# The viewer's own reader knows pickles up to this version (torch/utils/viz/MemoryViz.js, unpickle).
_PROTOCOL = 4
_RESIDENT = "weights, gradients, optimizer state"


@dataclass(frozen=True, slots=True)
class _Taken:
    """Holds memory that is taken."""

    address: int
    nbytes: int
    frames: list[Frame]


class _Device:
    """Holds one rank's memory: what has been taken of it, and what happened in which order."""

    def __init__(self, base: int) -> None:
        self.base = self.end = base
        self.events: list[Event] = []
        self._free: dict[int, list[int]] = defaultdict(list)

    def take(self, nbytes: int, frames: list[Frame], time_us: int) -> _Taken:
        """Take memory at an address that is free: one of the same size that was freed, or else a new one."""
        free = self._free[nbytes]
        if free:
            address = free.pop()
        else:
            address, self.end = self.end, self.end + nbytes
        taken = _Taken(address, nbytes, frames)
        self._note("alloc", taken, time_us)
        return taken

    def free(self, taken: _Taken, time_us: int) -> None:
        """Give memory back."""
        self._note("free_requested", taken, time_us)
        self._note("free_completed", taken, time_us)
        self._free[taken.nbytes].append(taken.address)

    def _note(self, action: str, taken: _Taken, time_us: int) -> None:
        self.events.append(
            {
                "action": action,
                "addr": taken.address,
                "size": taken.nbytes,
                "stream": 0,
                "time_us": time_us,
                "compile_context": "N/A",
                "user_metadata": "",
                "frames": taken.frames,
            }
        )


def write_memory_viz(plan: Plan, costs: Costs, timeline: Timeline, path: Path) -> int:
    """Write the snapshot and return how many allocations it has; the timeline says when, the plan and costs what."""
    static, workspace = costs.static(plan.stage_rank, plan.ranks).tolist(), costs.workspace(plan).tolist()
    devices: list[_Device] = []
    kept: list[dict[int, _Taken]] = []
    for rank in range(plan.ranks):
        device = _Device(-(-devices[-1].end // _APART) * _APART if devices else _BASE)
        live: dict[int, _Taken] = {}
        if static[rank]:
            live[-1] = device.take(static[rank], [_frame("resident", rank, _RESIDENT)], 0)
        _replay(plan, timeline, workspace, rank, device, live)
        devices.append(device)
        kept.append(live)
    segments = [
        _segment(rank, device, list(live.values()))
        for rank, (device, live) in enumerate(zip(devices, kept, strict=True))
        if device.end > device.base
    ]
    snapshot = {
        "segments": segments,
        "device_traces": [device.events for device in devices],
        "allocator_settings": {},
        "external_annotations": [],
    }
    with path.open("wb") as file:
        pickle.dump(snapshot, file, protocol=_PROTOCOL)
    return sum(event["action"] == "alloc" for device in devices for event in device.events)


def _replay(
    plan: Plan, timeline: Timeline, workspace: list[int], rank: int, device: _Device, live: dict[int, _Taken]
) -> None:
    """Take and free what the operations of a rank's compute queue do, in their order."""
    ops, buffers = plan.ops, plan.buffers
    # As with PyTorch's allocator, what has no bytes is not taken.
    sizes = np.where(buffers.space == Space.DEVICE, buffers.nbytes, 0).tolist()
    for row in plan.queue_ops(rank, Queue.COMPUTE).tolist():
        start, end = int(timeline.start_ns[row]) // 1000, int(timeline.end_ns[row]) // 1000
        key = (int(column[row]) for column in (ops.kind, ops.stage, ops.unit, ops.microbatch))
        operation = operation_name(*key)
        for at in ops.allocs[row].tolist():
            if sizes[at]:
                live[at] = device.take(sizes[at], _frames(plan, at, row, operation), start)
        if workspace[row]:
            frames = [_frame("inside", plan.op_id(row), f"inside {operation}")]
            device.free(device.take(workspace[row], frames, start), end)
        for at in ops.frees[row].tolist():
            if sizes[at]:
                device.free(live.pop(at), end)


def _frames(plan: Plan, at: int, row: int, operation: str) -> list[Frame]:
    """Return what a buffer is and what took it, innermost first; a line is an id of the plan's file."""
    buffers = plan.buffers
    role = Role(int(buffers.role[at])).label
    place = place_name(int(buffers.stage[at]), int(buffers.unit[at]), int(buffers.microbatch[at]))
    return [_frame(role, plan.buffer_id(at), f"{role} {place}"), _frame("operation", plan.op_id(row), operation)]


def _frame(filename: str, line: int, name: str) -> Frame:
    return {"filename": filename, "line": line, "name": name}


def _segment(rank: int, device: _Device, kept: list[_Taken]) -> dict[str, Any]:
    """Return the stretch of a device's addresses, with what is taken of it at the end."""
    blocks, address = [], device.base
    for taken in sorted(kept, key=lambda one: one.address):
        blocks += _gap(address, taken.address)
        blocks.append(_block(taken.address, taken.nbytes, "active_allocated", taken.frames))
        address = taken.address + taken.nbytes
    blocks += _gap(address, device.end)
    used = sum(taken.nbytes for taken in kept)
    return {
        "device": rank,
        "address": device.base,
        "total_size": device.end - device.base,
        "allocated_size": used,
        "active_size": used,
        "requested_size": used,
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": blocks,
    }


def _gap(start: int, end: int) -> list[dict[str, Any]]:
    return [_block(start, end - start, "inactive", [])] if end > start else []


def _block(address: int, nbytes: int, state: str, frames: list[Frame]) -> dict[str, Any]:
    return {"address": address, "size": nbytes, "requested_size": nbytes, "state": state, "frames": frames}
