"""Tables, as data and as plain text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadahead.cli.tables import table_text
from loadahead.reports.compare import KindComparison, compare
from loadahead.reports.run_data import read_sweep_row
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.summary import Headline, read_step_metrics
from loadahead.reports.tables import (
    Grid,
    comparison_grid,
    format_error,
    format_share,
    kinds_grid,
    memory_grid,
    sweep_grid,
    time_grid,
)
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import METRIC_COLUMNS, ROOM_COLUMNS, STALLS, SweepRow
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_bytes
from tests.support.plans import MB, uniform_costs, uniform_plan


def row(microbatches: int, horizon: int, step_ms: float, device: int, **changes: Any) -> SweepRow:
    """A row of a sweep's table."""
    columns = dict.fromkeys(METRIC_COLUMNS, 0) | {
        "pipeline": "simple",
        "microbatches": microbatches,
        "horizon": horizon,
        "horizon_unit": "tasks",
        "release_window": 1,
        "step_time_ns": round(step_ms * 1e6),
        "peak_device_bytes": device,
        "peak_host_bytes": 2**20,
        "host_bytes": 2**20,
        "capacity_bytes": None,
        "host_capacity_bytes": None,
        "gpus": None,
        "overlap": 0.5,
        "stall_release_ns": 1000,
        "stall_send_ns": 250,
        "stall_recv_ns": 500,
        "offloaded": 3,
        "kept": 1,
    }
    return SweepRow.from_dict(columns | changes)


def simulated(**policy: Any) -> Timeline:
    return simulate(uniform_plan(ranks=2, **{"horizon": 1} | policy), uniform_costs(2))


def test_what_does_not_fit_is_shown_and_not_marked() -> None:
    rows = [row(4, 2, 10, 1000, capacity_bytes=100), row(4, 1, 20, 100, capacity_bytes=100)]
    grid = sweep_grid(rows)
    assert grid.marked == {0}
    device = grid.headers.index("peak device")
    # What fits comes first, though it is slower, then what lacks least.
    assert [cells[device] for cells in grid.rows] == ["100 B", "1000 B !"]
    more = sweep_grid([*rows, row(4, 3, 30, 500, capacity_bytes=100)])
    assert [cells[device] for cells in more.rows] == ["100 B", "500 B !", "1000 B !"]
    assert "!: more than the device has (100 B)." in grid.note
    assert "host has" not in grid.note
    grid = sweep_grid(rows[:1])
    assert grid.marked == frozenset() and "Marked" not in grid.note


def test_capacities_may_differ_from_row_to_row_and_the_host_has_one_too() -> None:
    rows = [
        row(4, h, 10, 1000, capacity_bytes=h * 100, host_capacity_bytes=2**20, host_bytes=(3 - h) * 2**20, **axis)
        for h in (1, 2)
        for axis in ({"hardware.memory": f"{h * 100} B"},)
    ]
    grid = sweep_grid(rows)
    assert "!: more than the device has (100 B to 200 B, depending on the row) or the host has (1 MiB)." in grid.note
    host = grid.headers.index("host, all GPUs")
    assert [cells[host] for cells in grid.rows] == ["1 MiB", "2 MiB !"]


def test_gpus_tokens_and_mfu_have_columns_where_they_are_known() -> None:
    rows = [row(4, h, 10, 1000, gpus=2, replicas=h, tokens_per_s=1000.0 * h, mfu=0.4567) for h in (1, 2)]
    grid = sweep_grid(rows)
    columns = [grid.headers.index(name) for name in ("GPUs", "tokens/s", "MFU")]
    assert [[cells[at] for at in columns] for cells in grid.rows] == [["2", "1000", "45.7 %"], ["4", "2000", "45.7 %"]]
    assert "tokens/s: of all GPUs together." in grid.note
    # As many GPUs everywhere, and tables of before, which do not say it.
    assert "GPUs" not in sweep_grid([row(4, h, 10, 1000, gpus=2, replicas=1) for h in (1, 2)]).headers
    assert not {"GPUs", "tokens/s", "MFU"} & set(sweep_grid([row(4, 1, 10, 1000)]).headers)


