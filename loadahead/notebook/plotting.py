"""Draws a result's figure for a script or a notebook, and returns its axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loadahead.sim.errors import InputError

if TYPE_CHECKING:
    from loadahead.api import SweepTable
    from loadahead.reports.plots.panels import Panels
    from loadahead.runs import Run
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.timeline import Timeline
    from loadahead.training import TrainingStep
    from loadahead.tuning import Tuned


def plot(
    subject: Timeline | SweepTable | Run | Tuned | TrainingStep | Plan | Costs | str | Path,
    name: str | None = None,
    *,
    layout: str = "wide",
) -> Panels:
    """Return the axes of a result's figure, as a list; a notebook shows the list as the figure.

    The axes are matplotlib's, to be changed and added to. Their figure is ``axes.figure``, with
    ``axes.figure.savefig``; pyplot knows nothing of it, so that no window opens and nothing has to be closed.

    Args:
        subject: what to draw of; or a run directory's path.
        name: which figure, by the name of its file in a report; None: the one that says most of the subject. An
            unknown one is answered with all that the subject has.
        layout: ``"wide"`` for a page, ``"narrow"`` for a column or a phone.

    Raises InputError for a name or a subject that has no such figure, and says what is missing.
    """
    from loadahead.notebook.subjects import subject_at, subject_of
    from loadahead.reports.plots.panels import Panels, drawn, first_drawn, layout_named

    room = layout_named(layout)
    found = subject_at(subject) if isinstance(subject, str | Path) else subject_of(subject)
    if found is None:
        raise InputError(
            f"the subject to plot is of type {type(subject).__name__}; it must be a timeline, a sweep's table, a "
            "run, a tuned plan, a training step, a plan, costs or a run directory's path",
            parameters=("subject",),
        )
    if name is None:
        return Panels(first_drawn(found.data, found.figures, room, found.what))
    return Panels(drawn(found.data, name, room, found.what))
