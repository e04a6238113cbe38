"""`loadahead compare`: a prediction beside a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Json

_HELP = "A timeline file, a run directory, or a directory of timelines."


def compare(
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help=_HELP, show_default=False)],
    measured: Annotated[Path, typer.Argument(metavar="MEASURED", help=_HELP, show_default=False)],
    json_wanted: Json = False,
) -> None:
    """Line predicted and measured up.

    Step time, peak memory, every operation, every kind. Errors are signed fractions, (predicted - measured) / measured.
    ranking_tau is Kendall's tau of several step times: of directories whose timelines have equal names, or of the
    horizons that a run directory measured.
    """
    from loadahead.cli.output import emit, say
    from loadahead.cli.texts import comparison_text
    from loadahead.comparison import compare_arguments, horizons_tau

    comparison = compare_arguments(predicted, measured)
    result = comparison.to_dict()
    if result["ranking_tau"] is None:
        result["ranking_tau"] = horizons_tau(measured)
    if json_wanted:
        emit(result)
        return
    say(comparison_text(comparison))
    if result["ranking_tau"] is not None:
        say(f"\norder of step times, Kendall's tau: {result['ranking_tau']:.2f}")
