"""`loadahead validate`: how right the predictions are on this machine, and how it compares with others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json


def validate(
    device: Annotated[str, typer.Option("--device", help="Where tensors live: cuda or cpu.")] = "cuda",
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="NAME", help="gpu or cpu. Default: the device's own.")
    ] = None,
    limit: Annotated[
        str, typer.Option("--limit", metavar="TIME", help="Begin nothing new after it, e.g. 9m; the rest is skipped.")
    ] = "9m",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where all is written.")] = Path(
        "out/validate"
    ),
    json_wanted: Json = False,
) -> None:
    """Predict and then run many configurations, beside other implementations.

    It calibrates each model once, writes every prediction down before its run, checks gradients, runs what else
    offloads activations on the same model and batch, and says what of its claims holds.

    Exit 1 when a claim does not hold.
    """
    from cli import rundir
    from cli.compose import require_device
    from cli.output import emit, note, say
    from cli.ranges import parse_limit_s
    from cli.validation.estimate import estimated_seconds
    from cli.validation.grids import find_grid
    from cli.validation.journal import Journal
    from cli.validation.validation import Validation
    from reports.evidence import assemble, write_evidence
    from reports.verdicts import require_all, verdicts_text

    limit_s = parse_limit_s("--limit", limit)
    name, chosen = find_grid(grid, device)
    require_device(device)
    rundir.make(out)
    about = f"{len(chosen.configurations)} configurations of {', '.join(size.name for size in chosen.sizes)}"
    note(f"{about}, on an H100 about {estimated_seconds(chosen) / 60:.0f} min" if name == "gpu" else about)
    with Journal(out) as journal:
        evidence = assemble(Validation(name, chosen, device, limit_s, journal).run())
    files = write_evidence(evidence, out)
    if json_wanted:
        emit(evidence)
    else:
        say(f"{verdicts_text(evidence['verdicts'])}\n\nevidence: {', '.join(map(str, files))}")
    require_all(evidence["verdicts"])
