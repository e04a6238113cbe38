"""Snapshots for PyTorch's memory viewer hold a plan's allocations, and PyTorch's own functions read them."""

from __future__ import annotations

import base64
import json
import pickle
import pickletools
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch.cuda._memory_viz as viewer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.exports.memory_viz import write_memory_viz
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.plan import Plan
from tests.support.plans import costs_for, plans, uniform_costs, uniform_plan

# What the viewer's reader of pickles knows: torch/utils/viz/MemoryViz.js, unpickle().
KNOWN_TO_THE_VIEWER = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "NONE"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "LIST", "DICT", "TUPLE"),
    *("TUPLE1", "TUPLE2", "TUPLE3", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE"),
}


def snapshot_of(plan: Plan, costs: Costs, path: Path) -> dict[str, Any]:
    write_memory_viz(plan, costs, simulate(plan, costs), path)
    found: dict[str, Any] = pickle.loads(path.read_bytes())
    return found


def peaks(snapshot: dict[str, Any]) -> list[int]:
    """The largest running sum of each device.

    What is taken must be free and lie in the device's segment, and what is freed must have been taken.
    """
    found = []
    stretches = {one["device"]: (one["address"], one["address"] + one["total_size"]) for one in snapshot["segments"]}
    for device, events in enumerate(snapshot["device_traces"]):
        live: dict[int, int] = {}
        total = peak = 0
        for event in events:
            if event["action"] == "alloc":
                start, end = event["addr"], event["addr"] + event["size"]
                assert event["size"] > 0 and all(end <= at or at + size <= start for at, size in live.items())
                assert stretches[device][0] <= start and end <= stretches[device][1]
                live[start] = event["size"]
                total += event["size"]
            elif event["action"] == "free_completed":
                total -= live.pop(event["addr"])
            else:
                assert event["action"] == "free_requested" and live[event["addr"]] == event["size"]
            peak = max(peak, total)
        found.append(peak)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_running_sum_peaks_as_the_plan_does(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    plan: Plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    snapshot = snapshot_of(plan, costs, tmp_path_factory.getbasetemp() / "random.pickle")
    metrics = simulate(plan, costs).metrics
    assert peaks(snapshot) == [rank.peak_device_bytes for rank in metrics.ranks]
    left: dict[int, int] = defaultdict(int)
    for segment in snapshot["segments"]:
        left[segment["device"]] = sum(b["size"] for b in segment["blocks"] if b["state"] == "active_allocated")
    assert [left[rank] for rank in range(plan.ranks)] == costs.static(plan.stage_rank, plan.ranks).tolist()
    assert "segments: " in viewer.segsum(snapshot)  # it checks that each segment's blocks add up


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    unit = uniform_costs(2, 2).units[0][0].model_copy(update={"workspace_backward": 3_000_000})
    costs = uniform_costs(2, 2, static_bytes=(40_000_000, 0)).model_copy(update={"units": ((unit,) * 2,) * 2})
    path = tmp_path_factory.mktemp("snapshot") / "plan.pickle"
    snapshot_of(uniform_plan(2, 2, 3, pipeline="1f1b"), costs, path)
    return path


def test_pytorch_draws_it(written: Path) -> None:
    snapshot = pickle.loads(written.read_bytes())
    page = viewer.trace_plot(snapshot)
    packed = json.loads(re.search(r"local_files = (\[.*\])", page)[1])  # type: ignore[index]
    assert pickle.loads(base64.b64decode(packed[0]["base64"])) == snapshot
    assert "Allocator State History" in viewer.segment_plot(snapshot)
    assert viewer.segments(snapshot, lambda lines: lines).startswith("stream_0;seg_")
    said = viewer.trace(snapshot)
    assert "Device 0 ----------------" in said and "Device 1 ----------------" in said
    assert viewer.filter_alloc_free_pairs(pickle.loads(written.read_bytes()))["device_traces"][1] == []


def test_frames_say_what_was_taken_by_what(written: Path) -> None:
    events = pickle.loads(written.read_bytes())["device_traces"][0]
    first = events[0]
    assert (first["size"], first["frames"][0]["name"]) == (40_000_000, "weights, gradients, optimizer state")
    names = {tuple(frame["name"] for frame in event["frames"]) for event in events if event["action"] == "alloc"}
    assert ("boundary s0.u1 m2", "FORWARD s0.u0 m2") in names
    assert ("inside BACKWARD s0.u0 m1",) in names
    assert [event["time_us"] for event in events] == sorted(event["time_us"] for event in events)


def test_the_viewers_reader_knows_every_opcode(written: Path) -> None:
    used = {opcode.name for opcode, _, _ in pickletools.genops(written.read_bytes())}
    assert used <= KNOWN_TO_THE_VIEWER


def test_it_is_written_without_torch() -> None:
    """Another process, as this one has torch."""
    code = "import sys, loadahead.exporting, loadahead.reports.exports.memory_viz; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
