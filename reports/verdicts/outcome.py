"""Shows verdicts and coverage as text and as a table, and raises an error where a claim does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadahead.reports.recorded_steps import predicted_step
from loadahead.reports.tables import Grid
from loadahead.reports.verdicts.base import FAILS, NOT_CLAIMED
from loadahead.reports.verdicts.records import FAILED, NOT_RUN, Record, everything, measured
from loadahead.sim.errors import CheckFailed
from loadahead.sim.units import counted


def coverage(evidence: Record) -> dict[str, Any]:
    """Return how many configurations were measured, and how far copying reached beside compute.

    The result is the evidence's ``facts``: numbers that no claim is about.
    """
    ratios = [predicted_step(record).copy_to_compute for record in measured(evidence) if record["offload"]]
    reach = {"low": min(ratios), "high": max(ratios), "configurations": len(ratios)} if ratios else None
    return {
        "configurations": {"measured": len(measured(evidence)), "planned": len(evidence["configurations"])},
        "copy_to_compute": reach,
    }


def measured_sentence(facts: Record) -> str:
    """Return how much was measured, such as ``8 of 8 configurations measured``."""
    count = facts["configurations"]
    return f"{count['measured']} of {counted(count['planned'], 'configuration')} measured"


def coverage_text(facts: Record) -> str:
    """Return the coverage in a sentence or two."""
    reach = facts["copy_to_compute"]
    if reach is None:
        return measured_sentence(facts)
    return (
        f"copying is predicted to take {reach['low']:.2f} to {reach['high']:.2f} times the compute of a step; "
        f"{measured_sentence(facts)}"
    )


def require_all(evidence: Record) -> None:
    """Raise CheckFailed when a claim does not hold, or when something that was planned was not run.

    A claim that no record bears on is no failure.
    """
    if not evidence["facts"]["configurations"]["measured"]:
        raise CheckFailed(f"nothing was measured: {_why_nothing(evidence)}")
    claimed = [verdict for verdict in evidence["verdicts"] if verdict["outcome"] != NOT_CLAIMED]
    failed = [verdict for verdict in claimed if verdict["outcome"] == FAILS]
    if failed:
        does = "does" if len(failed) == 1 else "do"
        raise CheckFailed(f"{len(failed)} of {counted(len(claimed), 'claim')} {does} not hold")
    missing = [record for record in everything(evidence) if record["status"] == NOT_RUN]
    if missing:
        raise CheckFailed(
            f"{counted(len(missing), 'planned part')} not run: {missing[0]['reason']}; "
            f"{measured_sentence(evidence['facts'])}, the same command goes on"
        )


def _why_nothing(evidence: Record) -> str:
    parts = everything(evidence)
    bad = [record for record in parts if record["status"] == FAILED] or [
        record for record in parts if record["status"] == NOT_RUN
    ]
    return str(bad[0]["reason"]) if bad else "the grid has no configurations"


def verdicts_grid(verdicts: Sequence[Record]) -> Grid:
    """Return a table with a row for each claim."""
    rows = [(v["outcome"], v["claim"], v["threshold"], v["shown"], v["detail"], v["reason"]) for v in verdicts]
    return Grid(
        headers=("", "claim", "limit", "found", "in", "why this limit"),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 4, 5}),
    )


def verdicts_text(verdicts: Sequence[Record]) -> str:
    """Return a line for each claim, and one for the cases that it was measured in."""
    lines = []
    for v in verdicts:
        lines.append(f"{v['outcome']:>13}: {v['claim']}: {v['shown']} ({v['threshold']})")
        if v["detail"]:
            lines.append(f"{'':15}{v['detail']}")
    return "\n".join(lines)


def outcome_text(evidence: Record) -> str:
    """Return the verdicts, and in the last line what was covered."""
    return f"{verdicts_text(evidence['verdicts'])}\n\n{coverage_text(evidence['facts'])}"
