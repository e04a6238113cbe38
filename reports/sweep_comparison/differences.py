"""Finds what two sweeps were made with that differs: keys of the scenario, axes, costs, engine and version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loadahead.reports.sweep_comparison.matching import same
from loadahead.reports.sweep_comparison.result import FactDifference
from loadahead.reports.sweep_facts import SweepFacts


def differences(a: SweepFacts | None, b: SweepFacts | None) -> tuple[FactDifference, ...]:
    """Return what differs; nothing where one of both does not say what it was made with."""
    if a is None or b is None:
        return ()
    return (*_named(a, b), *_axes(a, b), *_keys(a, b), *_costs(a, b))


# Keys that say which model a scenario is of; the others of ``[model]`` are its sizes, and how it is trained.
_WHICH = ("model.kind", "model.preset", "model.python", "model.config")


def other_models(a: SweepFacts | None, b: SweepFacts | None) -> tuple[str, str] | None:
    """Return what both are of where that is known to be different models; what is an axis is not asked.

    Two scenarios of the same kind of model are of different ones where any key of their models differs.
    """
    if a is None or b is None:
        return None
    names = [None if facts.about is None else facts.about.model for facts in (a, b)]
    flat_a, flat_b = dict(_flat(a.tables)), dict(_flat(b.tables))
    keys = _WHICH if a.scenario == b.scenario else [key for key in {*flat_a, *flat_b} if key.startswith("model.")]
    swept = {*a.axes, *b.axes}
    differ = any(key not in swept and flat_a.get(key) != flat_b.get(key) for key in keys)
    if None not in names and names[0] != names[1]:
        differ = True
    if not differ:
        return None
    told = (_told(a, names[0]), _told(b, names[1]))
    return told if told[0] != told[1] else (f"scenario {a.scenario}", f"scenario {b.scenario}")


def _told(facts: SweepFacts, model: str | None) -> str:
    return f"scenario {facts.scenario}" if model is None else model


def _named(a: SweepFacts, b: SweepFacts) -> Iterator[FactDifference]:
    for what, before, now in (
        ("Loadahead's version", a.loadahead, b.loadahead),
        ("scenario", a.scenario, b.scenario),
        ("engine", a.engine, b.engine),
    ):
        if before != now:
            yield FactDifference(what=what, a=before, b=now)


def _axes(a: SweepFacts, b: SweepFacts) -> Iterator[FactDifference]:
    """Yield axes with other values, and those that are a key of the other's scenario or not there at all."""
    flat_a, flat_b = dict(_flat(a.tables)), dict(_flat(b.tables))
    for key in dict.fromkeys((*a.axes, *b.axes)):
        before = list(a.axes[key]) if key in a.axes else flat_a.get(key)
        now = list(b.axes[key]) if key in b.axes else flat_b.get(key)
        if before != now:
            yield FactDifference(what=f"axis {key}", a=before, b=now)


def _keys(a: SweepFacts, b: SweepFacts) -> Iterator[FactDifference]:
    flat_a, flat_b = dict(_flat(a.tables)), dict(_flat(b.tables))
    for key in dict.fromkeys((*flat_a, *flat_b)):
        # A scenario's name is told already.
        if key == "name" or key in a.axes or key in b.axes:
            continue
        before, now = flat_a.get(key), flat_b.get(key)
        if before is None or now is None or not same(before, now):
            yield FactDifference(what=key, a=before, b=now)


def _flat(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        elif value is not None:
            yield key, value


def _costs(a: SweepFacts, b: SweepFacts) -> Iterator[FactDifference]:
    """Yield where costs come from; and where that is alike, their digests."""
    sources = [list(dict.fromkeys(costs.source for costs in facts.costs)) for facts in (a, b)]
    digests = [[costs.digest for costs in facts.costs if costs.digest is not None] for facts in (a, b)]
    if sources[0] != sources[1]:
        yield FactDifference(what="costs", a=", ".join(sources[0]) or None, b=", ".join(sources[1]) or None)
    elif digests[0] != digests[1]:
        yield FactDifference(what="digest of the costs", a=", ".join(digests[0]), b=", ".join(digests[1]))
