"""Nothing fails, and everything that was planned is run."""

from __future__ import annotations

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, number
from loadahead.reports.verdicts.records import FAILED, NOT_RUN, Record, everything, measured, name_of
from loadahead.sim.units import counted


def _find(evidence: Record) -> list[Found]:
    failed = [one for one in everything(evidence) if one["status"] == FAILED]
    missing = [one for one in everything(evidence) if one["status"] == NOT_RUN]
    if not failed and not measured(evidence):
        return [Found(value=None, detail=missing[0]["reason"] if missing else "nothing was measured")]
    details = []
    if failed:
        details.append(f"the first that failed: {name_of(failed[0])}: {failed[0]['reason']}")
    if missing:
        details.append(f"{counted(len(missing), 'planned part')} not run: {missing[0]['reason']}")
    return [Found(value=float(len(failed)), detail="; ".join(details), partial=bool(missing))]


RUNS = Claim(
    name="runs",
    text="no run fails",
    bound="at most",
    limit=0,
    find=_find,
    show=number,
    reason=f"{ISSUE}: whatever is planned can be run",
)
