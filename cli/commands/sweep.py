"""`loadahead sweep`: many policies over one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import CostsFile, Engine, Json, Overrides, Scenario

_VALUES = "VALUES"


def sweep(
    scenario: Scenario,
    horizon: Annotated[str | None, typer.Option(metavar=_VALUES, help="Horizons: 1:16, 1:16:4 or 1,2,4.")] = None,
    microbatches: Annotated[str | None, typer.Option(metavar=_VALUES, help="Microbatch counts, alike.")] = None,
    release_window: Annotated[str | None, typer.Option(metavar=_VALUES, help="Release windows, alike.")] = None,
    pipeline: Annotated[str | None, typer.Option(metavar="NAMES", help="Pipeline orders: simple,interleaved.")] = None,
    horizon_unit: Annotated[str | None, typer.Option(metavar="NAMES", help="tasks,layers.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write sweep.csv and sweep.parquet.")
    ] = None,
    overrides: Overrides = None,
    costs: CostsFile = None,
    engine: Engine = None,
    json_wanted: Json = False,
) -> None:
    """Simulate every combination of horizons, microbatches, ...

    Each is planned and proven first. What is not given is the scenario's.
    """
    from cli import rundir
    from cli.output import emit, say, warn
    from cli.ranges import parse_axes
    from cli.sweeping import Sweep, evaluate
    from cli.texts import sweep_text
    from sim.engines import DEFAULT_ENGINE, find_engine

    chosen = engine or DEFAULT_ENGINE
    find_engine(chosen)
    numbers = {"microbatches": microbatches, "horizon": horizon, "release_window": release_window}
    axes = parse_axes(numbers, {"pipeline": pipeline, "horizon_unit": horizon_unit})
    job = Sweep(scenario, overrides or [], costs)
    rows = evaluate(job.points(axes), chosen)
    warn(job.warnings)
    if out is not None:
        rundir.write_sweep(rundir.make(out), rows)
    if json_wanted:
        directory = None if out is None else str(out)
        emit({"scenario": scenario, "engine": chosen, "points": rows, "directory": directory, "warnings": job.warnings})
        return
    say(sweep_text(rows))
    if out is not None:
        say(f"\n{len(rows)} points: {out / rundir.SWEEP_CSV}, {out / rundir.SWEEP_PARQUET}")
