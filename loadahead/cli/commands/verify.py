"""`loadahead verify`: prove that a plan is the whole step and safe to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Json

# A broken plan often breaks many rules at once; the first few tell what is wrong.
SHOWN = 5


def verify(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.", show_default=False)],
    json_wanted: Json = False,
) -> None:
    """Prove that a plan file is the whole step and safe to run.

    No race, no deadlock, no use after free. When there is: exit 1, the rule, and its operations in their queues.
    """
    from loadahead.cli.output import emit, say
    from loadahead.compiling import compile_first
    from loadahead.plan_files import read_operations
    from loadahead.sim.errors import CheckFailed
    from loadahead.sim.units import counted
    from loadahead.sim.verify import explain
    from loadahead.sim.verify import verify as broken_rules

    read, disagreement = read_operations(plan)
    compile_first()
    broken = broken_rules(read)
    if disagreement is not None and not broken:
        raise disagreement
    if json_wanted:
        rows = [{"rule": v.rule, "message": v.message, "ops": [read.op_id(op) for op in v.ops]} for v in broken]
        emit({"plan": read.name, "valid": not broken, "operations": len(read), "violations": rows})
    else:
        for violation in broken[:SHOWN]:
            say(explain(read, violation))
    if broken:
        much = "1 rule is" if len(broken) == 1 else f"{len(broken)} rules are"
        raise CheckFailed(f"{plan}: {much} broken, first {broken[0].rule}: {broken[0].message}")
    if not json_wanted:
        size = f"{len(read)} operations on {counted(read.ranks, 'rank')}"
        say(f"{plan}: {size} are the whole step and safe to run: no race, no deadlock, no use after free")
