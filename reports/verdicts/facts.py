"""What a validation covered: figures that no claim is about."""

from __future__ import annotations

from typing import Any

from loadahead.reports.verdicts.records import Record, measured
from loadahead.sim.units import counted


def facts(evidence: Record) -> dict[str, Any]:
    """How many configurations were measured, and how far copying reached beside compute."""
    ratios = [one["predicted"]["copy_to_compute"] for one in measured(evidence) if one["offload"]]
    reach = {"low": min(ratios), "high": max(ratios), "configurations": len(ratios)} if ratios else None
    return {
        "configurations": {"measured": len(measured(evidence)), "planned": len(evidence["configurations"])},
        "copy_to_compute": reach,
    }


def measured_sentence(found: Record) -> str:
    """``8 of 8 configurations measured``."""
    count = found["configurations"]
    return f"{count['measured']} of {counted(count['planned'], 'configuration')} measured"


def facts_text(found: Record) -> str:
    """A sentence or two."""
    reach = found["copy_to_compute"]
    if reach is None:
        return measured_sentence(found)
    return (
        f"copying is predicted to take {reach['low']:.2f} to {reach['high']:.2f} times the compute of a step; "
        f"{measured_sentence(found)}"
    )
