"""Sentences beside the figures of one run: each follows from the numbers, and none says more than was looked at."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadahead.reports.plots import PLOTS, Drawing, Layout
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.busy import busy_shares
from loadahead.reports.views.gantt import gantt
from loadahead.reports.views.gantt_parts import Gantt, Room, StepWaits
from loadahead.reports.views.link_use import LinksInUse, link_use
from loadahead.reports.views.memory import MemoryOverTime, memory_over_time
from loadahead.reports.views.time_parts import COMPUTE_PARTS, TimeParts, time_parts
from loadahead.reports.views.timelines import percent
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.units import format_bytes, parse_duration_ns
from tests.support.pictures_of_runs import both, prediction, stretched
from tests.support.plans import MS


def chart(data: RunData, room: Room | None = None) -> Gantt:
    found = gantt(data, room or Room())
    assert isinstance(found, Gantt)
    return found


def metrics(data: RunData) -> StepMetrics:
    assert data.predicted is not None
    return data.predicted.metrics


@cache
def one_rank_that_never_waits() -> RunData:
    return prediction(1, microbatches=4, offload=False)


def test_queues_never_wait_only_where_no_wait_is_counted() -> None:
    data = one_rank_that_never_waits()
    assert sum(sum(rank.stalls_ns.values()) for rank in metrics(data).ranks) == 0
    assert "The compute queue never waits." in chart(data).sentences


def test_a_wait_too_short_to_be_drawn_is_told() -> None:
    """It made the page say that queues never wait."""
    data = both()
    assert data.predicted is not None
    total = sum(sum(rank.stalls_ns.values()) for rank in metrics(data).ranks)
    assert total > 0
    found = chart(replace(data, measured=None), Room(points=0.001))
    assert not found.waits
    (line,) = [sentence for sentence in found.sentences if "wait" in sentence and "arrow" not in sentence]
    assert line.startswith("No wait is long enough to be drawn; together the ranks wait ")
    told = re.search(r"the ranks wait ([\d.]+ \w+), the longest wait takes ([\d.]+ \w+)", line)
    assert told is not None
    assert parse_duration_ns(told.group(1)) == pytest.approx(total, rel=1e-3)
    assert parse_duration_ns(told.group(2)) == pytest.approx(found.step_waits["predicted"].longest_ns, rel=1e-3)


def test_waits_of_ranks_that_are_not_drawn_count() -> None:
    data = prediction(6, microbatches=8, pipeline="interleaved", horizon=2)
    found = chart(data, Room(ranks=1))
    assert len(found.ranks) == 1
    assert found.step_waits["predicted"].total_ns == sum(sum(rank.stalls_ns.values()) for rank in metrics(data).ranks)


@pytest.mark.parametrize(
    ("waits", "sentence"),
    [
        (StepWaits(total_ns=0, longest_ns=0, step_ns=MS, drawn=0), "The compute queues never wait."),
        (
            StepWaits(total_ns=3000, longest_ns=1000, step_ns=MS, drawn=0),
            "No wait is long enough to be drawn; together the ranks wait 3 us, the longest wait takes 1 us (0.1 % of "
            "the step).",
        ),
        (
            StepWaits(total_ns=1, longest_ns=1, step_ns=MS, drawn=0),
            "No wait is long enough to be drawn; together the ranks wait 1 ns, the longest wait takes 1 ns (less than "
            "0.1 % of the step).",
        ),
        (
            StepWaits(total_ns=MS, longest_ns=MS // 2, step_ns=MS, drawn=3),
            "The compute queues wait where hatched; together the ranks wait 1 ms, the longest wait takes 500 us (50 % "
            "of the step).",
        ),
        (
            StepWaits(total_ns=0, longest_ns=0, step_ns=MS, drawn=0, unknown_ns=MS // 5, ranks=2),
            "No wait for copies or other ranks is known; the compute queues stand still for 200 us for no known cause "
            "(10 % of the ranks' time).",
        ),
        (
            StepWaits(total_ns=MS, longest_ns=MS, step_ns=MS, drawn=1, host_ns=MS // 10, unknown_ns=MS // 5, ranks=2),
            "The compute queues wait where hatched; together the ranks wait 1 ms, the longest wait takes 1 ms (100 % "
            "of the step). Beside that they stand still for 100 us while the host issues work (5.0 % of the ranks' "
            "time) and 200 us for no known cause (10 % of the ranks' time).",
        ),
    ],
)
def test_what_is_said_of_waits(waits: StepWaits, sentence: str) -> None:
    found = replace(chart(replace(both(), measured=None)), step_waits={"predicted": waits})
    assert sentence in found.sentences


def test_no_caption_says_that_boxes_are_too_narrow_to_be_seen() -> None:
    data = prediction(1, microbatches=300, horizon=2)
    for layout in Layout:
        drawing = PLOTS["gantt"](data, layout)
        assert isinstance(drawing, Drawing) and "narrower" not in drawing.caption


def test_differences_are_counted_where_they_are() -> None:
    data = both()
    assert data.predicted is not None and data.measured is not None
    assert chart(data).off == 0 and not any("Outlined" in sentence for sentence in chart(data).sentences)
    start, end = data.measured.start_ns.copy(), data.measured.end_ns.copy()
    late = int(np.flatnonzero((data.measured.kind == 0) & (data.measured.rank == 1))[-1])
    start[late], end[late] = (
        start[late] + data.measured.step_time_ns // 12,
        end[late] + data.measured.step_time_ns // 12,
    )
    found = chart(replace(data, measured=replace(data.measured, start_ns=start, end_ns=end)))
    marked = [box for box in found.boxes if box.differs]
    assert any(box.start_ns == start[late] for box in marked) and found.off == len(marked)
    where = "earlier or later in {} step than predicted, by more than 5 % of the step, or in another order."
    outlined = f"Outlined: 2 of the {found.compared} measured operations shown start {where.format('their')}"
    one = f"Outlined: 1 of the {found.compared} measured operations shown starts {where.format('its')}"
    none = f"None of the {found.compared} measured operations shown starts {where.format('its')}"
    for count, said in ((2, outlined), (1, one), (0, none)):
        told = replace(found, off=count).sentences
        assert f"The prediction stands above the measurement. {said}" in told


def test_an_estimate_for_a_gpu_is_not_held_against_a_cpu() -> None:
    """Nor are steps that are so far apart that each has an axis of its own."""
    data = both()
    assert data.predicted is not None
    estimate = data.predicted.header | {"costs": "estimate for h100-sxm (published peaks)"}
    other = replace(data, predicted=replace(data.predicted, header=estimate))
    far = replace(data, measured=stretched(data.predicted, 10))
    assert chart(data).compared
    for one in (other, far):
        found = chart(one)
        assert found.compared is None and not any(box.differs for box in found.boxes)
        assert "measured operation" not in " ".join(found.sentences)
    on_a_gpu = replace(other, measured=stretched(data.predicted, 1.05, source="cuda"))
    assert chart(on_a_gpu).compared


def test_measured_gaps_without_a_cause_are_told_where_nothing_waits() -> None:
    """An operation that starts late for no known cause made the chart say that the queue never waits."""
    data = one_rank_that_never_waits()
    assert data.predicted is not None
    start, end = data.predicted.start_ns.copy(), data.predicted.end_ns.copy()
    start[-1], end[-1] = start[-1] + 5 * MS, end[-1] + 5 * MS
    late = replace(data.predicted, source="cpu", start_ns=start, end_ns=end)
    found = chart(replace(data, measured=late))
    share = percent(5 * MS, late.step_time_ns)
    assert "As predicted, the compute queue never waits." in found.sentences
    assert (
        "As measured, no wait for copies or other ranks is known; the compute queue stands still for 5 ms for no known "
        f"cause ({share} of the step)." in found.sentences
    )


def test_numbers_in_boxes_are_explained_where_there_are_some() -> None:
    data = both()
    told = "Numbers in the boxes are microbatches."
    assert told in chart(data).sentences[0] and any(box.numbered for box in chart(data).boxes)
    narrow = chart(data, Room(points=10.0))
    assert told not in narrow.sentences[0] and not any(box.numbered for box in narrow.boxes)


def test_where_most_differs_nothing_is_outlined() -> None:
    found = replace(chart(both()), off=60, compared=100)
    assert not found.outlined
    assert any("60 of the 100 measured operations" in line and "Outlined" not in line for line in found.sentences)


def test_ranks_that_are_drawn_are_named_with_the_reason() -> None:
    data = prediction(9, microbatches=12, pipeline="interleaved", horizon=1)
    found = chart(data, Room(ranks=4))
    ranks = metrics(data).ranks
    assert found.ranks[0].startswith("first") and found.ranks[8].endswith("last")
    waiting = max(ranks, key=lambda rank: sum(rank.stalls_ns.values())).rank
    fullest = max(ranks, key=lambda rank: rank.peak_device_bytes).rank
    assert "waits most" in found.ranks[waiting] and "fullest" in found.ranks[fullest]
    assert any(sentence.startswith("Drawn are 4 of 9 ranks: 0 (first") for sentence in found.sentences)


def test_arrows_follow_a_boundary() -> None:
    data = both()
    assert data.plan is not None and data.predicted is not None
    ways = chart(data).ways
    assert ways
    for way in ways:
        ops = [op for op in data.plan if (op.stage, op.unit, op.microbatch) == (way.stage, way.unit, way.microbatch)]
        times = {
            op.kind.name: (int(data.predicted.start_ns[op.index]), int(data.predicted.end_ns[op.index])) for op in ops
        }
        assert way.offload[1] == times["OFFLOAD"][1]
        assert (way.prefetch_start[1], way.prefetch_end[1]) == times["PREFETCH"]
        assert way.reader[1] == times["RECOMPUTE"][0]
        assert way.offload[1] <= way.prefetch_start[1] and way.prefetch_end[1] <= way.reader[1]


def test_memory_says_peaks_savings_and_agreement() -> None:
    data = both()
    found = memory_over_time(data)
    assert isinstance(found, MemoryOverTime) and data.keep_all is not None
    peaks = [rank.peak_device_bytes for rank in metrics(data).ranks]
    kept = data.keep_all.metrics.ranks
    fullest = peaks.index(max(peaks))
    text = " ".join(found.sentences)
    assert f"Rank {fullest} peaks at {format_bytes(max(peaks))}, and no rank at more" in text
    saved = kept[fullest].peak_device_bytes - peaks[fullest]
    assert (
        f'The dotted line, "every boundary kept", is the same step predicted without offloading: '
        f"{format_bytes(kept[fullest].peak_device_bytes)} on rank {fullest}, {format_bytes(saved)} more than its "
        f"predicted peak of {format_bytes(peaks[fullest])}." in text
    )
    assert "is the predicted one to the byte" in text
    assert data.measured is not None
    memory = data.measured.memory
    more = replace(memory, device_bytes=memory.device_bytes + 1024 * (memory.rank == 1))
    other = memory_over_time(replace(data, measured=replace(data.measured, memory=more)))
    assert isinstance(other, MemoryOverTime)
    told = "Of the 2 ranks drawn the measured peak of rank 1 is furthest from the predicted one: 1 KiB above it."
    assert told in other.sentences


def test_a_measured_peak_above_the_predicted_one_is_told_as_such_beside_the_step_that_keeps_all() -> None:
    """What keeping all takes is a prediction; its difference is said to the predicted peak, which is named."""
    data = prediction(1, horizon=1)
    assert data.predicted is not None and data.keep_all is not None
    measured = stretched(data.predicted, 1.05)
    memory = replace(measured.memory, device_bytes=measured.memory.device_bytes + 2**20)
    found = memory_over_time(replace(data, measured=replace(measured, memory=memory)))
    assert isinstance(found, MemoryOverTime)
    peak, kept = data.predicted.metrics.peak_device_bytes, data.keep_all.metrics.peak_device_bytes
    assert found.sentences[0].startswith(f"Rank 0 peaks at {format_bytes(peak + 2**20)} as measured")
    assert (
        f"{format_bytes(kept)} on rank 0, {format_bytes(kept - peak)} more than its predicted peak of "
        f"{format_bytes(peak)}." in found.sentences[1]
    )
    assert "The measured peak of rank 0 is 1 MiB above the predicted one." in found.sentences
    same = memory_over_time(replace(data, keep_all=data.predicted))
    assert isinstance(same, MemoryOverTime)
    assert same.sentences[1].endswith("on rank 0, as much as its predicted peak.")


def test_host_slots_in_use_stand_beside_their_pool() -> None:
    """Tables count the pool: the figure's number is another one, and names both."""
    data = both()
    assert data.predicted is not None
    summary = data.predicted.header["summary"]
    ranks = [one | {"peak_host_bytes": 5 * 2**20} for one in summary["ranks"]]
    header = data.predicted.header | {"summary": summary | {"ranks": ranks}}
    found = memory_over_time(replace(data, measured=None, predicted=replace(data.predicted, header=header)))
    assert isinstance(found, MemoryOverTime)
    rank = max(found.ranks, key=lambda one: (one.peak, -one.rank))
    in_use = int(data.predicted.memory.host_bytes[data.predicted.memory.rank == rank.rank].max())
    assert 0 < in_use < 5 * 2**20
    assert (
        f"Host slots of rank {rank.rank} in use: at most {format_bytes(in_use)} of a pool of 5 MiB." in found.sentences
    )
    with_both = memory_over_time(data)
    assert isinstance(with_both, MemoryOverTime)
    assert f"at most {format_bytes(in_use)}, predicted and measured, of a pool of " in " ".join(with_both.sentences)
    nothing = memory_over_time(prediction(1, offload=False))
    assert isinstance(nothing, MemoryOverTime) and not any("Host" in line for line in nothing.sentences)


