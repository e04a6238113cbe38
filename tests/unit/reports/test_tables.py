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
    comparison_grid,
    format_error,
    format_share,
    kinds_grid,
    memory_grid,
    sweep_grid,
    time_grid,
)
from loadahead.sim.choice import best
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import METRIC_COLUMNS, STALLS, SweepRow
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


def test_what_does_not_fit_is_shown_and_not_best() -> None:
    rows = [row(4, 2, 10, 1000), row(4, 1, 20, 100)]
    assert best(rows, 100) == 1
    grid = sweep_grid(rows, 100)
    assert grid.best == 1
    assert grid.rows[0][4] == "1000 B !"
    assert "!: more than the device has, 100 B" in grid.note


def test_the_sweep_is_sorted_and_leaves_out_axes_with_one_value() -> None:
    rows = [row(4, 1, 50, 1), row(4, 2, 40, 2), row(4, 3, 45, 3, horizon_unit="layers")]
    grid = sweep_grid(rows)
    assert grid.headers[:4] == ("mb.", "horizon", "unit", "per mb.")
    assert [r[1] for r in grid.rows] == ["2", "3", "1"]
    assert grid.best == 0
    assert grid.rows[0][3:] == ("10 ms", "40 ms", "2 B", "1 MiB", "50.0 %", "1.75 us", "3/4")


def test_a_short_sweep_table_still_shows_the_best_row() -> None:
    rows = [row(4, h, 40 + h / 100, 100 - h) for h in range(1, 20)]
    grid = sweep_grid(rows, limit=3)
    assert [r[1] for r in grid.rows] == ["1", "2", "19"]
    assert grid.best == 2
    assert "3 of 19 configurations" in grid.note


def test_the_mark_is_seen_in_text() -> None:
    lines = table_text(sweep_grid([row(4, 1, 50, 1), row(4, 2, 40, 2)])).splitlines()
    marked = [" ".join(line.split()) for line in lines if line.lstrip().startswith("*")]
    assert marked == ["* 4 2 10 ms 40 ms 2 B 1 MiB 50.0 % 1.75 us 3/4"]
    assert max(map(len, lines)) <= 120


def test_comparison_lines_up_predicted_and_measured() -> None:
    predicted = simulated()
    grid = comparison_grid(compare(predicted, predicted))
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
        "stall: receive",
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
