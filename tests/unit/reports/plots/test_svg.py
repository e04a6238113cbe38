"""Figures as SVG inside a page: the page's colours, texts that stay texts, ids of their own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout
from loadahead.reports.plots.svg import shorter, themed_svg
from tests.support import tuned_runs
from tests.support.pictures_of_runs import both, sweep_data


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", PLOTS)
def test_every_figure_has_the_palettes_colours_alone(name: str, layout: Layout) -> None:
    drawn = (PLOTS[name](data, layout) for data in (both(), sweep_data(), tuned_runs.many()))
    drawing = next(one for one in drawn if isinstance(one, Drawing))
    text = themed_svg(drawing, "here")
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b(?![^<]*\))", re.sub(r"(href=\"|url\()#[^\")]*", "", text)), (
        "a colour of its own"
    )
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", text)) <= set(PALETTE)
    root = ET.fromstring(text)
    assert root.get("role") == "img" and root.get("aria-label") == f"{drawing.title}. {drawing.caption}"
    ids = [found for found in (element.get("id") for element in root.iter()) if found is not None]
    assert ids and all(found == "here" or found.startswith("here-") for found in ids) and len(set(ids)) == len(ids)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]*)", text))
    assert used <= set(ids)
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    known = ("time", "horizon", "microbatch")
    assert any(word and any(part in word for part in known) for word in words), "texts are texts"


def test_equal_figures_give_equal_text() -> None:
    first, second = (PLOTS["time_parts"](both()) for _ in range(2))
    assert isinstance(first, Drawing) and isinstance(second, Drawing)
    assert themed_svg(first, "a") == themed_svg(second, "a")
    assert themed_svg(first, "a") != themed_svg(second, "b")


def corners(path: str) -> list[tuple[float, float]]:
    """The points that a path of lines leads through, two equal ones behind each other told once."""
    out: list[tuple[float, float]] = []
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        found = [float(number) for number in numbers.split()]
        if letter in "ML":
            to = found[0], found[1]
        elif letter in "HV":
            to = (found[0], out[-1][1]) if letter == "H" else (out[-1][0], found[0])
        else:
            continue
        if letter == "M" or to != out[-1]:
            out.append(to)
    return out


@given(
    st.lists(st.tuples(st.sampled_from([0, 1.5, 2.004, -3]), st.sampled_from([0, 7.25, 100])), min_size=2, max_size=12)
)
def test_a_shorter_path_leads_through_the_same_points(points: list[tuple[float, float]]) -> None:
    """Rounded to hundredths: 2.004 and 2 are one place."""
    path = "M " + " \nL ".join(f"{x} {y}" for x, y in points)
    rounded = "M " + " L ".join(f"{round(x, 2)} {y}" for x, y in points)
    assert corners(shorter(path)) == corners(rounded)
    assert len(shorter(path)) < len(path)
    # A line of no length has a round end to be seen.
    assert re.search("[LHV]", shorter(path))


def test_curves_keep_their_numbers() -> None:
    assert shorter("M 0 2.456 \nC 1 2 3.10 4 5 6.00 \nL 5 8 \nz \nM 0 0 \nL 1 0") == "M0 2.46C1 2 3.1 4 5 6V8zM0 0H1"


def test_boxes_of_one_look_are_one_path() -> None:
    """A long step has some thousand; drawn as one they look the same."""
    drawing = PLOTS["gantt"](both())
    assert isinstance(drawing, Drawing)
    text = themed_svg(drawing, "here")
    looks = [look for _, look in re.findall(r'<path d="([^"]*z)"( [^>]*)/>', text)]
    boxes = sum(path.count("z") for path, _ in re.findall(r'<path d="([^"]*z)"( [^>]*)/>', text))
    assert boxes > 4 * len(looks)