def test_the_host_memory_of_all_ranks_is_shown_where_there_are_several_or_the_host_has_a_limit() -> None:
    assert "peak host" in sweep_grid([row(4, 1, 10, 1)]).headers
    for more in ({"host_bytes": 2**21}, {"host_capacity_bytes": 2**30}):
        assert "host, all GPUs" in sweep_grid([row(4, 1, 10, 1, **more)]).headers


def test_the_sweep_is_sorted_and_leaves_out_axes_with_one_value() -> None:
    rows = [row(4, 1, 50, 1), row(4, 2, 40, 2), row(4, 3, 45, 3, horizon_unit="layers")]
    grid = sweep_grid(rows)
    assert grid.headers == (
        "microbatches",
        "horizon",
        "horizon_unit",
        "mb/s/GPU",
        "step time",
        "peak device",
        "peak host",
        "overlap",
        "stall: offload",
        "send",
        "bubble",
        "offloaded",
    )
    assert [r[1] for r in grid.rows] == ["2", "3", "1"]
    assert grid.marked == {0}
    assert grid.rows[0][3:] == ("100", "40 ms", "2 B", "1 MiB", "50.0 %", "1 us", "250 ns", "500 ns", "3/4")


def test_microbatches_per_second_and_gpu_sort_the_table() -> None:
    rows = [row(4, 1, 40, 1, gpus=8), row(4, 2, 60, 1, gpus=4), row(4, 3, 30, 1, gpus=8)]
    grid = sweep_grid(rows)
    assert [r[1:3] for r in grid.rows] == [("2", "16.67"), ("3", "16.67"), ("1", "12.5")]


def test_a_stall_that_no_row_has_is_left_out() -> None:
    rows = [row(4, h, 40, 1, stall_release_ns=0, stall_send_ns=0, stall_prefetch_ns=h - 1) for h in (1, 2)]
    assert sweep_grid(rows).headers[-4:] == ("overlap", "stall: prefetch", "bubble", "offloaded")
    none = dict.fromkeys((f"stall_{stall}_ns" for stall in STALLS), 0)
    assert sweep_grid([row(4, 1, 40, 1, **none)]).headers[-2:] == ("overlap", "offloaded")


def test_axes_have_the_names_by_which_they_are_given() -> None:
    keys = {"hardware.d2h": ("1 GB/s", "2 GB/s"), "model.units_per_stage": (2, 4)}
    rows = [row(4, 1, 40, 1, **dict(zip(keys, pair, strict=True))) for pair in zip(*keys.values(), strict=True)]
    assert sweep_grid(rows).headers[2:4] == tuple(keys)
    text = table_text(sweep_grid(rows))
    assert all(name in text for name in keys)


def test_each_model_has_its_rows_together_and_its_mark() -> None:
    rows = [row(4, h, 10 * layers + h, 1, **{"model.layers": layers}) for h in (1, 2, 3) for layers in (2, 1)]
    grid = sweep_grid(rows)
    assert [r[2] for r in grid.rows] == ["2", "2", "2", "1", "1", "1"]
    assert grid.marked == {0, 3}
    assert "Models are not compared" in grid.note
    short = sweep_grid(rows, limit=2)
    assert [r[1:3] for r in short.rows] == [("1", "2"), ("1", "1")] and short.marked == {0, 1}


def test_of_many_models_the_first_are_shown() -> None:
    rows = [row(8, 1, 10 + size, 2**20, **{"model.boundary": size}) for size in range(100)]
    grid = sweep_grid(rows, limit=5)
    assert len(grid.rows) == 5 and "5 of 100 configurations." in grid.note


def test_a_short_sweep_table_still_shows_the_best_row() -> None:
    rows = [row(4, h, 40 + h / 100, 100 - h) for h in range(1, 20)]
    grid = sweep_grid(rows, limit=3)
    assert [r[1] for r in grid.rows] == ["1", "2", "19"]
    assert grid.marked == {2}
    assert "3 of 19 configurations" in grid.note


