"""How a prediction held: which part of a step accounts for the difference, and where times do not compare."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loadahead as la
from loadahead.reports.answer.held import held
from loadahead.reports.compare import compare
from loadahead.reports.page.tiles import tiles
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import NOT_COMPARABLE, comparison_grid, kinds_grid
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_duration, parse_duration_ns

MS = 1_000_000


@cache
def predicted() -> Timeline:
    return replace(la.simulate("slow-link"), plan=None)


def measured_of(step: Timeline, idle_ns: int, forward_ns: int) -> Timeline:
    """The same step on a CPU with a pause of the queue before the last forward pass, which takes longer itself."""
    at = int(np.flatnonzero((step.kind == Kind.FORWARD) & (step.queue == Queue.COMPUTE))[-1])
    begin, end = int(step.start_ns[at]), int(step.end_ns[at])
    later = idle_ns * (step.start_ns >= begin) + forward_ns * (step.start_ns >= end)
    own = np.arange(len(step)) == at
    start, stop = step.start_ns + later, step.end_ns + later + forward_ns * own
    header = {key: value for key, value in step.header.items() if key != "costs"}
    header["step_times_ns"] = [int(stop.max() - start.min())]
    return replace(step, source="cpu", start_ns=start, end_ns=stop, header=header)


def told(idle_ns: int, forward_ns: int) -> str:
    step = predicted()
    return held(RunData(predicted=step, measured=measured_of(step, idle_ns, forward_ns)))[1]


def test_the_part_that_accounts_for_the_difference_is_named() -> None:
    """The trial's run took 55 ms longer, 56 of them idle; the kind that was off most had got shorter."""
    assert told(55 * MS, 0) == (
        "Of the 55 ms that the step took longer than predicted, 55 ms are idle time without a known cause."
    )
    assert told(56 * MS, -1 * MS) == (
        "Of the 55 ms that the step took longer than predicted, 56 ms are idle time without a known cause; all else "
        "together takes 1 ms less."
    )
    assert told(-3 * MS // 2, -1 * MS) == (
        "Of the 2.5 ms that the step took less than predicted, 1.5 ms are idle time without a known cause; all else "
        "together takes 1 ms less."
    )
    assert told(10 * MS, 10 * MS) == (
        "No part of the step accounts for most of the 20 ms that the step took longer than predicted."
    )
    assert told(0, 0) == "No kind of operation is off by more than 1 % of the step in all."


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_the_difference_can_be_read_back(idle_ms: int, forward_ms: int) -> None:
    text, more = told(idle_ms * MS, forward_ms * MS), idle_ms + forward_ms
    if more * MS <= 0.01 * (predicted().step_time_ns + more * MS):
        assert "accounts" not in text and "Of the" not in text
    elif idle_ms == forward_ms:
        assert text.startswith("No part of the step accounts for most of the")
    else:
        found = text.removeprefix("Of the ").split(" that the step took longer than predicted, ")
        part, words = found[1].split(" are ")
        assert parse_duration_ns(found[0]) == more * MS and parse_duration_ns(part) == max(idle_ms, forward_ms) * MS
        assert words.startswith("forward" if forward_ms > idle_ms else "idle time")


def test_a_step_that_is_not_the_median_one_is_told_apart() -> None:
    step = predicted()
    slower = measured_of(step, 50 * MS, 0)
    slower = replace(slower, header=slower.header | {"step_times_ns": [step.step_time_ns]})
    assert (
        "Of the 50 ms that the step whose operations were kept took longer"
        in held(RunData(predicted=step, measured=slower))[1]
    )


def test_several_ranks_are_told_by_the_one_that_ends_last() -> None:
    step = replace(la.simulate("shared-switch"), plan=None)
    text = held(RunData(predicted=step, measured=measured_of(step, 100 * MS, 0)))[1]
    last = int(step.rank[np.argmax(step.end_ns)])
    assert text.startswith("Of the 100 ms") and f" on rank {last}, which ends last" in text


@pytest.fixture(scope="module")
def estimated() -> RunData:
    """An estimate for a GPU beside a CPU's run, which took four hundred times as long."""
    step = predicted()
    ours = replace(step, header=step.header | {"costs": "estimate by roofline for h100-sxm"})
    return RunData(predicted=ours, measured=measured_of(step, 400 * step.step_time_ns, 0))


def test_times_of_another_device_have_no_errors(estimated: RunData) -> None:
    assert estimated.predicted is not None and estimated.measured is not None
    compared = compare(estimated.predicted, estimated.measured)
    assert not compared.same_device and "step time not comparable, peak memory exact" in repr(compared)
    errors = {row[0]: row[-1] for row in comparison_grid(compared).rows}
    assert errors["step time"] == errors["overlap"] == errors["stall: prefetch"] == NOT_COMPARABLE
    assert errors["peak device memory"] == "exact"
    assert {row[4:] for row in kinds_grid(compared).rows} == {(NOT_COMPARABLE, "–")}
    assert "Mean absolute error" not in comparison_grid(compared).note
    (text,) = held(estimated)
    assert text.endswith(f"neither says anything of the other; peak device memory {_peak(estimated)}, as predicted.")
    shown = str(tiles(estimated))
    assert "peak exact" in shown and "step: not comparable" in shown and "error −" not in shown


def _peak(data: RunData) -> str:
    from loadahead.sim.units import format_bytes

    assert data.predicted is not None
    return format_bytes(data.predicted.metrics.peak_device_bytes)


def test_the_first_tiles_say_what_is_saved_and_how_it_held() -> None:
    step = predicted()
    kept = la.simulate("slow-link", {"offload.offload_activations": False})
    data = RunData(predicted=step, measured=measured_of(step, 50 * MS, 0), keep_all=kept)
    text = str(tiles(data))
    # slow-link holds 4.768 MiB of the 31.47 MiB that all its boundaries take, in a step 62.0 % longer.
    assert (
        "<span>Saved by offloading</span><b>26.7 of 31.47 MiB</b><span>84.8 % of what keeping all needs</span>" in text
    )
    assert "<span>step time +62.0 %, predicted</span>" in text
    error = 100 * (step.step_time_ns / (step.step_time_ns + 50 * MS) - 1)
    assert f"<span>How the prediction held</span><b>step −{abs(error):.1f} %</b><span>peak exact</span>" in text
    assert text.index("Saved by") < text.index("How the prediction held") < text.index("Step time, measured on a CPU")
    assert format_duration(step.step_time_ns) in text
