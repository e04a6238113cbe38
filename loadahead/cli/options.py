"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.output import results_alone


def _keep_results_apart(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        context.with_resource(results_alone())
    return wanted


Json = Annotated[
    bool,
    typer.Option("--json", callback=_keep_results_apart, help="One JSON object on stdout and nothing else there."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the scenario, e.g. offload.release_window=2."),
]
Scenario = Annotated[str, typer.Argument(metavar="SCENARIO", help="A shipped scenario's name or a file.")]
ScenarioOrPlan = Annotated[
    str, typer.Argument(metavar="SCENARIO|PLAN", help="A shipped scenario's name, a scenario file or a plan file.")
]
# Not a path: as one, ./estimate would be the word that it is written differently from.
Costs = Annotated[
    str | None,
    typer.Option(
        "--costs",
        metavar="FILE|estimate",
        help="Costs of `loadahead calibrate`, or an estimate for the scenario's GPU; not the scenario's.",
    ),
]
ScenarioOrDemo = Annotated[str, typer.Argument(metavar="[SCENARIO]", help="A shipped scenario's name or a file.")]
Device = Annotated[str, typer.Option("--device", help="Where tensors live: cpu or cuda.")]
Engine = Annotated[str | None, typer.Option("--engine", help="simpy, the reference, or compiled.")]
TimelineFile = Annotated[
    Path | None, typer.Option("--timeline", metavar="FILE", help="Write when each operation ran, as JSON lines.")
]
Draws = Annotated[
    int | None,
    typer.Option("--draws", min=1, max=1_000_000, help="Draw the step so many times with the spread of [jitter]."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Of the draws, not the scenario's.")]
