"""Draws a page's figures: each in two layouts as SVG, of which the reader's width shows one, and files for slides."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from loadahead.reports import run_directory
from loadahead.reports.page.markup import Html, element, joined, links, table
from loadahead.reports.page.outline import Block, Section, section
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout, Plot
from loadahead.reports.plots.svg import themed_svg
from loadahead.reports.run_data import RunData

# A picture with more markup than this is shown as PNG: a browser draws a few thousand boxes at once, no more.
MOST_SVG_BYTES = 400_000
_VARIABLE = re.compile(r"var\(--([a-z0-9-]+)\)")
_ENDINGS = (".svg", ".png")


def figures_section(data: RunData, folder: Path, whose: str = "") -> Section:
    """Draw every figure there is something to draw for, into files and for the page; name the others with the reason.

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
    """Save the figure, and return it in both layouts with its caption and its numbers."""
    png, svg = (path.with_name(path.name + ending) for ending in (".png", ".svg"))
    wide.settle()
    wide.save(png)
    markup = themed_svg(wide, f"{path.name}-wide")
    svg.write_text(_alone(markup), encoding="utf-8")
    narrow = plot(data, Layout.NARROW)
    pictures = [element("div", _picture(markup, wide, png), class_="wide")]
    if isinstance(narrow, Drawing):
        narrow.settle()
        small = _picture(themed_svg(narrow, f"{path.name}-narrow"), narrow, png)
        pictures.append(element("div", small, class_="narrow"))
    caption = element("figcaption", element("p", wide.caption), element("p", *_files(data, wide, svg, png)))
    return joined(element("figure", *pictures, caption), _numbers(wide))


def _picture(markup: str, drawing: Drawing, png: Path) -> Html:
    """Return the SVG as it is; one that is too large as the PNG of the wide layout."""
    if len(markup) <= MOST_SVG_BYTES:
        return Html(markup)
    encoded = base64.b64encode(png.read_bytes()).decode("ascii")
    return element("img", src=f"data:image/png;base64,{encoded}", alt=f"{drawing.title}. {drawing.caption}")


def _alone(markup: str) -> str:
    """Return a page's SVG as a file of its own, in the colours of a light ground."""
    text = _VARIABLE.sub(lambda found: PALETTE[found[1]].light if found[1] in PALETTE else found[0], markup)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _files(data: RunData, drawing: Drawing, *pictures: Path) -> list[str]:
    """Return links to the figure's files, and to the numbers where no table of them stands below."""
    shown = [f"{run_directory.FIGURES_FOLDER}/{path.name}" for path in pictures]
    parts: list[str] = ["As a file: ", links(shown), "."]
    numbers = _number_files(data) if drawing.numbers is None else []
    return [*parts, " Numbers behind the figures: ", links(numbers), "."] if numbers else parts


def _number_files(data: RunData) -> list[str]:
    held = {
        run_directory.PREDICTED: data.predicted is not None,
        run_directory.MEASURED: data.measured is not None,
        run_directory.SWEEP_CSV: bool(data.sweep),
        run_directory.HORIZONS: bool(data.horizons),
    }
    return [name for name, is_held in held.items() if is_held and _is_there(data, name)]


def _is_there(data: RunData, name: str) -> bool:
    return data.directory is not None and (data.directory / name).is_file()


def _numbers(drawing: Drawing) -> Html:
    if drawing.numbers is None:
        return Html()
    label = f"The numbers of: {drawing.title}"
    return element("details", element("summary", "Its numbers as a table"), table(drawing.numbers, label))
