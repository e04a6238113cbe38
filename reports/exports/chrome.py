"""Writes a trace as Chrome's JSON, an event a line; chrome://tracing and Perfetto open it.

Times there are microseconds: they are written as decimals with three places, so that no nanosecond is lost. The format
is Google's "Trace Event Format": X are slices, C counters, M names, and s, t and f an arrow's start, steps and end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from loadahead.reports.exports.flows import Step
from loadahead.reports.exports.tracks import CounterTrack, Slice, Trace

_PHASES = {Step.START: "s", Step.STEP: "t", Step.END: "f"}


def write_chrome(trace: Trace, path: Path) -> None:
    """Write the trace as a JSON file."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit":"ns","traceEvents":[')
        before = "\n"
        for event in _events(trace):
            file.write(before + event)
            before = ",\n"
        file.write("\n]}\n")


def _events(trace: Trace) -> Iterator[str]:
    yield from _names(trace)
    process_of = {track.number: track.process for track in trace.tracks}
    for one in trace.slices():
        yield from _slice(one, process_of[one.track])
    for track in trace.counters:
        yield from _samples(track)


def _names(trace: Trace) -> Iterator[str]:
    """Yield what processes and tracks are called, and their order."""
    for process in trace.processes:
        where = f'"pid":{process.number}'
        yield _metadata("process_name", where, "name", process.name)
        yield _metadata("process_sort_index", where, "sort_index", process.number)
    for place, track in enumerate(trace.tracks):
        where = f'"pid":{track.process},"tid":{track.number}'
        yield _metadata("thread_name", where, "name", track.name)
        yield _metadata("thread_sort_index", where, "sort_index", place)


def _metadata(what: str, where: str, key: str, value: str | int) -> str:
    return f'{{"ph":"M",{where},"name":"{what}","args":{{"{key}":{json.dumps(value)}}}}}'


def _slice(one: Slice, process: int) -> Iterator[str]:
    """Yield a slice and, behind it, its arrows' events, which belong to the last slice of the track before them."""
    where = f'"ts":{_us(one.start_ns)},"pid":{process},"tid":{one.track}'
    yield (
        f'{{"ph":"X",{where},"dur":{_us(one.end_ns - one.start_ns)},"name":{json.dumps(one.name)},'
        f'"cat":"{one.category}","args":{json.dumps(one.args)}}}'
    )
    for what, number, step in one.flows:
        bound = ',"bp":"e"' if step is Step.END else ""
        yield f'{{"ph":"{_PHASES[step]}",{where},"id":{number},"name":"{what}","cat":"{what}"{bound}}}'


def _samples(track: CounterTrack) -> Iterator[str]:
    counter, name = track.counter, json.dumps(track.counter.name)
    for t_ns, value in zip(counter.t_ns.tolist(), counter.value.tolist(), strict=True):
        args = f"{{{json.dumps(counter.unit)}:{value}}}"
        yield f'{{"ph":"C","ts":{_us(t_ns)},"pid":{track.process},"name":{name},"args":{args}}}'


def _us(ns: int) -> str:
    """Return nanoseconds as microseconds, exactly."""
    return f"{ns // 1000}.{ns % 1000:03d}"
