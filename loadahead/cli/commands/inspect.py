"""`loadahead inspect`: what was understood of a scenario."""

from __future__ import annotations

from loadahead.cli.options import Costs, Json, Overrides, Scenario


def inspect(
    scenario: Scenario,
    overrides: Overrides = None,
    costs: Costs = None,
    json_wanted: Json = False,
) -> None:
    """Say what was understood of a scenario, before anything is run.

    Its units with bytes, FLOPs and times, where each process stands, what GPUs share, each stage's copy-to-compute
    ratio and what it means, and what fits.
    """
    from loadahead.cli.inspection_text import inspection_text
    from loadahead.cli.output import emit, say, warn
    from loadahead.cli.overrides import parse_overrides
    from loadahead.inspection import inspect_prepared
    from loadahead.jobs import prepared_of

    found = inspect_prepared(prepared_of(scenario, parse_overrides(overrides), costs))
    warn(found.warnings)
    if json_wanted:
        emit(found.to_dict())
    else:
        say(inspection_text(found))
