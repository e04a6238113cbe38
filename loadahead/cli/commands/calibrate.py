"""`loadahead calibrate`: measure what a scenario's units cost on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Device, Json, Overrides, ScenarioOrDemo


def calibrate(
    scenario: ScenarioOrDemo = "demo",
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write the costs.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Timed runs of each operation.")] = 12,
    overrides: Overrides = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="For runs whose gradients are checked: deterministic kernels.")
    ] = True,
    json_wanted: Json = False,
) -> None:
    """Measure on this machine what each unit costs.

    FORWARD, RECOMPUTE, BACKWARD, workspace and copies; --costs of other commands takes the result.
    """
    from loadahead.arguments import require_device
    from loadahead.cli.output import emit, note, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.cli.texts import costs_text
    from loadahead.jobs import calibrate_prepared, uncalibrated
    from loadahead.modules import module_of
    from loadahead.reports import run_directory
    from loadahead.sim.costs import save_costs

    require_device(device)
    prepared = uncalibrated(scenario, parse_overrides(overrides), device)
    module_of(prepared.scenario)
    if out is not None:
        run_directory.require_writable(out)
    warn(prepared.warnings)
    note(f"calibrating {prepared.scenario.name} on {device}")
    costs = calibrate_prepared(prepared, repeats, device, deterministic=check)
    if out is not None:
        save_costs(costs, out)
    if json_wanted:
        emit(costs.model_dump(mode="json"))
        return
    say(costs_text(prepared.scenario.name, costs))
    if out is not None:
        say(f"\ncosts: {out}")