def test_the_mark_is_seen_in_text() -> None:
    lines = table_text(sweep_grid([row(4, 1, 50, 1), row(4, 2, 40, 2)])).splitlines()
    marked = [" ".join(line.split()) for line in lines if line.lstrip().startswith("*")]
    assert marked == ["* 4 2 100 40 ms 2 B 1 MiB 50.0 % 1 us 250 ns 500 ns 3/4"]


@pytest.mark.parametrize("columns", [1, 4, 12, 30])
def test_a_table_cuts_nothing_off_however_wide_it_is(columns: int) -> None:
    headers = tuple(f"a_header.that_is_quite_long_{i}" for i in range(columns))
    cells = tuple(f"{1000 + i}.5 MiB !" for i in range(columns))
    text = table_text(Grid(headers=headers, rows=(cells,), marked=frozenset({0}), note="word " * 60))
    head, *lines = text.splitlines()
    assert head.split() == list(headers)
    assert lines[1].split() == ["*", *(part for cell in cells for part in cell.split())]
    assert "…" not in text
    assert max(len(line) for line in lines if line.startswith("word")) <= 120


def test_comparison_lines_up_predicted_and_measured() -> None:
    predicted = simulated()
    grid = comparison_grid(compare(predicted, replace(predicted, source="cpu")))
    rows = {r[0].strip(): r[1:] for r in grid.rows}
    step = predicted.metrics.step_time_ns / 1e6
    assert rows["step time"] == (f"{step:g} ms", f"{step:g} ms", "exact")
    assert list(rows) == [
        "step time",
        "peak device memory",
        "rank 0",
        "rank 1",
        "peak host memory",
        "overlap",
        "stall: offload",
        "stall: prefetch",
        "stall: send",
        "stall: receive (bubble)",
    ]
    assert {r[2] for r in rows.values()} == {"exact"}
    assert "+ means that the prediction is too high" in table_text(grid)


def test_comparison_says_nothing_where_nothing_is_known() -> None:
    bare = Timeline(**{name: getattr(simulated(), name) for name in Timeline.__dataclass_fields__} | {"header": {}})
    rows = {r[0].strip(): r[1:] for r in comparison_grid(compare(bare, simulated())).rows}
    assert rows["overlap"][0] == "–"
    assert rows["stall: prefetch"][0] == "–"
    assert rows["stall: prefetch"][2] == "–"


def test_kinds_are_listed() -> None:
    predicted = simulated()
    grid = kinds_grid(compare(predicted, predicted))
    kinds = {r[0]: r[1:] for r in grid.rows}
    assert kinds["FORWARD"] == ("8", "8 ms", "8 ms", "exact", "0.0 %")
    assert kinds["RELEASE"][-1] == "–"


def test_ranks_are_listed_and_checked() -> None:
    grid = time_grid(simulated().metrics)
    assert [r[0] for r in grid.rows] == ["0", "1"]
    assert grid.rows[0][1] == "12 ms"
    assert grid.headers[3:7] == ("stall: offload", "prefetch", "send", STALL_LOOKS["recv"].title)
    with pytest.raises(InputError, match="ranks is None"):
        read_step_metrics({"step_time_ns": 1}, "summary")


