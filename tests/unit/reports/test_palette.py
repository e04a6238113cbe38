"""The palette: colours that mean something can be seen on both grounds, and told apart by readers without a cone."""

from __future__ import annotations

from itertools import combinations

import pytest

from loadahead.reports.palette import PALETTE
from loadahead.reports.stalls import STALL_LOOKS
from tests.support.colour_vision import DICHROMACIES, apart, contrast

# A delta E of 2.3 can just be told apart side by side (Mahy et al., 1994); small boxes that do not touch need far more.
LEAST_APART = 15
BESIDE_EACH_OTHER = {
    "on the compute queue": ("forward", "recompute", "backward", "backward-weight", "optimizer"),
    "stalls": tuple(look.colour for look in STALL_LOOKS.values()),
    "copies and sends": ("offload", "prefetch", "send-activation"),
    "sends": ("send-activation", "send-gradient"),
    "in memory": ("weights", "inside-units", "boundaries", "transport"),
    "where a number comes from": ("predicted", "measured"),
}
MEANING = sorted(
    {name for names in BESIDE_EACH_OTHER.values() for name in names} | {"ink", "quiet", "accent", "warning"}
)


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_what_carries_meaning_has_contrast_to_its_ground(ground: str) -> None:
    found = {name: contrast(getattr(PALETTE[name], ground), getattr(PALETTE["ground"], ground)) for name in MEANING}
    found |= {
        name: contrast(getattr(colour, ground), getattr(PALETTE["ground"], ground))
        for name, colour in PALETTE.items()
        if name.startswith("series")
    }
    assert {name: round(ratio, 2) for name, ratio in found.items() if ratio < 3} == {}


@pytest.mark.parametrize("reader", DICHROMACIES)
@pytest.mark.parametrize("ground", ["light", "dark"])
@pytest.mark.parametrize("place", BESIDE_EACH_OTHER)
def test_colours_drawn_beside_each_other_stay_apart(place: str, ground: str, reader: str) -> None:
    colours = {name: getattr(PALETTE[name], ground) for name in BESIDE_EACH_OTHER[place]}
    found = {(a, b): apart(colours[a], colours[b], reader) for a, b in combinations(colours, 2)}
    assert {pair: round(distance, 1) for pair, distance in found.items() if distance < LEAST_APART} == {}


def test_the_measure_finds_colours_that_look_alike() -> None:
    """The stalls of earlier figures: send and receive, which a protanope sees as one hue."""
    assert apart("#E69F00", "#8a6d00", "none") > apart("#E69F00", "#8a6d00", "protanopia")
    assert apart("#808000", "#ff0000", "protanopia") < apart("#808000", "#ff0000", "none") / 2
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_no_two_names_have_one_light_value() -> None:
    values = [colour.light.lower() for colour in PALETTE.values()]
    assert len(set(values)) == len(values)


def test_stalls_differ_by_hatch_as_well() -> None:
    assert len({look.hatch for look in STALL_LOOKS.values()}) == len(STALL_LOOKS)