def test_memory_of_a_device_that_is_too_small_says_so() -> None:
    data = both()
    assert data.predicted is not None
    header = data.predicted.header | {"capacity_bytes": 1024}
    found = memory_over_time(replace(data, predicted=replace(data.predicted, header=header)))
    assert isinstance(found, MemoryOverTime)
    assert "more than the 1 KiB that a device has" in found.sentences[0]


def test_time_says_the_shares_of_its_bars() -> None:
    data = both()
    found = time_parts(data)
    assert isinstance(found, TimeParts)
    ranks = metrics(data).ranks
    step = metrics(data).step_time_ns
    compute = percent(sum(rank.compute_ns for rank in ranks), step * len(ranks))
    assert found.sentences[0].startswith(f"As predicted, {compute} of the ranks' time of ")
    for bar in found.bars:
        assert bar.compute_ns == sum(bar.parts_ns.get(part, 0) for part in COMPUTE_PARTS)


def test_measured_time_without_a_cause_is_not_given_one() -> None:
    """An operation that starts long after all it waited for had ended."""
    data = prediction(1, microbatches=4, offload=False)
    assert data.predicted is not None
    start, end = data.predicted.start_ns.copy(), data.predicted.end_ns.copy()
    start[-1], end[-1] = start[-1] + 5 * MS, end[-1] + 5 * MS
    late = replace(data.predicted, source="cpu", start_ns=start, end_ns=end)
    found = time_parts(replace(data, measured=late))
    assert isinstance(found, TimeParts)
    predicted, measured = found.bars
    assert measured.parts_ns["unknown"] == 5 * MS and "unknown" not in predicted.parts_ns


