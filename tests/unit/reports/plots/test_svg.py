"""Figures as SVG inside a page: the page's colours, texts that stay texts, ids of their own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout
from loadahead.reports.plots.svg import themed_svg
from tests.support.pictures_of_runs import both, sweep_data


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", PLOTS)
def test_every_figure_has_the_palettes_colours_alone(name: str, layout: Layout) -> None:
    drawing = PLOTS[name](both(), layout)
    if not isinstance(drawing, Drawing):
        drawing = PLOTS[name](sweep_data(), layout)
    assert isinstance(drawing, Drawing), drawing
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
    assert any((word and "time" in word) or (word and "horizon" in word) for word in words), "texts are texts"


def test_equal_figures_give_equal_text() -> None:
    first, second = (PLOTS["time_parts"](both()) for _ in range(2))
    assert isinstance(first, Drawing) and isinstance(second, Drawing)
    assert themed_svg(first, "a") == themed_svg(second, "a")
    assert themed_svg(first, "a") != themed_svg(second, "b")
