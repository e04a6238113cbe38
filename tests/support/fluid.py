"""Bandwidth sharing once more, by brute force in fractions; nothing of ``loadahead.sim.links`` is used here.

The definition is taken at its word: an allocation is weighted max-min fair when every flow has a bottleneck, which is
its own link, or a full group in which no other flow has more per weight. Levels rise by trying what stops them first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Rates = dict[str, Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Flows that share a bandwidth."""

    flows: frozenset[str]
    capacity: Fraction


def water_fill(own: Mapping[str, Fraction], weight: Mapping[str, int], groups: Sequence[Group]) -> Rates:
    """The rate of each flow: all levels rise together, and a flow stops when something of its own is full."""
    rates = {flow: Fraction(0) for flow in own}
    rising = set(own)
    while rising:
        steps = [(own[flow] - rates[flow]) / weight[flow] for flow in rising]
        for group in groups:
            here = [flow for flow in group.flows if flow in rising]
            if here:
                used = sum((rates[flow] for flow in group.flows if flow in own), Fraction(0))
                steps.append((group.capacity - used) / sum(weight[flow] for flow in here))
        step = min(steps)
        for flow in rising:
            rates[flow] += step * weight[flow]
        full = [g for g in groups if sum(rates[f] for f in g.flows if f in own) == g.capacity]
        rising = {flow for flow in rising if rates[flow] < own[flow] and not any(flow in group.flows for group in full)}
    return rates


def finish_times(
    arrivals: Mapping[str, Fraction],
    sizes: Mapping[str, Fraction],
    own: Mapping[str, Fraction],
    weight: Mapping[str, int],
    groups: Sequence[Group],
) -> Rates:
    """When each flow ends that arrives at its time with its size, never rounded."""
    left, waiting, done = dict(sizes), dict(arrivals), {}
    now = Fraction(0)
    active: set[str] = set()
    while waiting or active:
        rates = water_fill({f: own[f] for f in active}, weight, groups)
        ends = {flow: now + left[flow] / rates[flow] for flow in active}
        later = min([*waiting.values(), *ends.values()])
        for flow in active:
            left[flow] -= rates[flow] * (later - now)
        now = later
        for flow in [f for f in active if left[f] == 0]:
            active.remove(flow)
            done[flow] = now
        for flow in [f for f, at in waiting.items() if at == now]:
            del waiting[flow]
            active.add(flow)
    return done
