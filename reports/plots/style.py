"""Gives every figure one look: colours that colour-blind readers can tell apart, few lines, no frames.

The colours are those of Okabe and Ito.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from loadahead.reports.stalls import STALL_LOOKS
from loadahead.sim.ir.kinds import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The page shows figures at this width; text is set in points of that size.
WIDTH_INCHES, DPI = 10.0, 160

PREDICTED, MEASURED = "#0072B2", "#D55E00"
INK, QUIET, FAINT = "#1f2933", "#67737e", "#dde3e8"

KIND_COLOUR: dict[Kind, str] = {
    Kind.FORWARD: "#0072B2",
    Kind.RECOMPUTE: "#56B4E9",
    Kind.BACKWARD: "#009E73",
    Kind.BACKWARD_INPUT: "#009E73",
    Kind.BACKWARD_WEIGHT: "#7fcfb6",
    Kind.OFFLOAD: "#D55E00",
    Kind.PREFETCH: "#CC79A7",
    Kind.SEND_ACTIVATION: "#E69F00",
    Kind.SEND_GRADIENT: "#8a6d00",
    Kind.RECV_ACTIVATION: "#E69F00",
    Kind.RECV_GRADIENT: "#8a6d00",
    Kind.OPTIMIZER_STEP: "#4b5560",
}
# Text on boxes of these kinds reads better in white.
DARK_KINDS = frozenset(
    {Kind.FORWARD, Kind.BACKWARD, Kind.BACKWARD_INPUT, Kind.OFFLOAD, Kind.PREFETCH, Kind.OPTIMIZER_STEP}
)
STALL_COLOUR = {stall: look.colour for stall, look in STALL_LOOKS.items()}
STALL_LABEL = {stall: look.label for stall, look in STALL_LOOKS.items()}

# Lines of one panel have these colours when they are variants of a plan.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
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
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "loadahead",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style inside the context, or to a function as a decorator, ``@styled()``. Nothing global changes."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of the page's width with a grid of axes; ``options`` go to ``Figure.subplots``.

    It is built without pyplot, so no display is needed and no figure stays behind.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
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
