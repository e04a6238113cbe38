"""Names every colour of figures and pages, with its value on a light and on a dark ground.

Figures in files have the light values; on a page each colour is a variable that follows the reader's setting. Hues are
those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    # Cells of a heat map, from little to much: "ink" can be read on the first half, "ground" on the others.
    "heat-0": Colour(light="#dcebf7", dark="#1c2f42"),
    "heat-1": Colour(light="#b3d3ea", dark="#204766"),
    "heat-2": Colour(light="#84b7db", dark="#2a5f8c"),
    "heat-3": Colour(light="#3579b0", dark="#5593c4"),
    "heat-4": Colour(light="#215f96", dark="#7fb4de"),
    "heat-5": Colour(light="#0f4577", dark="#b3d7f2"),
}
