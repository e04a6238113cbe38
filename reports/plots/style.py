"""Gives every figure one look: the palette's colours, few lines, no frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from loadahead.reports.palette import PALETTE
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.sim.ir.kinds import Kind

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The page shows figures at this width; text is set in points of that size.
WIDTH_INCHES, DPI = 10.0, 160

# Files have the values for a light ground; a page puts those of the reader's ground in their places (svg.py).
LIGHT = {name: colour.light for name, colour in PALETTE.items()}
PREDICTED, MEASURED = LIGHT["predicted"], LIGHT["measured"]
GROUND, INK, QUIET, FAINT = LIGHT["ground"], LIGHT["ink"], LIGHT["quiet"], LIGHT["line"]

KIND_COLOUR: dict[Kind, str] = {
    Kind.FORWARD: LIGHT["forward"],
    Kind.RECOMPUTE: LIGHT["recompute"],
    Kind.BACKWARD: LIGHT["backward"],
    Kind.BACKWARD_INPUT: LIGHT["backward"],
    Kind.BACKWARD_WEIGHT: LIGHT["backward-weight"],
    Kind.OFFLOAD: LIGHT["offload"],
    Kind.PREFETCH: LIGHT["prefetch"],
    Kind.SEND_ACTIVATION: LIGHT["send-activation"],
    Kind.SEND_GRADIENT: LIGHT["send-gradient"],
    Kind.RECV_ACTIVATION: LIGHT["send-activation"],
    Kind.RECV_GRADIENT: LIGHT["send-gradient"],
    Kind.OPTIMIZER_STEP: LIGHT["optimizer"],
}
STALL_COLOUR = {stall: LIGHT[look.colour] for stall, look in STALL_LOOKS.items()}
STALL_HATCH = {stall: look.hatch for stall, look in STALL_LOOKS.items()}
STALL_LABEL = {stall: look.label for stall, look in STALL_LOOKS.items()}

# Lines of one panel have these colours when they are variants of a plan.
SERIES = tuple(LIGHT[f"series-{number}"] for number in range(1, 6))

# Every figure rings what is chosen, and has a diamond for what was measured.
CHOSEN: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
}

FONT = "DejaVu Sans"
# No text is smaller, on a phone neither.
SMALL = 7.5

_SETTINGS: Any = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.7,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "svg.hashsalt": "loadahead",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style inside the context, or to a function as a decorator, ``@styled()``. Nothing global changes."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A page's reader has fonts of more letters; a picture has boxes in place of those that ours lacks.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        yield


def new_figure(
    height: float, rows: int = 1, columns: int = 1, *, width: float = WIDTH_INCHES, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a grid of axes, as wide as a page or a layout; ``options`` go to ``Figure.subplots``.

    It is built without pyplot, so no display is needed and no figure stays behind.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, [list(row) for row in axes]


def light_grid(axes: Axes, axis: Literal["x", "y", "both"] = "y") -> None:
    """Draw faint lines behind the data along one axis."""
    axes.grid(axis=axis, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def time_scale(longest_ns: float) -> tuple[float, str]:
    """Return (divisor, unit) in which a time axis up to ``longest_ns`` reads well, with the units of sim.units."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if longest_ns >= factor * 2:
            return factor, unit
    return (1e3, "us") if longest_ns >= 1e3 else (1.0, "ns")


def byte_scale(largest: float) -> tuple[float, str]:
    """Return (divisor, unit) in which an axis up to ``largest`` bytes reads well."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if largest >= factor * 2:
            return float(factor), unit
    return 1.0, "B"


def legend_above(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> float:
    """Put a legend above all panels, in as few rows as the figure's width allows; return its height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside upper left", ncols=columns, handlelength=1.5, columnspacing=1.2
        )
        extent = legend.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
        if columns == 1 or extent.width <= 0.97 * figure.bbox.width:
            return float(extent.height / figure.dpi)
        legend.remove()
    return 0.0
