"""`loadahead validate`: how right the predictions are on this machine, and how it compares with others."""

from __future__ import annotations

from typing import Annotated

import typer

from loadahead.cli.options import Json


def validate(
    device: Annotated[str, typer.Option("--device", help="Where tensors live: cuda or cpu.")] = "cuda",
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="NAME", help="gpu or cpu. Default: the device's own.")
    ] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="TIME", help="Begin nothing new after it, e.g. 9m.")] = "9m",
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where all is written: the same command continues what was stopped."
        ),
    ] = "out/validate",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, whatever DIR holds.")] = False,
    json_wanted: Json = False,
) -> None:
    """Predict and then run many configurations, beside other implementations.

    It calibrates each model once, writes every prediction down before its run, checks gradients, runs what else
    offloads activations on the same model and batch, and says what of its claims holds.

    Exit 1 when a claim does not hold, or when not everything was run.
    """
    from loadahead.arguments import require_device
    from loadahead.cli.output import emit, say
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.ranges import directory_named, parse_limit_s
    from loadahead.reports import run_directory
    from loadahead.reports.evidence import write_evidence
    from loadahead.reports.verdicts.outcome import outcome_text, require_all
    from loadahead.validation.directory import evidence_in
    from loadahead.validation.grids import find_grid

    limit_s = parse_limit_s("--limit", limit)
    directory = directory_named("--out", out)
    name, chosen = find_grid(grid, device)
    require_device(device)
    run_directory.make(directory)
    for file in (run_directory.EVIDENCE, run_directory.EVIDENCE_PAGE):
        run_directory.require_writable(directory / file)
    with shown_progress() as progress:
        evidence = evidence_in(directory, name, chosen, device, limit_s, fresh=fresh, progress=progress)
    files = write_evidence(evidence, directory)
    if json_wanted:
        emit(evidence)
    else:
        say(f"evidence: {', '.join(map(str, files))}\n\n{outcome_text(evidence)}")
    require_all(evidence)
