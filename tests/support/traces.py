"""Traces read back from files, by other code than wrote them, and what must be in the trace of a plan's timeline."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import COPY_KINDS, RECV_KINDS, SEND_KINDS, TASK_KINDS, Kind, Queue, Role, Space
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.timeline import Timeline

QUEUES = {Queue.COMPUTE: "compute", Queue.D2H: "d2h", Queue.H2D: "h2d", Queue.SEND: "send", Queue.RECV: "recv"}
STALLS = {
    "stall: offload": "release",
    "stall: prefetch": "prefetch",
    "stall: send": "send",
    "stall: receive (bubble)": "recv",
}
READERS = (Kind.RECOMPUTE, Kind.BACKWARD, Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)


@dataclass(frozen=True, slots=True)
class Box:
    """A slice as a viewer shows it."""

    process: str
    track: str
    name: str
    category: str
    start_ns: int
    end_ns: int
    args: dict[str, Any]

    @property
    def op(self) -> int:
        return int(self.args["op"])


@dataclass(slots=True)
class Shown:
    """What a trace file shows: boxes in their order, arrows as boxes by number, counters by process and name."""

    tracks: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    arrows: dict[int, list[Box]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, process: str, track: str) -> list[Box]:
        return [box for box in self.boxes if (box.process, box.track) == (process, track)]

    def operations(self, side: str = "predicted") -> list[Box]:
        return [box for box in self.boxes if box.category != "stall" and box.process.startswith(side)]

    def stalls(self, side: str = "predicted") -> list[Box]:
        return [box for box in self.boxes if box.category == "stall" and box.process.startswith(side)]

    def sort_arrows(self, ends: dict[int, int]) -> None:
        """Viewers follow an arrow in the order of time, then of the file; it must end where the writer said so."""
        for number, boxes in self.arrows.items():
            boxes.sort(key=lambda box: box.start_ns)
            assert boxes[-1].op == ends[number], f"arrow {number} does not end at {ends[number]}"


def read_perfetto(path: Path) -> Shown:
    """Read a trace by the package's own protos: sorted by time as the trace processor does, names looked up."""
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    names: dict[str, dict[int, str]] = {"event_categories": {}, "debug_annotation_names": {}}
    processes: dict[int, str] = {}
    tracks: dict[int, tuple[str, str]] = {}
    shown, ends = Shown(), dict[int, int]()
    events: list[tuple[int, Any, dict[str, Any], str]] = []
    assert trace.packet[0].sequence_flags == 1
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        for kind, known in names.items():
            for entry in getattr(packet.interned_data, kind):
                assert entry.iid not in known
                known[entry.iid] = entry.name
        if packet.HasField("track_descriptor"):
            described = packet.track_descriptor
            assert described.uuid not in tracks and described.uuid not in processes
            if described.HasField("process"):
                processes[described.uuid] = described.process.process_name
            else:
                name = described.thread.thread_name if described.HasField("thread") else described.name
                tracks[described.uuid] = (processes[described.parent_uuid], name)
                if described.HasField("thread"):
                    assert described.thread.pid == described.parent_uuid
                    shown.tracks.append(tracks[described.uuid])
        elif packet.HasField("track_event"):
            event = packet.track_event
            args = {names["debug_annotation_names"][one.name_iid]: _value(one) for one in event.debug_annotations}
            category = names["event_categories"][event.category_iids[0]] if event.category_iids else ""
            assert not args or packet.sequence_flags == 2
            events.append((packet.timestamp, event, args, category))
    events.sort(key=lambda one: one[0])
    open_: dict[int, tuple[int, Any, dict[str, Any], str]] = {}
    of_box: list[tuple[Box, Any]] = []
    for at, event, args, category in events:
        if event.type == TrackEvent.TYPE_COUNTER:
            shown.counters[tracks[event.track_uuid]].append((at, event.counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_, "a slice lies inside another"
            open_[event.track_uuid] = (at, event, args, category)
        else:
            began, first, of_first, kind = open_.pop(event.track_uuid)
            box = Box(*tracks[event.track_uuid], first.name, kind, began, at, of_first)
            shown.boxes.append(box)
            of_box.append((box, first))
    assert not open_
    place = {id(event): number for number, (_, event, _, _) in enumerate(events)}
    for box, event in sorted(of_box, key=lambda one: place[id(one[1])]):
        for number in (*event.flow_ids, *event.terminating_flow_ids):
            shown.arrows[number].append(box)
        ends |= dict.fromkeys(event.terminating_flow_ids, box.op if event.terminating_flow_ids else 0)
    shown.sort_arrows(ends)
    return shown


def _value(annotation: Any) -> Any:
    return getattr(annotation, annotation.WhichOneof("value"))


def read_chrome(path: Path) -> Shown:
    """Read Chrome's JSON; its decimals are microseconds, and must be whole nanoseconds."""
    events = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)["traceEvents"]
    processes = {one["pid"]: one["args"]["name"] for one in events if one["name"] == "process_name"}
    threads = {one["tid"]: (one["pid"], one["args"]["name"]) for one in events if one["name"] == "thread_name"}
    shown, ends, last = Shown(), dict[int, int](), dict[int, Box]()
    shown.tracks = [(processes[pid], name) for pid, name in threads.values()]
    for one in events:
        if one["ph"] == "X":
            assert threads[one["tid"]][0] == one["pid"]
            start, length = _ns(one["ts"]), _ns(one["dur"])
            track = threads[one["tid"]][1]
            box = Box(processes[one["pid"]], track, one["name"], one["cat"], start, start + length, one["args"])
            shown.boxes.append(box)
            last[one["tid"]] = box
        elif one["ph"] == "C":
            ((_, value),) = one["args"].items()
            shown.counters[processes[one["pid"]], one["name"]].append((_ns(one["ts"]), value))
        elif one["ph"] in "stf":
            box = last[one["tid"]]
            assert box.start_ns == _ns(one["ts"])
            known = shown.arrows[one["id"]]
            assert (one["ph"] == "s") == (not known), "an arrow's start comes first and once"
            assert one["id"] not in ends
            known.append(box)
            if one["ph"] == "f":
                assert one["bp"] == "e"
                ends[one["id"]] = box.op
        else:
            assert one["ph"] == "M"
    shown.sort_arrows(ends)
    for values in shown.counters.values():
        values.sort(key=lambda sample: sample[0])
    return shown


def _ns(microseconds: Decimal) -> int:
    scaled = microseconds * 1000
    assert isinstance(microseconds, Decimal) and scaled == int(scaled)
    return int(scaled)


READ: dict[str, Callable[[Path], Shown]] = {"perfetto": read_perfetto, "chrome": read_chrome}


def name_of(op: OpView) -> str:
    """``FORWARD s0.u1 m3``."""
    return op.kind.name if op.microbatch < 0 else f"{op.kind.name} s{op.stage}.u{op.unit} m{op.microbatch}"


def waits_by_hand(plan: Plan, timeline: Timeline, costs: Costs) -> dict[int, tuple[int, int, int]]:
    """(since when, how long, for which operation) each operation waits that does, by the words of docs and design."""
    launch, ends = costs.launches(plan).tolist(), timeline.end_ns.tolist()
    host, last, out = [0] * plan.ranks, dict[tuple[int, Queue], int](), dict[int, tuple[int, int, int]]()
    for op in plan:
        begun = host[op.rank]
        host[op.rank] += launch[op.index]
        allowed = begun if op.kind in TASK_KINDS else host[op.rank]
        ready = max(allowed, last.get((op.rank, op.queue), 0))
        last[op.rank, op.queue] = ends[op.index]
        late = max((ends[edge] for edge in op.after), default=0)
        if late > ready:
            first = next(edge for edge in op.after if ends[edge] == late)
            out[op.index] = (ready, late - ready, first)
    return out


def require_slices(shown: Shown, plan: Plan, timeline: Timeline, costs: Costs) -> None:
    """Every operation is one box on its queue's track, with its times, bytes and wait; every stall is one."""
    waits, start, end = waits_by_hand(plan, timeline, costs), timeline.start_ns.tolist(), timeline.end_ns.tolist()
    views = list(plan)
    boxes = {box.op: box for box in shown.operations()}
    assert len(boxes) == len(shown.operations()) == len(plan)
    for op in views:
        args = {"op": op.index, "kind": op.kind.name, "stage": op.stage, "unit": op.unit, "microbatch": op.microbatch}
        args |= {"bytes": op.nbytes} if op.nbytes else {}
        if op.index in waits:
            _, wait, edge = waits[op.index]
            args |= {"waited_for": name_of(views[edge]), "waited_for_op": edge, "waited_ns": wait}
        process, track = f"predicted rank {op.rank}", QUEUES[op.queue]
        wanted = Box(process, track, name_of(op), _category(op.kind), start[op.index], end[op.index], args)
        assert boxes[op.index] == wanted
    causes = {Kind.OFFLOAD: "release", Kind.PREFETCH: "prefetch"}
    causes |= dict.fromkeys(SEND_KINDS, "send") | dict.fromkeys(RECV_KINDS, "recv")
    stalls = {
        op.index: (*waits[op.index], causes[views[waits[op.index][2]].kind])
        for op in views
        if op.index in waits and op.queue == Queue.COMPUTE and views[waits[op.index][2]].kind in causes
    }
    found = {
        box.op: (box.start_ns, box.end_ns - box.start_ns, box.args["waited_for_op"], STALLS[box.name])
        for box in shown.stalls()
    }
    assert found == stalls and len(shown.stalls()) == len(stalls)
    for rank in timeline.metrics.ranks:
        own = shown.of(f"predicted rank {rank.rank}", "stalls")
        for name, stall in STALLS.items():
            assert rank.stalls_ns[stall] == sum(box.end_ns - box.start_ns for box in own if box.name == name)


def _category(kind: Kind) -> str:
    if kind in TASK_KINDS:
        return "compute"
    return "copy" if kind in COPY_KINDS else "memory" if kind in (Kind.RELEASE, Kind.ACQUIRE) else "transfer"


def arrows_by_hand(plan: Plan, timeline: Timeline, costs: Costs) -> list[tuple[int, ...]]:
    """The operations of each arrow, by the plan's edges and buffers alone."""
    views = list(plan)
    reading: dict[int, list[OpView]] = defaultdict(list)
    for op in views:
        for buffer in op.reads:
            reading[buffer].append(op)
    chains = [(op.index, *_way_back(plan, reading, op)) for op in views if op.kind == Kind.OFFLOAD]
    chains = [chain for chain in chains if len(chain) > 1]
    for op in views:
        if op.kind in RECV_KINDS:
            chains += [(edge, op.index) for edge in op.after if views[edge].kind in SEND_KINDS]
    drawn = {pair for chain in chains for pair in zip(chain[:-1], chain[1:], strict=True)}
    waits = ((edge, op) for op, (_, _, edge) in waits_by_hand(plan, timeline, costs).items())
    return sorted([*chains, *(pair for pair in waits if pair not in drawn)])


def _way_back(plan: Plan, reading: dict[int, list[OpView]], offload: OpView) -> Iterator[int]:
    """The PREFETCH that empties the slot that an OFFLOAD writes, and the first operation that reads what it writes."""
    (slot,) = (at for at in offload.writes if plan.buffers.space[at] == Space.HOST)
    back = next((op for op in reading[slot] if op.index > offload.index), None)
    if back is not None:
        assert back.kind == Kind.PREFETCH
        yield back.index
        (boundary,) = (at for at in back.writes if plan.buffers.space[at] == Space.DEVICE)
        yield next(op.index for op in reading[boundary] if op.index > back.index and op.kind in READERS)


def require_arrows(shown: Shown, plan: Plan, timeline: Timeline, costs: Costs) -> None:
    """The arrows are those of boundaries, of transfers and of what was waited for."""
    found = sorted(tuple(box.op for box in boxes) for boxes in shown.arrows.values())
    assert found == arrows_by_hand(plan, timeline, costs)


class Held:
    """What a counter holds at any time."""

    def __init__(self, samples: Iterable[tuple[int, int]]) -> None:
        self.after = dict(samples)
        self._times = sorted(self.after)

    def at(self, time: int) -> int:
        place = bisect_right(self._times, time)
        return self.after[self._times[place - 1]] if place else 0

    @property
    def last(self) -> int:
        return self.after[self._times[-1]] if self._times else 0


def require_counters(shown: Shown, plan: Plan, timeline: Timeline) -> None:
    """Memory is the timeline's, boundaries those that are taken, rates bytes over time, stalls those of the boxes."""
    memory, metrics, start, end = (
        timeline.memory,
        timeline.metrics,
        timeline.start_ns.tolist(),
        timeline.end_ns.tolist(),
    )
    of_queue: dict[tuple[int, Queue], list[OpView]] = defaultdict(list)
    for op in plan:
        of_queue[op.rank, op.queue].append(op)
    for rank in range(plan.ranks):
        process, own = f"predicted rank {rank}", memory.rank == rank
        for name, column in (("device bytes", memory.device_bytes), ("host bytes", memory.host_bytes)):
            wanted = list(zip(memory.t_ns[own].tolist(), column[own].tolist(), strict=True))
            assert shown.counters.get((process, name), []) == wanted
        of_rank = shown.counters[process, "boundary bytes"]
        assert max(value for _, value in of_rank) == metrics.ranks[rank].peak_boundary_bytes
        assert Held(of_rank).after == _held(plan, of_queue[rank, Queue.COMPUTE], start, end)
        for queue in (Queue.D2H, Queue.H2D, Queue.SEND):
            rates = Held(shown.counters.get((process, f"{QUEUES[queue]} bytes/s"), []))
            for op in of_queue[rank, queue]:
                length = end[op.index] - start[op.index]
                assert not length or rates.at(start[op.index]) == min(op.nbytes * 10**9 // length, 2**53)
            assert rates.last == 0
        stalled = shown.counters[process, "stalled ns so far"]
        assert stalled[-1][1] == sum(metrics.ranks[rank].stalls_ns.values())
    count = Held(shown.counters.get(("predicted shared", "ranks that stall"), []))
    change: dict[int, int] = defaultdict(int)
    for box in shown.stalls():
        change[box.start_ns] += 1
        change[box.end_ns] -= 1
    standing = 0
    for time in sorted(change):
        standing += change[time]
        assert count.at(time) == standing


def _held(plan: Plan, compute: list[OpView], start: list[int], end: list[int]) -> dict[int, int]:
    """The bytes of a rank's boundaries after each time at which one is taken or freed; nothing at 0."""
    change: dict[int, int] = defaultdict(int, {0: 0})
    for op in compute:
        for at, times, sign in (*((at, start, 1) for at in op.allocs), *((at, end, -1) for at in op.frees)):
            buffer = plan.buffer(at)
            if (buffer.space, buffer.role) == (Space.DEVICE, Role.BOUNDARY) and buffer.nbytes:
                change[times[op.index]] += sign * buffer.nbytes
    held, out = 0, {}
    for time in sorted(change):
        held += change[time]
        out[time] = held
    return out
