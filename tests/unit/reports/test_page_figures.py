"""A page's figures: two layouts as SVG in it, files for slides beside it, and none of an earlier run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadahead.reports.page import figures, write_report
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout, Missing
from loadahead.reports.plots.style import new_figure, styled
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import Grid
from tests.support.pages import PageText
from tests.unit.reports.test_page import write_run

# Loads of another file than the page: what a browser would fetch by itself. xmlns names no address to fetch.
_LOADS = re.compile(r"""(?:src|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import|fetch\(""")
_MB = 10**6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with all its figures."""
    root = write_run(tmp_path_factory.mktemp("figures") / "run")
    write_report(root)
    return root


@styled()
def small(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    if not data.sweep:
        return Missing(title="A small figure", reason="there is no sweep")
    figure, ((axes,),) = new_figure(1.0, 1, 1)
    axes.plot([0, 1], [0, 1], color=PALETTE["accent"].light)
    numbers = Grid(headers=("x", "y"), rows=(("0", "0"), ("1", "1"))) if layout is Layout.WIDE else None
    title, caption = "A small figure", f"It is {layout.value}."
    return Drawing(figure=figure, title=title, caption=caption, numbers=numbers, files=("sweep.csv", "none.csv"))


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PLOTS", {"small": small})


def page_of(root: Path) -> str:
    return (root / "report.html").read_text(encoding="utf-8")


def test_every_figure_is_there_in_two_layouts_and_as_files(written: Path) -> None:
    page = page_of(written)
    # Nothing was tuned.
    names = sorted(set(PLOTS) - {"tuned_frontier", "tuned_boundaries"})
    assert sorted(path.name for path in (written / "figures").iterdir()) == sorted(
        f"{name}{ending}" for name in names for ending in (".png", ".svg")
    )
    assert page.count('<div class="wide">') == page.count('<div class="narrow">') == len(names)
    headings = [text for tag, text in PageText(page).headings if tag == "h3"]
    assert "What ran when" in headings and "Memory over time" in headings


def test_the_page_needs_no_other_file_and_no_network(written: Path) -> None:
    page = page_of(written)
    assert not _LOADS.search(page)
    files = {address for address in PageText(page).addresses if not address.startswith(("#", "data:"))}
    assert all((written / address).is_file() for address in files)
    assert "sweep.csv" in files and "figures/memory.svg" in files
    assert len(page) < 5 * _MB


def test_loads_over_the_network_would_be_found() -> None:
    for load in ('<img src="https://a.b/c">', "<script src=//a.b/c>", "url(http://a.b)", "@import 'x'", "fetch('x')"):
        assert _LOADS.search(load)


@pytest.mark.usefixtures("one_figure")
def test_colours_on_the_page_are_variables_and_in_files_light(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    page, file = write_report(root).read_text(encoding="utf-8"), (root / "figures/small.svg").read_text("utf-8")
    assert "stroke: var(--accent)" in page
    assert "var(" not in file and PALETTE["accent"].light in file
    assert ET.fromstring(file).tag == "{http://www.w3.org/2000/svg}svg"
    assert (root / "figures/small.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("one_figure")
def test_a_figure_has_its_caption_and_its_numbers(tmp_path: Path) -> None:
    page = PageText(write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8"))
    assert "It is wide." in page.text and "Its numbers as a table" in page.text
    assert "Drawn from" not in page.text
    assert [[("x", None), ("y", None)], [("0", "0"), ("0", "0")], [("1", "1"), ("1", "1")]] in page.tables


@pytest.mark.usefixtures("one_figure")
def test_each_layout_has_the_caption_of_what_it_shows(tmp_path: Path) -> None:
    """A phone had a picture of two ranks above what is said of four."""
    page = write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert '<p class="wide">It is wide.</p><p class="narrow">It is narrow.</p>' in page


def test_a_figure_names_the_files_that_it_is_drawn_from(written: Path) -> None:
    found = re.findall(r"<figcaption>.*?</figcaption>", page_of(written), re.DOTALL)
    files = {str(re.search(r"figures/(\w+)\.svg", one)[1]): PageText(one) for one in found}  # type: ignore[index]
    drawn_from = {name: [a for a in one.addresses if not a.startswith("figures/")] for name, one in files.items()}
    assert drawn_from["time_parts"] == ["predicted.jsonl", "measured.jsonl", "plan.json"]
    assert drawn_from["link_use"] == ["predicted.jsonl", "measured.jsonl", "plan.json", "costs.json"]
    assert drawn_from["front"] == drawn_from["heat_map"] == ["sweep.csv"]
    assert drawn_from["axis_time_memory"] == ["sweep.csv", "horizons.json"]


def test_figures_of_what_a_run_has_nothing_of_are_not_named_one_by_one(tmp_path: Path) -> None:
    """The page's last line names the part that is missing."""
    root = write_run(tmp_path / "run")
    for name in ("sweep.csv", "sweep.parquet", "horizons.json"):
        (root / name).unlink(missing_ok=True)
    text = PageText(write_report(root).read_text(encoding="utf-8")).text
    assert "Not drawn" not in text and "This run has no: the sweep" in text


@pytest.mark.usefixtures("one_figure")
def test_figures_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    write_report(root)
    (root / "sweep.csv").unlink()
    page = write_report(root).read_text(encoding="utf-8")
    assert "Not drawn: a small figure; there is no sweep." in PageText(page).text
    assert list((root / "figures").iterdir()) == []


@pytest.mark.usefixtures("one_figure")
def test_a_picture_of_too_much_markup_is_a_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_SVG_BYTES", 100)
    page: Any = PageText(write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8"))
    assert sum(address.startswith("data:image/png;base64,") for address in page.addresses) == 2