def test_a_measured_release_that_waits_is_the_offloads_stall() -> None:
    """A device's RELEASE begins when the compute queue reaches it, and ends when its OFFLOAD has."""
    data = prediction(1, microbatches=4, horizon=1)
    assert data.predicted is not None
    step = data.predicted
    marks = np.isin(step.kind, [Kind.RELEASE, Kind.ACQUIRE])
    before = np.zeros(len(step), dtype=np.int64)
    compute = np.flatnonzero(step.queue == Queue.COMPUTE)
    before[compute[1:]] = step.end_ns[compute[:-1]]
    begun = np.where(marks, np.minimum(before, step.start_ns), step.start_ns)
    measured = replace(step, source="cuda", start_ns=begun)
    assert (measured.end_ns - measured.start_ns)[marks].any()
    found = time_parts(replace(data, measured=measured))
    assert isinstance(found, TimeParts)
    assert metrics(data).ranks[0].stall_release_ns > 0
    predicted, other = (dict(bar.parts_ns) for bar in found.bars)
    # Nothing has moved: it waits for the same, and the host issues without taking time.
    assert other == predicted and "host" not in other
    assert sum(other.values()) == found.step_ns["measured"]


def test_a_step_of_no_time_has_no_curve() -> None:
    data = prediction(1, microbatches=4, offload=False)
    still = replace(data, predicted=stretched(data.predicted, 0, "compiled")) if data.predicted is not None else data
    assert isinstance(memory_over_time(still), Missing)
    beside = memory_over_time(replace(still, measured=data.predicted))
    assert isinstance(beside, MemoryOverTime) and list(beside.ends_ns) == ["measured"]
    for plot in PLOTS.values():
        for layout in Layout:
            assert plot(still, layout) is not None
            assert plot(replace(still, measured=data.predicted), layout) is not None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), st.integers(1, 12))
