"""Draws a page's figures: each in two layouts as SVG, of which the reader's width shows one, and files for slides."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from loadahead.reports import run_directory
from loadahead.reports.page.markup import Html, element, joined, links, table
from loadahead.reports.page.outline import Block, Section, section
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout, Plot
from loadahead.reports.plots.style import styled
from loadahead.reports.plots.svg import themed_svg
from loadahead.reports.run_data import RunData

# A picture with more markup than this is shown as PNG: a browser draws a few thousand boxes at once, no more.
MOST_SVG_BYTES = 400_000
_VARIABLE = re.compile(r"var\(--([a-z0-9-]+)\)")
_ENDINGS = (".svg", ".png")


def figures_section(data: RunData, folder: Path, whose: str = "") -> Section:
    """Draw every figure there is something to draw for, into files and for the page; name the others with the reason.

    Those that need a part that is not there at all are not named.
    ``whose`` begins the files' names, and tells two parts of a page apart.
    """
    blocks, missing = [], []
    folder.mkdir(exist_ok=True)
    for name, plot in PLOTS.items():
        wide, file = plot(data), f"{whose}{name}"
        if isinstance(wide, Drawing):
            blocks.append(Block(title=wide.title, body=_figure(data, plot, wide, folder / file)))
        else:
            # A figure of an earlier run must not stay beside a page that does not show it.
            _remove(folder / file)
            # What the run has nothing of is named once, in the page's last line.
            if not wide.absent:
                missing.append(element("p", f"Not drawn: {wide.title.lower()}; {wide.reason}.", class_="note"))
    return section("pictures", "Figures", *blocks, joined(*missing))


def remove_figures(folder: Path, whose: str) -> None:
    """Remove the files of a part that the page has no more."""
    for name in PLOTS:
        _remove(folder / f"{whose}{name}")


def _remove(path: Path) -> None:
    for ending in _ENDINGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _figure(data: RunData, plot: Plot, wide: Drawing, path: Path) -> Html:
    """Save the figure, and return it in both layouts, each with its own caption, and its numbers."""
    png, svg = (path.with_name(path.name + ending) for ending in (".png", ".svg"))
    wide.settle()
    wide.save(png)
    markup = themed_svg(wide, f"{path.name}-wide")
    svg.write_text(_alone(markup), encoding="utf-8")
    narrow = plot(data, Layout.NARROW)
    pictures, captions = [element("div", _picture(markup, wide), class_="wide")], [element("p", wide.caption)]
    if isinstance(narrow, Drawing):
        narrow.settle()
        pictures.append(element("div", _picture(themed_svg(narrow, f"{path.name}-narrow"), narrow), class_="narrow"))
        # A narrow picture shows less, and another stretch of a long step: what is said of one is not said of the other.
        if narrow.caption != wide.caption:
            captions = [element("p", one.caption, class_=name) for one, name in ((wide, "wide"), (narrow, "narrow"))]
    caption = element("figcaption", *captions, element("p", *_files(data, wide, svg, png)))
    return joined(element("figure", *pictures, caption), _numbers(wide))


def _picture(markup: str, drawing: Drawing) -> Html:
    """Return the SVG as it is; one that is too large as a PNG of the same drawing."""
    if len(markup) <= MOST_SVG_BYTES:
        return Html(markup)
    png = io.BytesIO()
    with styled():
        drawing.figure.savefig(png, format="png")
    encoded = base64.b64encode(png.getvalue()).decode("ascii")
    return element("img", src=f"data:image/png;base64,{encoded}", alt=f"{drawing.title}. {drawing.caption}")


def _alone(markup: str) -> str:
    """Return a page's SVG as a file of its own, in the colours of a light ground."""
    text = _VARIABLE.sub(lambda found: PALETTE[found[1]].light if found[1] in PALETTE else found[0], markup)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _files(data: RunData, drawing: Drawing, *pictures: Path) -> list[str]:
    """Return links to the figure's files, and to the numbers where no table of them stands below."""
    shown = [f"{run_directory.FIGURES_FOLDER}/{path.name}" for path in pictures]
    parts: list[str] = ["As a file: ", links(shown), "."]
    numbers = _number_files(data, drawing) if drawing.numbers is None else []
    return [*parts, " Drawn from: ", links(numbers), "."] if numbers else parts


def _number_files(data: RunData, drawing: Drawing) -> list[str]:
    """Return the files that the figure is drawn from; a sweep's table may be there in its other format alone."""
    folder = data.directory
    if folder is None:
        return []
    other = {run_directory.SWEEP_CSV: run_directory.SWEEP_PARQUET}
    named = (name if (folder / name).is_file() else other.get(name, name) for name in drawing.files)
    return [name for name in named if (folder / name).is_file()]


def _numbers(drawing: Drawing) -> Html:
    if drawing.numbers is None:
        return Html()
    label = f"The numbers of: {drawing.title}"
    return element("details", element("summary", "Its numbers as a table"), table(drawing.numbers, label))
