"""Registers the figures of a validation by name. To add one: write its file, add its line; the page finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loadahead.reports.evidence_figures.horizons import horizons
from loadahead.reports.evidence_figures.peers import peers
from loadahead.reports.evidence_figures.predicted_measured import predicted_measured
from loadahead.reports.plots.base import Drawing, Missing

# The page shows them in this order.
FIGURES: dict[str, Callable[[Mapping[str, Any]], Drawing | Missing]] = {
    "predicted_measured": predicted_measured,
    "horizons": horizons,
    "peers": peers,
}

__all__ = ["FIGURES"]
