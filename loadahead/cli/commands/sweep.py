"""`loadahead sweep`: many points over one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Engine, Json, Overrides, Scenario

_VALUES = "VALUES"


def sweep(
    scenario: Scenario,
    horizon: Annotated[str | None, typer.Option(metavar=_VALUES, help="Horizons: 1:16, 1:16:4 or 1,2,4.")] = None,
    microbatches: Annotated[str | None, typer.Option(metavar=_VALUES, help="Microbatch counts, alike.")] = None,
    release_window: Annotated[str | None, typer.Option(metavar=_VALUES, help="Release windows, alike.")] = None,
    pipeline: Annotated[str | None, typer.Option(metavar="NAMES", help="Pipeline orders: simple,interleaved.")] = None,
    horizon_unit: Annotated[str | None, typer.Option(metavar="NAMES", help="tasks,layers.")] = None,
    decisions: Annotated[
        str | None, typer.Option(metavar="NAMES", help="What decides which boundaries leave: horizon,auto.")
    ] = None,
    set_range: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Any key of the scenario as an axis: 'hardware.d2h=8 GB/s,32 GB/s', offload.release_window=1:4.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where to write sweep.csv, sweep.parquet and sweep.json, and finished points as they come: the same "
            "command continues an interrupted sweep, and one with more values has the points of those before.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, whatever DIR holds.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Processes; 0: one for each core. Default: 1.")] = None,
    backend: Annotated[
        str, typer.Option(help="joblib's: loky, this machine; dask or ray, a cluster that has Loadahead too.")
    ] = "loky",
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The cluster's.")] = None,
    overrides: Overrides = None,
    costs: Costs = None,
    engine: Engine = None,
    json_wanted: Json = False,
) -> None:
    """Simulate every combination of horizons, microbatches, ...

    Each point is the step of the plan that `loadahead plan` would make. What is not given is the scenario's. The table
    has the fastest per GPU first. Files and --json have the order of the axes: those of --set-range change slowest,
    then microbatches, pipeline, horizon unit, active microbatches, horizon, release window, what decides.
    """
    from loadahead.arguments import costs_given
    from loadahead.cli.axes import parse_axes
    from loadahead.cli.command_line import command_line
    from loadahead.cli.hints import next_words
    from loadahead.cli.output import emit, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.texts import sweep_text, warnings_to_show
    from loadahead.reports import run_directory
    from loadahead.sim.choice import best_of, missing_of
    from loadahead.sim.engines import DEFAULT_ENGINE, find_engine
    from loadahead.sim.errors import InputError
    from loadahead.sim.units import counted
    from loadahead.sweeps.grid import Grid, Sweep
    from loadahead.sweeps.run import run_sweep
    from loadahead.sweeps.workers import workers_of

    engine = engine or DEFAULT_ENGINE
    find_engine(engine)
    if fresh and out is None:
        raise InputError("--fresh needs the directory to start anew in: -o DIR")
    workers = workers_of(backend, jobs, scheduler)
    short = {
        "microbatches": microbatches,
        "pipeline": pipeline,
        "horizon_unit": horizon_unit,
        "horizon": horizon,
        "release_window": release_window,
        "decisions": decisions,
    }
    with shown_progress() as progress:
        sweep_of = Sweep(scenario, parse_overrides(overrides), costs_given(costs), progress=progress)
        grid = Grid(sweep_of, parse_axes(short, set_range or []))
        grid.try_out()
        early = grid.before_calibration()
        warn(early)
        grid.compile_first()
        done = run_sweep(grid, engine, workers, directory=out, fresh=fresh, command=command_line(), progress=progress)
    rows, chosen, advice = done.rows, done.choices, done.advice
    warnings = list(grid.sweep.warnings)
    warn(text for text in warnings_to_show(warnings) if text not in early)
    if json_wanted:
        directory = None if out is None else str(out)
        emit(
            {
                "scenario": scenario,
                "engine": engine,
                "points": [row.to_dict() for row in rows],
                "best": best_of(chosen),
                "missing": missing_of(chosen),
                "advice": advice.marked_dict(),
                "advice_by_axes": [each.to_dict() for each in advice.each],
                "advice_left_out": advice.left_out,
                "costs": list(dict.fromkeys(facts.source for facts in done.facts.costs)),
                "directory": directory,
                "warnings": warnings,
            }
        )
        return
    say(sweep_text(done.facts.scenario, done, next_words(scenario, overrides, costs)))
    if out is not None:
        say(f"\n{counted(len(rows), 'point')}: {out / run_directory.SWEEP_CSV}, {out / run_directory.SWEEP_PARQUET}")
