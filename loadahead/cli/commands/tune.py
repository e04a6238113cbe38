"""`loadahead tune`: the plan that decides, under a budget of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Json, Overrides, Scenario

_SIZE = "SIZE"


def tune(
    scenario: Scenario,
    memory: Annotated[
        str | None,
        typer.Option(metavar=_SIZE, help="The most that a GPU may hold: 60GiB. Default: its memory less a reserve."),
    ] = None,
    boundary_memory: Annotated[
        str | None, typer.Option(metavar=_SIZE, help="The most that boundaries may take of it: 5MB.")
    ] = None,
    host_memory: Annotated[
        str | None, typer.Option(metavar=_SIZE, help="The most that slots may take of a host: 1TiB.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Look for the least memory whose step is at most so much longer than keeping all: 1%."
        ),
    ] = None,
    microbatches: Annotated[
        str | None, typer.Option(metavar="VALUES", help="Microbatch counts to try: 4,8 or 1:16.")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(metavar="NAMES", help="Pipeline orders to try, alike.")] = None,
    budgets: Annotated[
        int, typer.Option(min=0, max=1000, help="How many budgets the frontier has; 0: no frontier.")
    ] = 50,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write plan, costs, timeline and answer.")
    ] = None,
    overrides: Overrides = None,
    costs: Costs = None,
    json_wanted: Json = False,
) -> None:
    """Choose which boundaries leave the GPU, and when.

    Finds the shortest step in so much memory, or with --within the least memory at that step time; says why, and how
    far from a bound that is. Exit 1 where no plan keeps the budget.
    """
    from loadahead.cli.command_line import command_line
    from loadahead.cli.output import emit, note_calibration, note_earlier_files, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.ranges import parse_ints, parse_names
    from loadahead.cli.tuning_text import tuning_text
    from loadahead.reports import run_directory
    from loadahead.scenarios.loader import toml_value
    from loadahead.sim.errors import CheckFailed
    from loadahead.sim.planner import order_names
    from loadahead.tuning import before_calibration, write_tuned
    from loadahead.tuning import tune as find

    stated = {"memory": memory, "boundary_memory": boundary_memory, "host_memory": host_memory, "within": within}
    changed = parse_overrides(overrides)
    counts = None if microbatches is None else parse_ints("--microbatches", microbatches)
    orders = None if pipeline is None else parse_names("--pipeline", pipeline, order_names())
    early = None if costs is not None else before_calibration(scenario, changed)
    if early is not None:
        warn(early)
        note_calibration(scenario)
    if out is not None:
        # A search may take minutes: who would not have files replaced is told before.
        note_earlier_files(run_directory.make(out), run_directory.OF_TUNING)
    with shown_progress() as progress:
        found = find(
            scenario,
            overrides=changed,
            **{name: toml_value(text) for name, text in stated.items() if text is not None},
            microbatches=counts,
            pipelines=orders,
            budgets=budgets,
            costs=costs,
            progress=progress,
        )
        if out is not None:
            write_tuned(found, out, command_line())
        whole = found.frontier if budgets else None
    warn(text for text in found.warnings if text not in (early or ()))
    path = None if out is None else out / run_directory.PLAN
    if json_wanted:
        emit(found.to_dict() | {"plan": None if path is None else str(path)})
    else:
        say(tuning_text(found, whole, out))
        if not found.fits:
            # The text above begins with what is missing and what would do.
            raise CheckFailed(f"{found.job.name}: no plan that was found keeps the budget")
    found.require_fit()
