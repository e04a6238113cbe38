"""`loadahead simulate`: what a plan will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Draws, Engine, Json, Overrides, ScenarioOrPlan, Seed, TimelineFile


def simulate(
    argument: ScenarioOrPlan,
    overrides: Overrides = None,
    engine: Engine = None,
    costs: Costs = None,
    timeline: TimelineFile = None,
    draws: Draws = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write plan, costs and timeline.")
    ] = None,
    json_wanted: Json = False,
) -> None:
    """Predict one step on a clock.

    Its time, and each rank's peak memory, stalls and overlap.
    """
    from loadahead.cli.command_line import command_line
    from loadahead.cli.hints import next_words
    from loadahead.cli.output import emit, note_calibration, note_earlier_files, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.texts import step_text
    from loadahead.jobs import job_of, with_costs
    from loadahead.prediction import predict, prediction_of, write_advice, write_prediction
    from loadahead.reports.run_directory import OF_PREDICTION, OF_TUNING
    from loadahead.sim.engines import DEFAULT_ENGINE, find_engine
    from loadahead.sim.timeline import write_timeline

    chosen = engine or DEFAULT_ENGINE
    find_engine(chosen)
    with shown_progress() as progress:
        job = job_of(argument, parse_overrides(overrides), costs, progress=progress)
    early = job.warnings if job.costs is None else ()
    if job.costs is None:
        # A link of 25 bytes per second makes calibration take for ever: what is in doubt is said before.
        warn(early)
        note_calibration(job.name)
    with shown_progress() as progress:
        job, known = with_costs(job, progress=progress)
        step = predict(job, known, chosen)
        if timeline is not None:
            write_timeline(step, timeline)
        if out is not None:
            note_earlier_files(out, OF_PREDICTION if job.tuning is None else OF_TUNING)
            write_prediction(job, step, known, out, command_line())
        predicted = prediction_of(job, known, step, draws, seed, progress)
    if out is not None:
        write_advice(predicted.advice, out)
    warn(text for text in step.header["warnings"] if text not in early)
    if json_wanted:
        emit(predicted.to_dict())
    else:
        say(step_text(predicted, next_words(argument, overrides, costs)))
        if out is not None:
            say(f"\nrun directory: {out} (`loadahead report {out}` draws it)")
