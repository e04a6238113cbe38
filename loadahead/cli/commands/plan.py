"""`loadahead plan`: from a scenario to a proven plan file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Json, Overrides, Scenario


def plan(
    scenario: Scenario,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write the plan.")] = None,
    overrides: Overrides = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order", metavar="NAME|FILE", help="The passes of each rank: an order's name, or a CSV file of 0F0,0B0."
        ),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option("--decisions", metavar="FILE", help="Which boundaries leave: a plan, or a JSON file of rows."),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Write the text form instead of JSON.")] = False,
    costs: Costs = None,
    json_wanted: Json = False,
) -> None:
    """Plan a scenario and prove the plan.

    Says what is offloaded, why the rest stays on the device, and, where times are known, which horizon to set.
    """
    from loadahead.arguments import decisions_given
    from loadahead.cli.output import emit, note_calibration, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.texts import advice_text, bound_text, plan_text
    from loadahead.jobs import job_of_prepared, named, prepared_of, with_costs
    from loadahead.plan_files import write_plan
    from loadahead.prediction import advice_on

    given = decisions_given(decisions)
    prepared = prepared_of(scenario, parse_overrides(overrides), costs, order=order)
    with shown_progress() as progress, named(scenario):
        job = job_of_prepared(prepared, given, progress)
        early = job.warnings if job.undecided else ()
        if job.undecided:
            warn(early)
            note_calibration(job.name)
            job, _ = with_costs(job, progress=progress)
    made = job.plan
    warn(text for text in job.warnings if text not in early)
    if out is not None:
        write_plan(made, out, text)
    with shown_progress() as progress:
        advice = None if job.costs is None else advice_on(job, job.costs, progress)
    if json_wanted:
        facts = {key: made.policy[key] for key in ("offloaded", "kept", "kept_because", "sentence")}
        sizes = {"ranks": made.ranks, "microbatches": made.microbatches, "operations": len(made)}
        chosen = {"order": made.policy["pipeline"], "stages": len(made.stage_rank)}
        chosen |= {"decisions": None if decisions is None else str(decisions)}
        path = None if out is None else str(out)
        chosen |= {"costs": None if job.costs is None else job.costs.source}
        chosen |= job.tuning_facts()
        said = {"advice": None if advice is None else advice.to_dict(), "warnings": list(job.warnings)}
        emit({"scenario": made.name, "plan": path} | sizes | chosen | facts | said)
        return
    say(plan_text(made, order is not None))
    if job.tuning is not None:
        say(bound_text(job.tuning))
    if job.costs is None and job.by_horizon:
        say("Which horizon to set follows from times, which are not known yet: calibrate, or simulate.")
    elif advice is not None:
        say(advice_text(advice))
    if out is not None:
        say(f"plan: {out}")
