"""`loadahead show`: a plan in its text form."""

from __future__ import annotations

from loadahead.cli.options import Json, Overrides, ScenarioOrPlan


def show(argument: ScenarioOrPlan, overrides: Overrides = None, json_wanted: Json = False) -> None:
    """Print a plan's text form: a row per rank and queue.

    With --json, the plan file itself.
    """
    from loadahead.cli.output import emit, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.jobs import plan_of
    from loadahead.sim.ir.json_form import plan_to_json
    from loadahead.sim.ir.text_form import plan_to_text

    with shown_progress() as progress:
        plan, warnings = plan_of(argument, parse_overrides(overrides), progress)
    warn(warnings)
    if json_wanted:
        emit(plan_to_json(plan))
    else:
        say(plan_to_text(plan), end="")
