"""Says first what a reader came for: what a run or a sweep shows, in words."""

from __future__ import annotations

from loadahead.reports.run_data import RunData


def answer(data: RunData) -> tuple[str, ...]:
    """Return the answer's sentences; empty where the run has none."""
    of_plan = [data.plan.sentence] if data.plan is not None and data.plan.sentence else []
    advice = [data.advice] if data.advice is not None else list(data.facts.advice[:1]) if data.facts else []
    return (*of_plan, *advice)
