"""`loadahead compare`: a prediction beside a measurement, a step or a sweep beside another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loadahead.cli.options import Json

if TYPE_CHECKING:
    from loadahead.reports.sweep_comparison import SweepComparison

_HELP = "A timeline file, a run directory, a directory of timelines, or a sweep's directory or table."


def compare(
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help=_HELP, show_default=False)],
    measured: Annotated[Path, typer.Argument(metavar="MEASURED", help=_HELP, show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Of two sweeps: write JSON and a figure of both fronts."),
    ] = None,
    json_wanted: Json = False,
) -> None:
    """Line predicted and measured up, or two steps, or two sweeps.

    Step time, peak memory, every operation, every kind. Errors are signed fractions, (predicted - measured) / measured.
    Two predictions, two measurements, or steps of two plans are A and B, and changes are (B - A) / A. ranking_tau is
    Kendall's tau of several step times: of directories whose timelines have equal names, or of the horizons that a run
    directory measured. Of two sweeps it says which points moved, and how the best one did, from the first to the
    second.
    """
    from loadahead.cli.output import emit, say
    from loadahead.cli.texts import comparison_text
    from loadahead.comparison import compare_arguments, horizons_tau
    from loadahead.reports.sweep_comparison import SweepComparison
    from loadahead.sim.errors import InputError

    comparison = compare_arguments(predicted, measured)
    if isinstance(comparison, SweepComparison):
        _sweeps(comparison, out, json_wanted)
        return
    if out is not None:
        raise InputError(
            "the directory is for what two sweeps write; leave it out for timelines", parameters=("directory",)
        )
    result = comparison.to_dict()
    if result.get("ranking_tau", 0) is None:
        result["ranking_tau"] = horizons_tau(measured)
    if json_wanted:
        emit(result)
        return
    say(comparison_text(comparison))
    if result.get("ranking_tau") is not None:
        say(f"\norder of step times, Kendall's tau: {result['ranking_tau']:.2f}")


def _sweeps(comparison: SweepComparison, out: Path | None, json_wanted: bool) -> None:
    from loadahead.cli.output import emit, say
    from loadahead.cli.texts import sweep_comparison_text
    from loadahead.comparison import write_sweep_comparison

    written = [] if out is None else write_sweep_comparison(comparison, out)
    if json_wanted:
        emit(comparison.to_dict())
        return
    say(sweep_comparison_text(comparison))
    if written:
        say(f"\nwritten: {', '.join(map(str, written))}")
