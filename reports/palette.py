"""Names every colour of figures and pages, with its value on a light and on a dark ground.

Figures in files have the light values; on a page each colour is a variable that follows the reader's setting. Hues are
near those of Okabe and Ito, whose yellow, orange and sky are too pale for a white ground. What carries meaning has a
contrast of at least 3 to 1 to its ground (WCAG 2.2, 1.4.11), and what is drawn side by side stays apart for readers who
lack one kind of cone; a test reckons both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Ground: TypeAlias = Literal["light", "dark"]
GROUNDS: tuple[Ground, Ground] = ("light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """Holds one colour's values, ``#rrggbb``. No two colours have the same light value, by which figures are themed."""

    light: str
    dark: str


PALETTE: dict[str, Colour] = {
    "ground": Colour(light="#ffffff", dark="#14191f"),
    "pale": Colour(light="#f4f6f8", dark="#1d242c"),
    "ink": Colour(light="#1f2933", dark="#e6ebf0"),
    "quiet": Colour(light="#5b6770", dark="#9fb0bf"),
    "line": Colour(light="#dde3e8", dark="#333d47"),
    "mark": Colour(light="#e8f2fa", dark="#1b3247"),
    "accent": Colour(light="#0072b2", dark="#58b0e6"),
    "warning": Colour(light="#d55e01", dark="#f08a4b"),
    "warning-ground": Colour(light="#fdf3ec", dark="#33231a"),
    # Where a number comes from.
    "predicted": Colour(light="#0071b3", dark="#58b0e5"),
    "measured": Colour(light="#c85000", dark="#f08a4c"),
    # What an operation does.
    "forward": Colour(light="#0b4491", dark="#4087da"),
    "recompute": Colour(light="#2870cf", dark="#86e3f2"),
    "backward": Colour(light="#006f2a", dark="#35ba7a"),
    "backward-weight": Colour(light="#3aa37e", dark="#a5e2c4"),
    "optimizer": Colour(light="#373042", dark="#8a96a2"),
    "offload": Colour(light="#a04c1a", dark="#f5924e"),
    "prefetch": Colour(light="#9e51aa", dark="#d27fd9"),
    "send-activation": Colour(light="#bf8305", dark="#f0bb1d"),
    "send-gradient": Colour(light="#6e4a12", dark="#a97c3c"),
    # What a compute queue waits for, where that is not one operation of its own rank.
    "bubble": Colour(light="#46350e", dark="#8c6827"),
    # What is in memory.
    "weights": Colour(light="#5b5558", dark="#66706c"),
    "inside-units": Colour(light="#3d94d1", dark="#2a7fd0"),
    "boundaries": Colour(light="#c05000", dark="#f08a4d"),
    "keep-all": Colour(light="#00805b", dark="#35ba7c"),
    "transport": Colour(light="#874281", dark="#e89bd8"),
    # Lines of one panel that are variants of a plan.
    "series-1": Colour(light="#0070b2", dark="#58b0e4"),
    "series-2": Colour(light="#b87700", dark="#f0bb1e"),
    "series-3": Colour(light="#00805c", dark="#35ba7b"),
    "series-4": Colour(light="#a8508a", dark="#d889c4"),
    "series-5": Colour(light="#373043", dark="#b4bec8"),
    # Cells of a heat map, from little to much: "ink" can be read on the first half, "ground" on the others.
    "heat-0": Colour(light="#dcebf7", dark="#1c2f42"),
    "heat-1": Colour(light="#b3d3ea", dark="#204766"),
    "heat-2": Colour(light="#84b7db", dark="#2a5f8c"),
    "heat-3": Colour(light="#3579b0", dark="#5593c4"),
    "heat-4": Colour(light="#215f96", dark="#7fb4de"),
    "heat-5": Colour(light="#0f4577", dark="#b3d7f2"),
}


def declarations(ground: Ground) -> str:
    """Return the colours of one ground as variables of a style sheet, one after the other."""
    return " ".join(f"--{name}: {getattr(colour, ground)};" for name, colour in PALETTE.items())
