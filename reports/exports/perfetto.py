"""Writes a trace as Perfetto has it, packet by packet, with Perfetto's own builder.

Times are whole nanoseconds. A rank is a process, a queue a thread. Names of arguments and categories, which repeat, are
written once and then referred to by their number.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import CounterDescriptor, TrackDescriptor, TrackEvent
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from loadahead.reports.exports.counters import BYTES, COUNT, TIME
from loadahead.reports.exports.flows import Step
from loadahead.reports.exports.tracks import CounterTrack, Process, Slice, Trace, Track

# All packets are one sequence's, within which interned names hold.
_SEQUENCE = 1
_CLEARED, _NEEDED = 1, 2  # TracePacket.SequenceFlags: names begin anew, and names are referred to
_UNITS = {
    BYTES: CounterDescriptor.UNIT_SIZE_BYTES,
    TIME: CounterDescriptor.UNIT_TIME_NS,
    COUNT: CounterDescriptor.UNIT_COUNT,
}


def write_perfetto(trace: Trace, path: Path) -> None:
    """Write the trace as a file that Perfetto opens."""
    with path.open("wb") as file:
        _Writer(file).write(trace)


class _Writer:
    """Writes packets, and keeps which names have been written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._builder = StreamingTraceProtoBuilder(file)
        self._arguments: dict[str, int] = {}
        self._categories: dict[str, int] = {}

    def write(self, trace: Trace) -> None:
        first = self._packet()
        first.sequence_flags = _CLEARED
        self._builder.write_packet(first)
        for process in trace.processes:
            self._process(process)
        for place, track in enumerate(trace.tracks):
            self._track(track, place)
        for place, counter in enumerate(trace.counters, len(trace.tracks)):
            self._counter(counter, place)
        for one in trace.slices():
            self._slice(one)
        for counter in trace.counters:
            self._samples(counter)

    def _packet(self) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _process(self, process: Process) -> None:
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid = process.number
        described.process.pid = process.number
        described.process.process_name = process.name
        described.child_ordering = TrackDescriptor.EXPLICIT
        described.sibling_order_rank = process.number
        self._builder.write_packet(packet)

    def _track(self, track: Track, place: int) -> None:
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid, described.parent_uuid = track.number, track.process
        described.thread.pid, described.thread.tid = track.process, track.number
        described.thread.thread_name = track.name
        described.sibling_order_rank = place
        self._builder.write_packet(packet)

    def _counter(self, track: CounterTrack, place: int) -> None:
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid, described.parent_uuid = track.number, track.process
        described.name = track.counter.name
        described.sibling_order_rank = place
        if track.counter.unit in _UNITS:
            described.counter.unit = _UNITS[track.counter.unit]
        else:
            described.counter.unit_name = track.counter.unit
        self._builder.write_packet(packet)

    def _slice(self, one: Slice) -> None:
        packet = self._packet()
        packet.timestamp, packet.sequence_flags = one.start_ns, _NEEDED
        event = packet.track_event
        event.type, event.track_uuid, event.name = TrackEvent.TYPE_SLICE_BEGIN, one.track, one.name
        event.category_iids.append(self._interned(packet, self._categories, "event_categories", one.category))
        for name, value in one.args.items():
            argument = event.debug_annotations.add()
            argument.name_iid = self._interned(packet, self._arguments, "debug_annotation_names", name)
            if isinstance(value, str):
                argument.string_value = value
            else:
                argument.int_value = value
        for _, number, step in one.flows:
            (event.terminating_flow_ids if step is Step.END else event.flow_ids).append(number)
        self._builder.write_packet(packet)
        ended = self._packet()
        ended.timestamp = one.end_ns
        ended.track_event.type, ended.track_event.track_uuid = TrackEvent.TYPE_SLICE_END, one.track
        self._builder.write_packet(ended)

    def _samples(self, track: CounterTrack) -> None:
        counter = track.counter
        for t_ns, value in zip(counter.t_ns.tolist(), counter.value.tolist(), strict=True):
            packet = self._packet()
            packet.timestamp = t_ns
            event = packet.track_event
            event.type, event.track_uuid, event.counter_value = TrackEvent.TYPE_COUNTER, track.number, value
            self._builder.write_packet(packet)

    def _interned(self, packet: Any, known: dict[str, int], kind: str, name: str) -> int:
        """Return a name's number; where it is new, the packet says it."""
        number = known.get(name)
        if number is None:
            number = known[name] = len(known) + 1
            entry = getattr(packet.interned_data, kind).add()
            entry.iid, entry.name = number, name
        return number
