"""What tuning found, as plain data: what a run directory keeps and the command line's JSON holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from loadahead.sim.step_metrics import METRIC_COLUMNS, SweepRow
from loadahead.sim.tuning.answer import Candidate, Frontier, Tuning
from loadahead.sim.tuning.reasons import Reasons
from loadahead.sim.tuning.words import sentence, sentences, set_by, which_leave


def tuning_to_dict(tuning: Tuning, frontier: Frontier | None = None, reasons: Reasons | None = None) -> dict[str, Any]:
    """Return the answer, and the frontier and the reasons where they were made, as plain data.

    Times are in ns, sizes in bytes.
    """
    said = sentences(tuning, frontier, reasons)
    return {
        "goal": tuning.goal.to_dict(),
        "limits": asdict(tuning.limits),
        "limit_ns": tuning.limit_ns,
        "fits": tuning.fits,
        "missing": asdict(tuning.missing),
        "chosen": _candidate(tuning.chosen),
        "keep_all": _candidate(tuning.keep_all),
        "horizon": None if tuning.horizon is None else _candidate(tuning.horizon),
        "horizons": tuning.horizons,
        "bound": asdict(tuning.bound) | {"set_by": set_by(tuning.bound)},
        "gap": tuning.gap,
        "frontier": None if frontier is None else _frontier(frontier),
        "reasons": None if reasons is None else asdict(reasons) | {"which_leave": which_leave(reasons)},
        "sentence": sentence(tuning),
        "sentences": said,
        "explanation": " ".join(said),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    policy = one.policy
    named = {"pipeline": policy.pipeline, "microbatches": policy.microbatches, "by_horizon": one.by_horizon}
    horizon = {"horizon": policy.horizon, "horizon_unit": policy.horizon_unit, "release_window": policy.release_window}
    return named | (horizon if one.by_horizon else {}) | _figures(one.row)


def _figures(row: SweepRow) -> dict[str, Any]:
    return dict(row.axes) | {name: getattr(row, name) for name in METRIC_COLUMNS}


def _frontier(frontier: Frontier) -> dict[str, Any]:
    return {
        "of_boundaries": frontier.of_boundaries,
        "points": [
            {"budget_bytes": point.budget_bytes, "bound_ns": point.tuning.bound.step_time_ns}
            | _candidate(point.tuning.chosen)
            for point in frontier.points
        ],
        "horizons": [_figures(row) for row in frontier.horizons],
        "keep_all": _figures(frontier.keep_all),
    }
