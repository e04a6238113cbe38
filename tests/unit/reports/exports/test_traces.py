"""Traces by hand: what shared links carry, both sides in one, times that overlap, and what cannot be exported."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadahead.reports.exports import TRACE_WRITERS
from loadahead.reports.exports.sides import Side, side_of
from loadahead.reports.exports.tracks import trace_of
from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.timeline import Timeline
from tests.support.plans import GB, uniform_costs, uniform_plan
from tests.support.traces import READ, Shown, require_arrows, require_counters, require_slices

both = pytest.mark.parametrize("to", TRACE_WRITERS)


def shown(sides: tuple[Side, ...], to: str, folder: Path) -> Shown:
    TRACE_WRITERS[to](trace_of(sides, "a plan"), folder / "trace")
    return READ[to](folder / "trace")


def of_a_plan() -> tuple[Timeline, Costs]:
    costs = uniform_costs(2, 2, p2p_latency_ns=1000, d2h_bandwidth=GB // 3)
    return simulate(uniform_plan(2, 2, 3, pipeline="1f1b", horizon=1), costs), costs


@both
def test_20_000_operations_read_back(to: str, tmp_path: Path) -> None:
    """The same is done for 200,000 in tests/bench/bench_export.py."""
    costs = uniform_costs(8, 8, p2p_latency_ns=1000)
    timeline = simulate(uniform_plan(8, 8, 41, pipeline="interleaved", horizon=2), costs)
    assert len(timeline) > 20_000 and timeline.plan is not None
    read = shown((side_of(timeline, costs),), to, tmp_path)
    require_slices(read, timeline.plan, timeline, costs)
    require_arrows(read, timeline.plan, timeline, costs)
    require_counters(read, timeline.plan, timeline)


@both
def test_a_shared_link_carries_the_sum_of_what_goes_over_it(to: str, tmp_path: Path) -> None:
    """Two GPUs copy 1000 bytes out over links of 1 B/ns below a switch of 1 B/ns, and one of them 500 bytes more.

    Both get half until both have 1000 bytes over at 2000 ns; the other 500 bytes have the switch for themselves.
    """
    builder = PlanBuilder()
    for rank, nbytes in ((0, 1000), (1, 1000), (1, 500)):
        builder.op(rank, Kind.OFFLOAD, (rank, 0, 0), nbytes=nbytes)
    plan = builder.freeze("copies", 2, 1, {})
    shared = SharedLinks(gpus_per_switch=2, uplink_d2h=GB)
    costs = uniform_costs(2, shared=shared)
    timeline = simulate(plan, costs)
    assert timeline.end_ns.tolist() == [2000, 2000, 2500]
    read = shown((side_of(timeline, costs),), to, tmp_path)
    assert read.counters["predicted shared", "uplink_d2h of switch 0 bytes/s"] == [(0, GB), (2500, 0)]
    assert read.counters["predicted rank 0", "d2h bytes/s"] == [(0, GB // 2), (2000, 0)]
    assert read.counters["predicted rank 1", "d2h bytes/s"] == [(0, GB // 2), (2000, GB), (2500, 0)]


@both
def test_both_sides_stand_in_one_trace_with_the_same_tracks(to: str, tmp_path: Path) -> None:
    """Measured, everything takes twice as long."""
    predicted, costs = of_a_plan()
    times = {"start_ns": 2 * predicted.start_ns, "end_ns": 2 * predicted.end_ns}
    measured = replace(predicted, source="cpu", **times)
    read = shown((side_of(predicted, costs), side_of(measured, costs)), to, tmp_path)
    tracks = ["compute", "d2h", "h2d", "send", "recv", "stalls"]
    sides = ("predicted", "measured")
    assert read.tracks == [(f"{side} rank {rank}", track) for side in sides for rank in range(2) for track in tracks]
    one, other = (
        {box.op: (box.track, box.name, box.start_ns, box.end_ns) for box in read.operations(side)} for side in sides
    )
    assert {op: (track, name, 2 * start, 2 * end) for op, (track, name, start, end) in one.items()} == other
    slowed = [box.end_ns - box.start_ns for box in read.stalls("predicted")]
    assert slowed and [2 * ns for ns in slowed] == [box.end_ns - box.start_ns for box in read.stalls("measured")]
    sides_of_arrows = [{box.process.split()[0] for box in boxes} for boxes in read.arrows.values()]
    assert sides_of_arrows.count({"predicted"}) == sides_of_arrows.count({"measured"}) == len(sides_of_arrows) / 2
    names = [{name.split(" ", 1)[1]: counter for name, counter in read.counters if name.startswith(s)} for s in sides]
    assert names[0].keys() == names[1].keys()


@both
def test_what_overlaps_on_a_queue_stands_on_a_track_of_its_own(to: str, tmp_path: Path) -> None:
    """A copy that begins a nanosecond before the one before it has ended, as rounded times may say."""
    builder = PlanBuilder()
    for _ in range(3):
        builder.op(0, Kind.OFFLOAD, (0, 0, 0), nbytes=10)
    timeline = simulate(builder.freeze("copies", 1, 1, {}), uniform_costs(1))
    early = replace(timeline, start_ns=timeline.start_ns - np.asarray([0, 1, 0]))
    read = shown((side_of(early),), to, tmp_path)
    assert [(box.op, box.start_ns) for box in sorted(read.of("predicted rank 0", "d2h"), key=lambda b: b.op)] == [
        (0, 0),
        (2, 20),
    ]
    assert [(box.op, box.start_ns, box.end_ns) for box in read.of("predicted rank 0", "d2h (2)")] == [(1, 9, 20)]


@both
def test_times_alone_give_boxes_and_arrows_of_boundaries_and_transfers(to: str, tmp_path: Path) -> None:
    timeline, costs = of_a_plan()
    whole = shown((side_of(timeline, costs),), to, tmp_path)
    read = shown((side_of(replace(timeline, plan=None)),), to, tmp_path)
    assert len(read.operations()) == len(timeline) and not read.stalls()
    assert not any({"bytes", "waited_ns"} & box.args.keys() for box in read.boxes)

    def drawn(trace: Shown) -> set[tuple[int, ...]]:
        kinds = ({"OFFLOAD", "PREFETCH"}, {"SEND_ACTIVATION", "RECV_ACTIVATION"}, {"SEND_GRADIENT", "RECV_GRADIENT"})
        chains = trace.arrows.values()
        return {tuple(b.op for b in c) for c in chains if any(k == {b.args["kind"] for b in c[:2]} for k in kinds)}

    assert drawn(read) == drawn(whole) == {tuple(box.op for box in boxes) for boxes in read.arrows.values()}
    assert {counter for _, counter in read.counters} == {"device bytes", "host bytes"}


@both
def test_operations_have_the_ids_of_the_plans_file(to: str, tmp_path: Path) -> None:
    timeline, costs = of_a_plan()
    assert timeline.plan is not None
    renamed = replace(timeline.plan, op_ids=1000 - timeline.op)
    read, other = (shown((side_of(simulate(plan, costs), costs),), to, tmp_path) for plan in (timeline.plan, renamed))
    assert len(read.boxes) == len(other.boxes)
    for one, same in zip(read.boxes, other.boxes, strict=True):
        assert same.op == 1000 - one.op and same.name == one.name
        assert same.args.get("waited_for_op", 0) == 1000 - one.args.get("waited_for_op", 1000)


@pytest.mark.parametrize("times", [(-1, 5), (7, 6)], ids=["before 0", "the end first"])
def test_times_that_no_trace_can_hold_are_refused(times: tuple[int, int]) -> None:
    timeline, _ = of_a_plan()
    start, end = timeline.start_ns.copy(), timeline.end_ns.copy()
    start[3], end[3] = times
    with pytest.raises(InputError, match=rf"a plan: operation 3 runs from {times[0]} to {times[1]} ns"):
        trace_of((side_of(replace(timeline, start_ns=start, end_ns=end)),), "a plan")


def test_the_trace_processor_reads_the_same(tmp_path: Path) -> None:
    """Perfetto's own program loads both formats and counts what was written."""
    program = shutil.which("trace_processor_shell") or shutil.which("trace_processor")
    if program is None:
        pytest.skip("Perfetto's trace_processor_shell is not on the path; it is a download that tests do not make")
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

    timeline, costs = of_a_plan()
    trace = trace_of((side_of(timeline, costs),), "a plan")
    for to, write in TRACE_WRITERS.items():
        write(trace, tmp_path / to)
        with TraceProcessor(trace=str(tmp_path / to), config=TraceProcessorConfig(bin_path=program)) as processor:
            counts = {
                table: next(iter(processor.query(f"select count(*) as n from {table}"))).n
                for table in ("slice", "counter")
            }
            lost = next(
                iter(processor.query("select sum(value) as n from stats where severity in ('error', 'data_loss')"))
            ).n
        assert counts == {"slice": trace.slice_count, "counter": trace.sample_count} and not lost


@both
def test_names_of_any_letters_come_back(to: str, tmp_path: Path) -> None:
    timeline, costs = of_a_plan()
    strange = '</script> "it\'s" {{ x }} Ωμέγα 模型 \U0001f680 ' + "long " * 200
    assert timeline.plan is not None
    named = replace(timeline, plan_name=strange, plan=replace(timeline.plan, name=strange))
    TRACE_WRITERS[to](trace_of((side_of(named, costs),), strange), tmp_path / "trace")
    read = READ[to](tmp_path / "trace")
    require_slices(read, timeline.plan, timeline, costs)
