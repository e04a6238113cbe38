"""Proves the best plans anew where an instance is new or has changed: python -m tests.optima. It says how far it is."""

from __future__ import annotations

import argparse
import sys

from tests.optima import store
from tests.optima.cp_sat import SOLVER, solve
from tests.optima.instances import EVERY, PUBLISHED_WITHOUT_SEND_QUEUE
from tests.optima.problem import Instance
from tests.optima.replay import replayed
from tests.optima.store import Stored


def made(instance: Instance, seconds: float) -> Stored:
    """What the solver finds in a time; RuntimeError where the engines do not find the same."""
    found = solve(instance, seconds)
    step_ns, peak = replayed(instance, found.rows)
    if step_ns != found.step_ns or peak > instance.cap_bytes:
        raise RuntimeError(
            f"{instance.name}: the engines find {step_ns} ns and {peak} bytes, the solver {found.step_ns} ns within "
            f"{instance.cap_bytes} bytes"
        )
    keep_all_ns, keep_all_bytes = replayed(instance, [])
    other = solve(instance, seconds, send_queue=False) if instance in PUBLISHED_WITHOUT_SEND_QUEUE else None
    if other is not None and other.status != "OPTIMAL":
        raise RuntimeError(f"{instance.name}: without a send queue {other.status} after {seconds} s")
    return Stored(
        digest=instance.digest,
        status=found.status,
        optimum_ns=found.step_ns,
        bound_ns=found.bound_ns,
        keep_all_ns=keep_all_ns,
        keep_all_boundary_bytes=keep_all_bytes,
        without_send_queue_ns=None if other is None else other.step_ns,
        decisions=found.rows,
        seconds=round(found.seconds, 1),
        solver=SOLVER,
    )


def main() -> None:
    """Make the store of today's instances, writing it after each that is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.optima", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every instance, not only those that are new or changed")
    parser.add_argument("--seconds", type=float, default=120, help="the longest that one search may take")
    asked = parser.parse_args()
    known = {} if asked.all else store.read()
    kept = {one.name: known[one.name] for one in EVERY if one.name in known and known[one.name].digest == one.digest}
    for number, instance in enumerate(EVERY, start=1):
        if instance.name not in kept:
            kept[instance.name] = found = made(instance, asked.seconds)
            said = f"{found.status}, {found.optimum_ns} ns, no plan takes less than {found.bound_ns} ns"
            print(f"{number}/{len(EVERY)} {instance.name}: {said}, {found.seconds} s", file=sys.stderr)
            store.write(kept)
    store.write({instance.name: kept[instance.name] for instance in EVERY})


if __name__ == "__main__":
    main()
