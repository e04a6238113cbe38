"""The verifier proves that a plan has no race, no deadlock and no use after free, from happens-before alone."""

from __future__ import annotations

from weakref import WeakValueDictionary

from loadahead.sim.errors import CheckFailed
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify.counting import COUNTING, well_formed
from loadahead.sim.verify.happens_before import HappensBefore
from loadahead.sim.verify.ordering import ORDERING
from loadahead.sim.verify.violation import Violation, explain

# The proven plans, by identity: a plan is never changed, and a changed copy of it is another object.
_proven: WeakValueDictionary[int, Plan] = WeakValueDictionary()


def verify(plan: Plan) -> list[Violation]:
    """Return every violation of a rule; an empty list means that the plan is proven safe.

    For a malformed plan the list holds that violation alone.
    """
    malformed = list(well_formed(plan))
    if malformed:
        return malformed
    order = HappensBefore(plan)
    counted = [violation for count in COUNTING for violation in count(plan)]
    return counted + [violation for rule in ORDERING for violation in rule(plan, order)]


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
