"""`loadahead execute`: a plan on real tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Device, Json, Overrides, ScenarioOrPlan, TimelineFile


def execute(
    argument: ScenarioOrPlan,
    device: Device = "cpu",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: the scenario's.")] = None,
    overrides: Overrides = None,
    costs: Costs = None,
    timeline: TimelineFile = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where to write plan, timelines, result, trained weights."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Compare gradients, losses and buffers with plain training's, bit for bit."
        ),
    ] = True,
    json_wanted: Json = False,
) -> None:
    """Run a plan on real tensors, beside its prediction.

    Exit 1 when a gradient, a loss or a buffer differs from those of the same model trained without plan or offload.
    """
    from loadahead.arguments import require_device
    from loadahead.cli.command_line import command_line
    from loadahead.cli.hints import next_words
    from loadahead.cli.output import emit, note_calibration, note_earlier_files, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.texts import run_text
    from loadahead.jobs import job_of, with_costs
    from loadahead.prediction import advice_on
    from loadahead.reports import run_directory
    from loadahead.runs import run_job, write_run
    from loadahead.sim.timeline import write_timeline

    require_device(device)
    with shown_progress() as progress:
        job = job_of(argument, parse_overrides(overrides), costs, device, progress=progress)
    if out is not None:
        tuned = job.undecided or job.tuning is not None
        of_run = run_directory.OF_TUNED_RUN if tuned else run_directory.OF_RUN
        note_earlier_files(run_directory.make(out), of_run)
    if timeline is not None:
        run_directory.require_writable(timeline)
    early = job.warnings if job.costs is None else ()
    if job.costs is None:
        # A link of 25 bytes per second makes calibration take for ever: what is in doubt is said before.
        warn(early)
        note_calibration(job.name)
    with shown_progress() as progress:
        job, known = with_costs(job, device=device, deterministic=check, progress=progress)
        run = run_job(job, known, device=device, steps=steps, check=check, progress=progress)
    if timeline is not None:
        write_timeline(run.measured, timeline)
    written = None if out is None else write_run(run, out, command_line())
    advice = advice_on(job, known) if out is None and not json_wanted else written
    result = run.result()
    warn(text for text in result["warnings"] if text not in early)
    if json_wanted:
        emit(result)
    else:
        say(run_text(run, advice, next_words(argument, overrides, costs)))
        if out is not None:
            say(f"\nrun directory: {out} (`loadahead report {out}` draws it)")
    run.require_plain_training()
