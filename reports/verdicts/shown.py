"""Verdicts as text, as a table, and as an error."""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.reports.tables import Grid
from loadahead.reports.verdicts.base import FAILS, NOT_CLAIMED
from loadahead.reports.verdicts.facts import facts_text, measured_sentence
from loadahead.reports.verdicts.records import FAILED, NOT_RUN, Record, everything
from loadahead.sim.errors import CheckFailed
from loadahead.sim.units import counted


def require_all(evidence: Record) -> None:
    """CheckFailed when a claim does not hold, or when something that was planned was not run.

    A claim that no record bears on is no failure.
    """
    if not evidence["facts"]["configurations"]["measured"]:
        raise CheckFailed(f"nothing was measured: {_why(evidence)}")
    claimed = [verdict for verdict in evidence["verdicts"] if verdict["outcome"] != NOT_CLAIMED]
    failed = [verdict for verdict in claimed if verdict["outcome"] == FAILS]
    if failed:
        does = "does" if len(failed) == 1 else "do"
        raise CheckFailed(f"{len(failed)} of {counted(len(claimed), 'claim')} {does} not hold")
    missing = [one for one in everything(evidence) if one["status"] == NOT_RUN]
    if missing:
        raise CheckFailed(
            f"{counted(len(missing), 'planned part')} not run: {missing[0]['reason']}; "
            f"{measured_sentence(evidence['facts'])}, the same command goes on"
        )


def _why(evidence: Record) -> str:
    parts = everything(evidence)
    bad = [one for one in parts if one["status"] == FAILED] or [one for one in parts if one["status"] == NOT_RUN]
    return str(bad[0]["reason"]) if bad else "the grid has no configurations"


def verdicts_grid(found: Sequence[Record]) -> Grid:
    """A row for each claim."""
    rows = [(v["outcome"], v["claim"], v["threshold"], v["shown"], v["detail"], v["reason"]) for v in found]
    return Grid(
        headers=("", "claim", "limit", "found", "in", "why this limit"),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 4, 5}),
    )


def verdicts_text(found: Sequence[Record]) -> str:
    """A line for each claim, and one for what it was found in."""
    lines = []
    for v in found:
        lines.append(f"{v['outcome']:>13}: {v['claim']}: {v['shown']} ({v['threshold']})")
        if v["detail"]:
            lines.append(f"{'':15}{v['detail']}")
    return "\n".join(lines)


def facts_and_verdicts_text(evidence: Record) -> str:
    """The claims, and in the last line what was covered."""
    return f"{verdicts_text(evidence['verdicts'])}\n\n{facts_text(evidence['facts'])}"
