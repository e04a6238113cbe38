"""Claims that everything planned runs without a failure, and that planned runs are plain training, bit for bit."""

from __future__ import annotations

from loadahead.reports.verdicts.base import Claim, ClaimValue, number, worst_of
from loadahead.reports.verdicts.records import FAILED, MEASURED, NOT_RUN, Record, everything, measured, name_of
from loadahead.sim.units import counted


def _failed_runs(evidence: Record) -> list[ClaimValue]:
    failed = [record for record in everything(evidence) if record["status"] == FAILED]
    missing = [record for record in everything(evidence) if record["status"] == NOT_RUN]
    if not failed and not measured(evidence):
        return [ClaimValue(value=None, detail=missing[0]["reason"] if missing else "nothing was measured")]
    details = []
    if failed:
        details.append(f"the first that failed: {name_of(failed[0])}: {failed[0]['reason']}")
    if missing:
        details.append(f"{counted(len(missing), 'planned part')} not run: {missing[0]['reason']}")
    return [ClaimValue(value=float(len(failed)), detail="; ".join(details), partial=bool(missing))]


def _gradient_errors(evidence: Record) -> list[ClaimValue]:
    checked = [record for record in evidence["gradients"] if record["status"] == MEASURED]
    return [worst_of({record["name"]: float(record["max_grad_error"]) for record in checked})]


RUNS = Claim(
    name="runs",
    text="no run fails",
    bound="at most",
    limit=0,
    evaluate=_failed_runs,
    format_value=number,
    reason="whatever is planned can be run",
)
GRADIENTS = Claim(
    name="gradients",
    text="largest difference of a gradient, loss or buffer from plain training's",
    bound="at most",
    limit=0,
    evaluate=_gradient_errors,
    format_value=number,
    reason="equal bit for bit, as offloading moves bytes and computes nothing",
)
