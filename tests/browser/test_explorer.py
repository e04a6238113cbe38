"""The explorer shows the sweep's own numbers and the timeline's own operations: by mouse, by keyboard, by touch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.points import MOST_BOXES
from loadahead.reports.run_data import load_run
from loadahead.sim.choice import choices, format_speed
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.stalls import stall_name
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.timeline import Timeline, write_timeline
from loadahead.sim.units import format_bytes, format_duration
from tests.browser.conftest import GROUNDS, WIDTHS

Opened = Callable[..., Any]
STRIP = "document.getElementById('ex-overview').getAttribute"
OWN = {"hardware.memory": "7500 kB", "model.units_per_stage": 4}
H2D, MICROBATCHES, HORIZONS = ["0.5 GB/s", "4 GB/s"], [4, 8], [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep over three axes, some of whose points do not fit."""
    folder = tmp_path_factory.mktemp("swept")
    axes = {"hardware.h2d": H2D, "microbatches": MICROBATCHES, "horizon": HORIZONS}
    la.sweep("uniform", axes, overrides=OWN, directory=folder)
    assert run(["report", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a prediction and of a step in which every operation began and ended later."""
    folder = tmp_path_factory.mktemp("measured")
    assert run(["simulate", "uniform", "--set", "hardware.h2d=0.5 GB/s", "-o", str(folder)]) == 0
    step = load_run(folder).predicted
    assert step is not None
    late = replace(step, source="cpu", start_ns=step.start_ns * 2, end_ns=step.end_ns * 2)
    late.header["summary"]["step_time_ns"] *= 2
    write_timeline(late, folder / "measured.jsonl")
    assert run(["report", str(folder)]) == 0
    return folder / "report.html"


def rows_of(page: Path) -> list[SweepRow]:
    return list(load_run(page.parent).sweep)


def row_at(rows: list[SweepRow], h2d: str, microbatches: int, horizon: int) -> SweepRow:
    wanted = {"hardware.h2d": h2d, "microbatches": microbatches, "horizon": horizon}
    (row,) = [row for row in rows if all(row.axes[axis] == value for axis, value in wanted.items())]
    return row


def numbers(page: Any) -> dict[str, tuple[str, str]]:
    """The table of numbers: by name the value and the difference to the chosen point."""
    rows = page.locator("#ex-numbers tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
    )
    return {name: (value, other) for name, value, other in rows}


def same_numbers(shown: dict[str, tuple[str, str]], row: SweepRow) -> None:
    """The table has the row's numbers, as Loadahead prints them everywhere."""
    assert shown["mb/s/GPU"][0] == format_speed(row)
    assert shown["step time"][0] == format_duration(row.step_time_ns)
    assert shown["peak device"][0] == format_bytes(row.peak_device_bytes)
    assert shown["peak host"][0] == format_bytes(row.peak_host_bytes)
    assert shown["overlap"][0] == f"{row.overlap:.1%}".replace("%", " %")
    assert shown["stall: offload"][0] == format_duration(row.stall_release_ns)
    assert shown["stall: prefetch"][0] == format_duration(row.stall_prefetch_ns)
    assert shown["stall: send"][0] == format_duration(row.stall_send_ns)
    assert shown["stall: receive (bubble)"][0] == format_duration(row.stall_recv_ns)
    assert shown["offloaded"][0] == f"{row.offloaded} of {row.offloaded + row.kept}"


def slide(page: Any, name: str, place: int) -> None:
    """Move a slider by the keyboard alone."""
    slider = page.get_by_label(name, exact=True)
    slider.focus()
    slider.press("Home")
    for _ in range(place):
        slider.press("ArrowRight")


def waits(step: Timeline) -> dict[int, tuple[int, int]]:
    """Each operation's wait and the kind it waited for, by the words of the rule; the host takes no time."""
    assert step.plan is not None
    end, ops, out = step.end_ns.tolist(), step.plan.ops, {}
    last: dict[tuple[int, int], int] = {}
    for i, (rank, queue) in enumerate(zip(ops.rank.tolist(), ops.queue.tolist(), strict=True)):
        before = ops.after[i].tolist()
        latest = max((end[j] for j in before), default=0)
        wait = max(latest - last.get((rank, queue), 0), 0)
        out[i] = wait, next((int(ops.kind[j]) for j in before if end[j] == latest), -1) if wait else -1
        last[rank, queue] = end[i]
    return out


def words(step: Timeline, op: int) -> list[str]:
    """What has to be said of an operation."""
    assert step.plan is not None
    wait, cause = waits(step)[op]
    said = [
        f"{Kind(int(step.kind[op])).name}, rank {step.rank[op]}",
        f"unit {step.unit[op]}",
        f"microbatch {step.microbatch[op]}",
        f"starts at {format_duration(int(step.start_ns[op]))}",
        f"takes {format_duration(int(step.end_ns[op] - step.start_ns[op]))}",
    ]
    on_compute = step.queue[op] == Queue.COMPUTE
    if on_compute and not wait:
        said.append("did not wait")
    elif on_compute and stall_name(Kind(cause)):
        said.append(f"waited {format_duration(wait)} for {Kind(cause).name}")
    elif wait:
        said.append(f"its queue was free for {format_duration(wait)} until {Kind(cause).name} ended")
    nbytes = int(step.plan.ops.nbytes[op])
    return [*said, f"moves {format_bytes(nbytes)}"] if nbytes else said


def test_each_slider_shows_its_points_numbers(swept: Path, opened: Opened) -> None:
    page, rows = opened(swept), rows_of(swept)
    (choice,) = choices(rows)
    same_numbers(numbers(page), choice.row)
    assert {other for _, other in numbers(page).values()} == {"–"}
    at = [H2D.index(choice.row.axes["hardware.h2d"]), MICROBATCHES.index(choice.row.microbatches), 0]
    for place, horizon in enumerate(HORIZONS):
        slide(page, "horizon", place)
        same_numbers(numbers(page), row_at(rows, H2D[at[0]], MICROBATCHES[at[1]], horizon))
    for place, microbatches in enumerate(MICROBATCHES):
        slide(page, "microbatches", place)
        same_numbers(numbers(page), row_at(rows, H2D[at[0]], microbatches, HORIZONS[-1]))
    for place, h2d in enumerate(H2D):
        slide(page, "hardware.h2d", place)
        row = row_at(rows, h2d, MICROBATCHES[-1], HORIZONS[-1])
        same_numbers(numbers(page), row)
        assert page.locator("output").all_inner_texts().count(h2d) == 1
        more = row.peak_device_bytes - choice.row.peak_device_bytes
        assert numbers(page)["peak device"][1] == (f"+{format_bytes(more)}" if more else "the same")
        missing = f"does not fit: {format_bytes(row.missing_device_bytes)} of device memory missing"
        assert missing in page.locator("#ex-marks").inner_text()


def test_buttons_go_to_the_marked_points(swept: Path, opened: Opened) -> None:
    page, rows = opened(swept), rows_of(swept)
    able = [row for row in rows if row.fits]
    assert 0 < len(able) < len(rows)
    page.get_by_role("button", name="leanest that fits").click()
    assert numbers(page)["peak device"][0] == format_bytes(min(row.peak_device_bytes for row in able))
    page.get_by_role("button", name="most per GPU").click()
    best = min(able, key=lambda row: row.step_time_ns / row.microbatches)
    assert numbers(page)["mb/s/GPU"][0] == format_speed(best)
    assert "fits in 7.153 MiB" in page.locator("#ex-marks").inner_text()
    page.get_by_role("button", name="chosen point").click()
    assert "chosen" in page.locator("#ex-marks").inner_text()
    assert page.get_by_role("button", name="chosen point").get_attribute("aria-pressed") == "true"


def test_other_work_is_no_slower_step(swept: Path, opened: Opened) -> None:
    """The chosen point has other microbatches: a microbatch's time is compared, and what adds up over a step is not."""
    page, rows = opened(swept), rows_of(swept)
    (choice,) = choices(rows)
    other = next(i for i, number in enumerate(MICROBATCHES) if number != choice.row.microbatches)
    slide(page, "microbatches", other)
    row = row_at(rows, choice.row.axes["hardware.h2d"], MICROBATCHES[other], choice.row.horizon)
    found = numbers(page)
    assert found["step time"][1] == f"of {row.microbatches} microbatches instead of {choice.row.microbatches}"
    each, best = (one.step_time_ns * (one.gpus or 1) / one.microbatches for one in (row, choice.row))
    (name,) = [name for name in found if name.endswith("time per microbatch")]
    assert found[name][0] == format_duration(round(each))
    assert found[name][1] == f"{'+' if each > best else '−'}{abs(each / best - 1):.1%}".replace("%", " %")
    assert found["stall: offload"][1] == found["offloaded"][1] == "–"
    assert found["peak device"][1] != "–"


def test_the_picture_is_the_figures(swept: Path, opened: Opened) -> None:
    """Memory goes to the right and time upward; the front is stairs down to the right; the chosen point is ringed."""
    page, rows = opened(swept), rows_of(swept)
    places = {}
    for place, (h2d, horizon) in enumerate([(H2D[0], 0), (H2D[0], 5), (H2D[1], 5)]):
        slide(page, "hardware.h2d", H2D.index(h2d))
        slide(page, "horizon", horizon)
        mark = page.locator("#ex-current")
        row = row_at(rows, h2d, int(page.locator("output").first.inner_text()), HORIZONS[horizon])
        places[place] = (float(mark.get_attribute("cx")), float(mark.get_attribute("cy")), row)
    for x, y, row in places.values():
        for x2, y2, other in places.values():
            assert (x < x2) == (row.peak_device_bytes < other.peak_device_bytes)
            assert (y > y2) == (row.step_time_ns < other.step_time_ns) or abs(y - y2) < 0.01
    stairs = re.findall(r"([HV])([\d.]+)", page.locator("#ex-scatter path.front").get_attribute("d"))
    assert [way for way, _ in stairs] == ["H", "V"] * (len(stairs) // 2)
    along, up = ([float(to) for way, to in stairs if way == one] for one in "HV")
    assert along == sorted(along) and up == sorted(up)
    assert page.locator("#ex-scatter circle.chosen").count() == 1
    assert "Ringed: the chosen one." in page.locator("#ex-scatter-caption").inner_text()


def test_a_sweep_of_one_point_has_nothing_to_choose(tmp_path: Path, opened: Opened) -> None:
    la.sweep("uniform", {"horizon": [2]}, overrides={"hardware.memory": "1 MB"}, directory=tmp_path)
    assert run(["report", str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html")
    explorer = page.locator("#explorer")
    assert explorer.locator("input, [data-go], #ex-scatter, #ex-against").count() == 0
    text = explorer.inner_text()
    assert "does not fit" in text and "chosen" not in text and "slider" not in text
    cells = page.locator("#ex-numbers tr").first.locator("td").count()
    assert cells == 1


def test_where_nothing_fits_the_nearest_is_marked_and_none_chosen(tmp_path: Path, opened: Opened) -> None:
    la.sweep("uniform", {"horizon": [1, 2, 3]}, overrides={"hardware.memory": "1 MB"}, directory=tmp_path)
    assert run(["report", str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html")
    assert "chosen" not in page.locator("#explorer .ex-choose").inner_text()
    assert page.locator("#ex-against").inner_text() == "against nearest"
    assert "Ringed: the nearest to fit one." in page.locator("#ex-scatter-caption").inner_text()
    # A cross for each of the three, the nearest too.
    assert page.locator("#ex-scatter path.misfits").get_attribute("d").count("M") == 3
    assert page.locator("#ex-current").get_attribute("fill") == "none"


@pytest.mark.parametrize("width", WIDTHS)
def test_models_are_chosen_by_name(tmp_path: Path, opened: Opened, width: str, audit: Callable[[Any], None]) -> None:
    """Also by one of many strange letters, which goes nowhere beyond the edge."""
    strange = '</script> it\'s "one" Ωμέγα 模型 ' + "long" * 60
    la.sweep("uniform", {"horizon": [1, 2], "offload.horizon_unit": ["tasks", "layers"]}, directory=tmp_path)
    table = tmp_path / "sweep.csv"
    table.write_text(table.read_text().replace("layers", '"' + strange.replace('"', '""') + '"'))
    (tmp_path / "points.json").unlink()
    assert run(["report", str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html", width)
    box = page.locator("#explorer select")
    assert box.count() == 1 and box.locator("option").all_inner_texts() == ["tasks", strange]
    box.select_option(strange)
    assert box.input_value() == "1" and page.locator("#ex-numbers tr").count() > 5
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    audit(page)


def test_a_click_on_the_picture_chooses_its_point(swept: Path, opened: Opened) -> None:
    page, rows = opened(swept), rows_of(swept)
    slide(page, "horizon", len(HORIZONS) - 1)
    slide(page, "microbatches", 0)
    slide(page, "hardware.h2d", 0)
    ring = page.locator("#ex-current")
    x, y = float(ring.get_attribute("cx")), float(ring.get_attribute("cy"))
    page.get_by_role("button", name="chosen point").click()
    page.locator("#ex-scatter").click(position={"x": x, "y": y})
    worst = row_at(rows, H2D[0], MICROBATCHES[0], HORIZONS[-1])
    assert numbers(page)["step time"][0] == format_duration(worst.step_time_ns)
    assert numbers(page)["peak device"][0] == format_bytes(worst.peak_device_bytes)


def test_pointing_at_an_operation_names_it(swept: Path, opened: Opened) -> None:
    page, rows = opened(swept), rows_of(swept)
    (choice,) = choices(rows)
    axes = choice.row.axes
    own = {"parallel.microbatches": axes["microbatches"], "offload.activation_loading_horizon": axes["horizon"]}
    step = la.simulate("uniform", OWN | own | {"hardware.h2d": axes["hardware.h2d"]})
    page.get_by_role("button", name="all", exact=True).click()
    for kind in ("FORWARD", "OFFLOAD", "PREFETCH", "BACKWARD"):
        box = page.locator(f"#ex-gantt rect[data-kind={kind}]").nth(5)
        op = int(box.get_attribute("data-op"))
        box.hover()
        assert ("wait" in page.locator("#ex-readout").inner_text()) is (kind in ("FORWARD", "BACKWARD"))
        for said in words(step, op):
            assert said in page.locator("#ex-readout").inner_text()
            assert said in page.locator("#ex-tip").inner_text()
    waiting = page.locator("#ex-gantt rect[data-wait]")
    assert waiting.count() > 0
    op = int(waiting.first.get_attribute("data-op"))
    waiting.first.hover()
    assert waits(step)[op][0] > 0
    assert words(step, op)[5] in page.locator("#ex-readout").inner_text()


def test_by_keyboard_from_operation_to_operation(swept: Path, opened: Opened) -> None:
    page = opened(swept)
    page.get_by_role("button", name="all", exact=True).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    strip = page.locator("#ex-overview")
    assert strip.evaluate("one => one === document.activeElement")
    whole = strip.get_attribute("aria-valuetext")
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_function(f"{STRIP}('aria-valuetext') !== '{whole}'")
    page.keyboard.press("End")
    page.wait_for_function(f"{STRIP}('aria-valuenow') === '100'")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{STRIP}('aria-valuenow') < 100")
    page.keyboard.press("0")
    page.keyboard.press("Tab")
    readout = page.locator("#ex-readout")
    seen = []
    for name in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "End"):
        page.keyboard.press(name)
        seen.append(readout.inner_text())
    assert len(set(seen)) == len(seen)
    assert seen[0].startswith("FORWARD") and seen[2].startswith("OFFLOAD")
    # The last operation lies outside what is zoomed to, until it is gone to.
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("+")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#ex-gantt .picked')")
    page.keyboard.press("Escape")
    assert page.locator("#ex-gantt .picked").count() == 0


def test_the_wheel_zooms_and_dragging_moves_along(swept: Path, opened: Opened) -> None:
    page = opened(swept)
    page.get_by_role("button", name="all", exact=True).click()
    chart = page.locator("#ex-gantt")
    chart.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a wheel right after the page moved goes on moving the page
    box = chart.bounding_box()
    whole = page.locator("#ex-gantt rect[data-kind]").count()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    for _ in range(6):
        page.mouse.wheel(0, -240)
    page.wait_for_function("n => document.querySelectorAll('#ex-gantt rect[data-kind]').length < n", arg=whole / 2)
    before = page.locator("#ex-overview").get_attribute("aria-valuenow")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 300, box["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_function(f"{STRIP}('aria-valuenow') > {before}")


def test_other_points_say_how_to_get_theirs(swept: Path, opened: Opened) -> None:
    page = opened(swept)
    slide(page, "microbatches", 0)
    slide(page, "hardware.h2d", 0)
    slide(page, "horizon", 4)
    assert not page.locator("#ex-step").is_visible()
    line = page.locator("#ex-command").inner_text()
    assert line == (
        "loadahead simulate uniform --set 'hardware.memory=7500 kB' --set model.units_per_stage=4 "
        "--set parallel.microbatches=4 --set offload.activation_loading_horizon=5 --set 'hardware.h2d=0.5 GB/s' "
        "-o point && loadahead report point"
    )
    page.get_by_role("button", name="chosen point").click()
    assert page.locator("#ex-step").is_visible() and not page.locator("#ex-none").is_visible()


@pytest.mark.parametrize("ground", GROUNDS)
def test_on_a_phone_by_touch(swept: Path, opened: Opened, ground: str) -> None:
    page, rows = opened(swept, "phone", ground, has_touch=True), rows_of(swept)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="leanest that fits").tap()
    leanest = min((row for row in rows if row.fits), key=lambda row: row.peak_device_bytes)
    assert numbers(page)["peak device"][0] == format_bytes(leanest.peak_device_bytes)
    slider = page.get_by_label("horizon", exact=True)
    assert slider.bounding_box()["width"] > 300
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 6, box["y"] + box["height"] / 2)
    assert page.locator("output").nth(1).inner_text() == str(HORIZONS[-1])
    page.get_by_role("button", name="chosen point").tap()
    one = page.locator("#ex-gantt rect[data-kind=BACKWARD]").nth(3)
    one.scroll_into_view_if_needed()
    place = one.bounding_box()
    page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert page.locator("#ex-readout").inner_text().startswith("BACKWARD, rank")
    assert not page.locator("#ex-tip").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_predicted_above_measured(measured: Path, opened: Opened) -> None:
    page = opened(measured)
    assert page.locator("input[type=range]").count() == 0
    assert page.locator("#ex-memory p").first.inner_text().count("MiB predicted") == 1
    page.get_by_role("button", name="all", exact=True).click()
    assert page.locator("#ex-sides li").all_inner_texts() == ["predicted", "measured"]
    for chart in page.locator("#ex-memory svg").all():
        levels = [text for text in chart.locator("text.quiet").all_text_contents() if text.endswith("iB")]
        assert len(levels) >= 2
    step = load_run(measured.parent).predicted
    assert step is not None
    above = page.locator("#ex-gantt rect[data-kind=BACKWARD][data-side=predicted]").nth(2)
    op = above.get_attribute("data-op")
    below = page.locator(f"#ex-gantt rect[data-kind=BACKWARD][data-side=measured][data-op='{op}']")
    assert below.bounding_box()["y"] > above.bounding_box()["y"]
    assert below.bounding_box()["width"] == pytest.approx(2 * above.bounding_box()["width"], rel=0.2)
    below.hover()
    said = page.locator("#ex-readout").inner_text()
    start, takes = int(step.start_ns[int(op)]), int((step.end_ns - step.start_ns)[int(op)])
    assert f"predicted: starts at {format_duration(start)} · takes {format_duration(takes)}" in said
    assert f"measured: starts at {format_duration(2 * start)} · takes {format_duration(2 * takes)}" in said
    assert f"started {format_duration(start)} later, took +100.0 % against the prediction" in said


def test_a_sweep_of_many_ranks(tmp_path: Path, opened: Opened) -> None:
    many = {"parallel.pipeline_parallel_degree": 64}
    la.sweep("uniform", {"microbatches": [64, 256], "horizon": [1, 2]}, overrides=many, directory=tmp_path)
    assert run(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    page, rows = opened(tmp_path / "report.html"), rows_of(tmp_path / "report.html")
    slide(page, "microbatches", 1)
    slide(page, "horizon", 1)
    (row,) = [row for row in rows if (row.microbatches, row.horizon) == (256, 2)]
    same_numbers_of_many(numbers(page), row)
    assert "2 of 64 ranks are shown" in page.locator("#ex-note").inner_text()
    assert "marked in the strip above them" in page.locator("#ex-note").inner_text()
    page.get_by_role("button", name="all", exact=True).click()
    drawn = page.locator("#ex-gantt rect[data-kind]").evaluate_all("boxes => boxes.map(box => box.dataset.op)")
    assert 0 < len(drawn) <= 2 * MOST_BOXES
    own = {"parallel.microbatches": 256, "offload.activation_loading_horizon": 2}
    step = la.simulate("uniform", many | own)
    assert set(np.unique(step.rank[[int(op) for op in drawn]]).tolist()) == {
        int(text.removeprefix("rank "))
        for text in page.locator("#ex-gantt text[font-weight='600']").all_text_contents()
    }


def same_numbers_of_many(shown: dict[str, tuple[str, str]], row: SweepRow) -> None:
    """As :func:`same_numbers`; a host has several GPUs."""
    same_numbers(shown, row)
    if row.host_bytes != row.peak_host_bytes:
        assert shown["host, all GPUs"][0] == format_bytes(row.host_bytes)


def test_sizes_and_times_read_as_everywhere(swept: Path, opened: Opened) -> None:
    """The script's own formatting is Python's, halves that are rounded to the even digit among them."""
    script = (Path(__file__).parents[2] / "reports" / "web" / "explorer.js").read_text()
    start, end = script.index("  function fourDigits"), script.index("  const percent")
    amounts = [0, 1, 999, 1023, 1024, 1_114_112, 1_113_088, 10_485_759, 9_999 * 2**20, 2**40 - 1, 12_345_500, 99_995]
    amounts += [17 * 2**20 + k * 2**14 for k in range(1, 64)] + [3**k for k in range(1, 33)]
    body = f"{script[start:end]} return amounts.map(amount => [bytes(amount), time(amount)]);"
    found = opened(swept).evaluate(f"amounts => {{ {body} }}", amounts)
    assert found == [[format_bytes(amount), format_duration(amount)] for amount in amounts]
