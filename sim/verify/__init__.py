"""The verifier proves that a plan is the whole step, and that it has no race, no deadlock and no use after free.

The order in which things happen follows from happens-before alone.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from loadahead.sim.errors import CheckFailed
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify.counting import COUNTING, well_formed
from loadahead.sim.verify.dataflow import DATAFLOW
from loadahead.sim.verify.happens_before import HappensBefore
from loadahead.sim.verify.names import names_of
from loadahead.sim.verify.ordering import ORDERING
from loadahead.sim.verify.transfers import TRANSFERS
from loadahead.sim.verify.violation import Violation, explain
from loadahead.sim.verify.whole_step import WHOLE_STEP, step_of

# The proven plans, by identity: a plan is never changed, and a changed copy of it is another object.
_proven: WeakValueDictionary[int, Plan] = WeakValueDictionary()


def verify(plan: Plan) -> list[Violation]:
    """Return every violation of a rule; an empty list means that the plan is proven safe.

    For a malformed plan the list holds that violation alone. Who reads and writes what is looked at where each task is
    there once.
    """
    malformed = list(well_formed(plan))
    if malformed:
        return malformed
    order = HappensBefore(plan)
    names, found = names_of(plan)
    step = None
    if names is not None:
        step, found = step_of(plan, names)
    found += [violation for count in COUNTING for violation in count(plan)]
    if step is not None:
        rules = (*WHOLE_STEP, *DATAFLOW, *TRANSFERS)
        found += [violation for whole in rules for violation in whole(plan, step, order)]
    return found + [violation for rule in ORDERING for violation in rule(plan, order)]


def check(plan: Plan) -> None:
    """Raise CheckFailed with one line unless the plan is proven safe; a plan is proven once, however often asked."""
    # A plan's id is another's once it is gone, so that the entry must be this very plan.
    if _proven.get(id(plan)) is plan:
        return
    broken = verify(plan)
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise CheckFailed(f"plan {plan.name!r} is not safe to run: {broken[0].rule}: {broken[0].message}{more}")
    _proven[id(plan)] = plan


__all__ = ["Violation", "check", "explain", "verify"]
