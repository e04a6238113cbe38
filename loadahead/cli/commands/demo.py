"""`loadahead demo`: the main job end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Device, Json, Overrides, ScenarioOrDemo


def demo(
    scenario: ScenarioOrDemo = "demo",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where all is written.")] = Path("out/demo"),
    horizons: Annotated[str, typer.Option(metavar="VALUES", help="Horizons to sweep, and to measure.")] = "1:8",
    microbatches: Annotated[str, typer.Option(metavar="VALUES", help="Microbatch counts to sweep.")] = "2,4,8",
    device: Device = "cpu",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: the scenario's.")] = None,
    overrides: Overrides = None,
    json_wanted: Json = False,
) -> None:
    """Do the main job: sweep, pick a plan, run it, compare, report.

    It calibrates on this machine, simulates every combination, and runs the chosen plan on real tensors.

    Exit 1 when a gradient, a loss or a buffer differs from those of the same model trained without plan or offload.
    """
    from loadahead.cli.command_line import command_line
    from loadahead.cli.hints import is_by_horizon, next_words, page_commands
    from loadahead.cli.output import emit, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.ranges import parse_ints
    from loadahead.cli.texts import demo_text
    from loadahead.demo import Demo

    with shown_progress() as progress:
        done = Demo(
            source=scenario,
            overrides=parse_overrides(overrides),
            directory=out,
            horizons=parse_ints("--horizons", horizons),
            microbatches=parse_ints("--microbatches", microbatches),
            steps=steps,
            device=device,
            progress=progress,
            commands=page_commands,
            command=command_line(),
        ).run()
    warn(done.warnings)
    if json_wanted:
        emit(done.to_dict())
    else:
        say(demo_text(done, next_words(scenario, overrides, by_horizon=is_by_horizon(done.run.job.plan))))
    done.require_plain_training()