def test_how_busy_each_part_is_by_counting_nanoseconds(gaps: list[tuple[int, int]], parts: int) -> None:
    start, end, at = [], [], 0
    for gap, length in gaps:
        start.append(at + gap)
        at += gap + length
        end.append(at)
    edges = np.arange(parts + 1) * 7
    busy = [any(a <= ns < b for a, b in zip(start, end, strict=True)) for ns in range(7 * parts)]
    expected = [sum(busy[7 * part : 7 * part + 7]) / 7 for part in range(parts)]
    shares = busy_shares(np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64), edges.astype(np.float64))
    assert shares.tolist() == pytest.approx(expected)


def test_links_say_how_full_they_are() -> None:
    """Copies of 1 MB at 250 MB/s take 4 ms each."""
    data = prediction(1, horizon=1)
    found = link_use(data, columns=50)
    assert isinstance(found, LinksInUse) and data.plan is not None
    assert [link.name for link in found.links] == ["copies out of rank 0", "copies in of rank 0"]
    for link, kind in zip(found.links, (5, 8), strict=True):
        copies = int((data.plan.ops.kind == kind).sum())
        assert link.nbytes == copies * 1_000_000
        assert link.mean("predicted") == pytest.approx(copies * 4 * MS / metrics(data).step_time_ns, abs=1e-4)
    fullest = max(found.links, key=lambda link: link.mean("predicted"))
    assert found.sentences[0].startswith(f"As predicted, {fullest.name} is the fullest of these: ")
    assert f"in {fullest.full('predicted')} of 50 columns it is full" in found.sentences[0]


@pytest.mark.parametrize("view", [gantt, memory_over_time, link_use])
def test_steps_far_apart_are_said_to_have_axes_of_their_own(view: object) -> None:
    data = both()
    assert data.predicted is not None
    for by, said in ((2.9, False), (3.1, True)):
        found = view(replace(data, measured=stretched(data.predicted, by)))  # type: ignore[operator]
        assert any("a time axis of its own" in sentence for sentence in found.sentences) is said


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0, "0 %"),
        (1, "less than 0.1 %"),
        (1234, "1.2 %"),
        (50_000, "50 %"),
        (99_600, "99.6 %"),
        (99_990, "99.99 %"),
        (99_996, "more than 99.99 %"),
        (100_000, "100 %"),
    ],
)
def test_shares_do_not_round_to_what_they_are_not(part: int, text: str) -> None:
    assert percent(part, 100_000) == text
