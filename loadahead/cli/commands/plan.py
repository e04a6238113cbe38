"""`loadahead plan`: from a scenario to a proven plan file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Json, Overrides, Scenario


def plan(
    scenario: Scenario,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write the plan.")] = None,
    overrides: Overrides = None,
    text: Annotated[bool, typer.Option("--text", help="Write the text form instead of JSON.")] = False,
    json_wanted: Json = False,
) -> None:
    """Plan a scenario and prove the plan.

    Says what is offloaded, and why the rest stays on the device.
    """
    from loadahead.cli.output import emit, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.jobs import named, plan_prepared, prepared_of
    from loadahead.plan_files import write_plan
    from loadahead.sim.units import counted

    prepared = prepared_of(scenario, parse_overrides(overrides))
    with named(scenario):
        made = plan_prepared(prepared)
    warn(prepared.warnings)
    if out is not None:
        write_plan(made, out, text)
    if json_wanted:
        facts = {key: made.policy[key] for key in ("offloaded", "kept", "kept_because", "sentence")}
        sizes = {"ranks": made.ranks, "microbatches": made.microbatches, "operations": len(made)}
        path = None if out is None else str(out)
        emit({"scenario": made.name, "plan": path} | sizes | facts | {"warnings": list(prepared.warnings)})
        return
    size = f"{len(made)} operations on {counted(made.ranks, 'rank')}, {made.microbatches} microbatches"
    say(f"{made.name}: {size}; proven safe to run")
    say(made.policy["sentence"])
    if out is not None:
        say(f"plan: {out}")
