"""Shows the fronts of two sweeps beside each other, with what is chosen in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadahead.reports.axis_names import capital, not_drawn, some, values_text
from loadahead.reports.sweep_comparison import SweepComparison
from loadahead.reports.views.base import Missing
from loadahead.reports.views.front import MOST_PANELS, FrontPanel, panel_of
from loadahead.reports.views.timed import Timed, time_of
from loadahead.sim.choice import Choice
from loadahead.sim.step_metrics import SweepRow

TITLE = "The fronts of both sweeps"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontsPanel:
    """Holds one model's points in both sweeps; ``title`` is empty where there is one model."""

    title: str
    a: FrontPanel
    b: FrontPanel


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontsView:
    """Holds a panel for each model that both sweeps have, and by which time points compare."""

    panels: tuple[FrontsPanel, ...]
    models: int
    time: Timed
    other_models: tuple[str, str] | None = None

    @property
    def title(self) -> str:
        """Return the figure's title."""
        return f"{capital(self.time.name)} against peak device memory, in A and in B"

    @property
    def ringed(self) -> str:
        """Return what the rings are, in a word or two."""
        fit = [bool(side.fitting) for panel in self.panels for side in (panel.a, panel.b)]
        return "chosen" if all(fit) else "chosen, or nearest to fit" if any(fit) else "nearest to fit"

    @property
    def sentences(self) -> list[str]:
        """Return what the figure shows, in words."""
        parts = [] if self.other_models is None else ["A and B are of different models."]
        parts.append("Lines are the fronts: no point that fits takes less of one and no more of the other.")
        sides = [side for panel in self.panels for side in (panel.a, panel.b)]
        if not all(side.fitting for side in sides):
            parts.append("Where nothing fits it is the front of all points, and the ring the nearest to fit.")
        if any(side.fitting for side in sides):
            parts.append("Rings are the chosen points.")
        if self.time.sentence:
            parts.append(self.time.sentence)
        if len(self.panels) < self.models:
            parts.append(not_drawn(len(self.panels), self.models, "models"))
        return parts


def of(found: SweepComparison) -> FrontsView | Missing:
    """Return both fronts for each model that the sweeps have in common."""
    if not found.best:
        return Missing(title=TITLE, reason="the sweeps have no model in common")
    shown = some(found.best, MOST_PANELS)
    time = time_of([*found.a.rows, *found.b.rows])
    several = len(found.best) > 1
    panels = tuple(
        FrontsPanel(
            title=values_text(one.model) if several else "",
            a=_side(one.rows_a, found.a.rows, one.a, time),
            b=_side(one.rows_b, found.b.rows, one.b, time),
        )
        for one in shown
    )
    return FrontsView(panels=panels, models=len(found.best), time=time, other_models=found.other_models)


def _side(rows: Sequence[SweepRow], every: Sequence[SweepRow], choice: Choice, time: Timed) -> FrontPanel:
    own = {id(row) for row in rows}
    places = [place for place, row in enumerate(every) if id(row) in own]
    at = next(place for place, row in enumerate(every) if row is choice.row)
    return panel_of(every, places, replace(choice, index=at), time)