def test_a_peak_is_listed_with_its_parts() -> None:
    """One rank, 2 units, 4 microbatches: at the turn 8 boundaries and the gradient between its units are held."""
    costs = uniform_costs(1, 2, static_bytes=(5 * 2**20,))
    unit = costs.units[0][0].model_copy(update={"workspace_backward": 3 * 2**20})
    costs = costs.model_copy(update={"units": ((unit,) * 2,)})
    metrics = simulate(uniform_plan(1, 2, offload=False), costs).metrics
    grid = memory_grid(metrics)
    boundaries, gradient = format_bytes(8 * MB), format_bytes(MB)
    peak = format_bytes(8 * 2**20 + 9 * MB)
    assert grid.rows == (("0", peak, "5 MiB", "3 MiB", boundaries, gradient, boundaries, "0 B"),)
    old = metrics.to_dict()
    del old["ranks"][0]["peak_parts"]
    assert memory_grid(read_step_metrics(old, "summary")).rows[0][2:6] == ("–",) * 4
    with pytest.raises(
        InputError, match=r"summary\.ranks\[0\]\.peak_parts is 3; it must be an object with weights_and"
    ):
        read_step_metrics(old | {"ranks": [old["ranks"][0] | {"peak_parts": 3}]}, "summary")


def test_every_stall_has_its_words_in_order() -> None:
    assert tuple(STALL_LOOKS) == STALLS
    assert [stall for stall, look in STALL_LOOKS.items() if look.of_copies] == ["release", "prefetch"]
    assert len({look.colour for look in STALL_LOOKS.values()}) == len({look.label for look in STALL_LOOKS.values()})
    assert len({look.colour for look in STALL_LOOKS.values()}) == len(STALLS)


def test_results_from_before_waits_for_sends_were_told_apart_are_read() -> None:
    metrics = simulated().metrics
    old = metrics.to_dict()
    for rank in old["ranks"]:
        del rank["stall_send_ns"]
    assert read_step_metrics(old, "summary") == replace(
        metrics, ranks=tuple(replace(rank, stall_send_ns=0) for rank in metrics.ranks)
    )
    columns = {key: value for key, value in row(4, 1, 10, 100).items() if key != "stall_send_ns"}
    assert read_sweep_row(columns, "row 1") == row(4, 1, 10, 100, stall_send_ns=0)
    # Nor did they have the host memory of all ranks, capacities and GPUs.
    earlier = {key: value for key, value in columns.items() if key not in ("host_bytes", "fits", *ROOM_COLUMNS)}
    read = read_sweep_row(earlier | {"peak_host_bytes": 7}, "row 1")
    assert (read.host_bytes, read.capacity_bytes, read.host_capacity_bytes, read.gpus) == (7, None, None, None)
    assert read.fits and "fits" not in read.axes
    with pytest.raises(InputError, match="row 1: gpus is 0; it must be an integer of at least 1"):
        read_sweep_row(columns | {"gpus": 0}, "row 1")
    for missing in ("stall_release_ns", "stall_recv_ns"):
        with pytest.raises(InputError, match=missing):
            read_sweep_row({key: value for key, value in columns.items() if key != missing}, "row 1")
    with pytest.raises(InputError, match=r"row 1: stall_send_ns is -1"):
        read_sweep_row(columns | {"stall_send_ns": -1}, "row 1")
    old["ranks"][1]["stall_send_ns"] = 0.5
    with pytest.raises(InputError, match=r"summary.ranks\[1\].stall_send_ns is 0.5"):
        read_step_metrics(old, "summary")


@pytest.mark.parametrize(
    ("error", "text"),
    [(0.0, "exact"), (None, "–"), (0.0342, "+3.4 %"), (-0.5, "−50.0 %"), (1e-5, "+0.00 %"), (-2.0, "−200.0 %")],
)
def test_errors_keep_their_sign(error: float | None, text: str) -> None:
    assert format_error(error) == text


def test_text_is_no_markup() -> None:
    grid = kinds_grid(compare(simulated(), simulated()))
    rows = (("[bold]x[/bold] :smile:", *grid.rows[0][1:]),)
    assert "[bold]x[/bold] :smile:" in table_text(type(grid)(headers=grid.headers, rows=rows))


def test_shares_and_headlines() -> None:
    assert (format_share(None), format_share(1.0)) == ("–", "100.0 %")
    assert Headline(step_time_ns=1, peak_device_bytes=()).largest_device_bytes is None
    assert KindComparison(count=1, predicted_ns=1, measured_ns=1, error=0.0, mape=None).to_dict()["mape"] is None
