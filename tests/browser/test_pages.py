"""Pages as a reader has them: a quiet console, nothing beyond the edge, tables that sort, a switch for the ground."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run
from tests.browser.conftest import GROUNDS, WIDTHS
from tests.support import tuned_runs
from tests.support.tuned_runs import plain_of, write_tuned
from tests.unit.reports.test_page import write_run

# WCAG 2.2, success criterion 2.5.8: targets of 24 by 24 CSS pixels, links inside a sentence aside.
_TARGETS = """
[...document.querySelectorAll("button, summary, nav a, .ground input")]
  .filter((one) => one.checkVisibility())
  .map((one) => [one.textContent, one.getBoundingClientRect().width, one.getBoundingClientRect().height])
  .filter(([text, width, height]) => width < 24 || height < 24)
"""


def reported(folder: Path) -> Path:
    assert run(["report", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a prediction alone, of a sweep, of a run as the demo writes it, and of a tuned plan."""
    root = tmp_path_factory.mktemp("pages")
    assert run(["simulate", "shared-switch", "-o", str(root / "prediction")]) == 0
    assert run(["sweep", "uniform", "--horizon", "1:4", "--microbatches", "4,8", "-o", str(root / "sweep")]) == 0
    write_run(root / "run")
    data = tuned_runs.many()
    write_tuned(root / "tuned", data, plain_of(data))
    return {name: reported(root / name) for name in ("prediction", "sweep", "run", "tuned")}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["prediction", "sweep", "run", "tuned"])
def test_a_page(pages: dict[str, Path], opened: Callable[..., Any], name: str, width: str, ground: str) -> None:
    page = opened(pages[name], width, ground)
    assert page.title().startswith("Loadahead")
    # Nothing lies beyond the right edge.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(_TARGETS) == []
    if width == "phone":
        high = page.locator("main li a, figcaption a").evaluate_all(
            "links => links.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().height)"
        )
        assert high and min(high) >= 24
    shown, hidden = ("narrow", "wide") if width == "phone" else ("wide", "narrow")
    assert page.locator(f"figure .{shown} svg").first.is_visible()
    assert not page.locator(f"figure .{hidden} svg").first.is_visible()


def test_a_table_sorts_by_value_with_the_keyboard(pages: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(pages["sweep"])
    table = page.locator("#sweep table")
    header = table.locator("th", has_text="step time")
    place = header.evaluate("cell => cell.cellIndex")

    def values() -> list[float]:
        column = f"table => [...table.tBodies[0].rows].map(row => Number(row.cells[{place}].dataset.value))"
        return list(table.evaluate(column))

    before = values()
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending" and values() == sorted(before)
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending" and values() == sorted(before, reverse=True)
    assert table.locator("th[aria-sort]").count() == 1


def test_the_ground_is_switched_by_keyboard_and_kept(pages: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(pages["prediction"], ground="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator(".ground input[value=system]").focus()
    page.keyboard.press("ArrowLeft")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark and page.locator(".ground input[value=dark]").is_checked()
    page.emulate_media(media="print")
    assert page.evaluate(ground) == light
    page.emulate_media(media="screen")
    page.locator(".ground input[value=system]").check(force=True)
    assert page.evaluate(ground) == light


def test_the_ground_is_switched_where_nothing_may_be_stored(pages: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(pages["prediction"])
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no') }})")
    page.reload()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".ground input[value=dark]").check(force=True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_contents_on_a_phone_fold_and_lead_somewhere(pages: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(pages["run"], "phone")
    # It takes no height beside the bar's.
    assert page.locator("header.bar").bounding_box()["height"] < 64
    assert not page.locator("nav.side").is_visible()
    page.locator(".contents > summary").press("Enter")
    page.locator(".contents a", has_text="How far to trust this").press("Enter")
    assert page.evaluate("location.hash") == "#trust"
    assert not page.locator(".contents nav").is_visible()


def test_a_wide_table_scrolls_in_its_own_box_and_its_first_column_stays(
    pages: dict[str, Path], opened: Callable[..., Any]
) -> None:
    page = opened(pages["sweep"], "phone")
    box = page.locator("#sweep .scroll")
    assert box.evaluate("one => one.scrollWidth > one.clientWidth")
    first = box.locator("tbody th").first
    left = first.bounding_box()["x"]
    box.focus()
    box.evaluate("one => one.scrollBy(120, 0)")
    assert first.bounding_box()["x"] == left
