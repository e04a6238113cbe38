"""Durations are drawn at random many times, to see how far a step's time spreads.

Each operation's duration is multiplied by a factor of its own, lognormal with mean 1: never negative, skewed to the
late side. Host launches are left as they are. Waits turn spread into time, so the mean step is longer than the step of
mean durations (Jensen: a maximum is convex).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadahead.sim.clock import host_times
from loadahead.sim.costs import MOST_TOTAL, NANOSECONDS_PER_SECOND, Costs, require_total
from loadahead.sim.engines.compiled_engine import forward
from loadahead.sim.engines.fluid import run_flows, too_large, waiting
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import before_flow, link_of, require_fits
from loadahead.sim.routes import LinkTable
from loadahead.sim.step_metrics import STEP_TIME, step_time

Floats = npt.NDArray[np.float64]
_Run = Callable[[Floats], tuple[Ints, Ints]]

DISTRIBUTION = "lognormal with mean 1, drawn for each operation by itself"
# 64 bits must have room for factors up to this. At a variation of 1 one in three billion is larger; it is cut there.
_LARGEST_FACTOR = 128
_QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Says how durations vary.

    ``compute`` and ``copies`` (sends included) are standard deviation over mean of an operation's factor.
    """

    compute: float = 0.0
    copies: float = 0.0
    seed: int = 0
    draws: int = 1000

    def sigmas(self, plan: Plan) -> Floats:
        """Return the standard deviation of the logarithm of each operation's factor; shape (operations,)."""
        variation = np.where(plan.ops.queue == Queue.COMPUTE, self.compute, self.copies)
        sigmas: Floats = np.sqrt(np.log1p(variation**2))
        return sigmas


def step_times(plan: Plan, costs: Costs, spread: Spread) -> Ints:
    """Return the step's time in each draw, in ns; shape (draws,). Equal seeds give equal draws."""
    random = np.random.default_rng(spread.seed)
    durations, sigma = costs.durations(plan), spread.sigmas(plan)
    run = _own_links(plan, costs) if draws_ignore_sharing(plan, costs) else _shared_links(plan, costs)
    out = np.zeros(spread.draws, dtype=np.int64)
    for draw in range(spread.draws if len(plan) else 0):
        factor = np.exp(sigma * random.standard_normal(len(plan)) - sigma**2 / 2)
        require_total(durations * factor, "durations with jitter", "ns")
        start, end = run(factor)
        out[draw] = step_time(int(start.min()), int(end.max()))
    return out


def draws_ignore_sharing(plan: Plan, costs: Costs) -> bool:
    """Return whether draws take every copy at its own link's bandwidth.

    They do where nothing is shared, and where the work of shared links leaves 64 bits.
    """
    table = LinkTable.of_plan(costs, plan)
    if not table.names:
        return True
    require_fits(plan, table, costs.durations(plan))
    link = link_of(plan, table)
    work = plan.ops.nbytes[link >= 0] * float(NANOSECONDS_PER_SECOND)
    longest = float((work / np.asarray(table.slowest())[link[link >= 0]]).sum())
    largest = _LARGEST_FACTOR * float(work.max(initial=0))
    return too_large(largest, table) is not None or _LARGEST_FACTOR * longest > MOST_TOTAL


def _own_links(plan: Plan, costs: Costs) -> _Run:
    durations, allowed = costs.durations(plan), host_times(plan, costs.launches(plan))

    def run(factor: Floats) -> tuple[Ints, Ints]:
        times = forward(plan, _scaled(durations, factor), allowed)
        return times.start_ns, times.end_ns

    return run


def _shared_links(plan: Plan, costs: Costs) -> _Run:
    """Return a function from factors to times, with links shared.

    A copy's latency and work are scaled alike, so that alone it takes its duration times its factor.
    """
    table, graph = LinkTable.of_plan(costs, plan), waiting(plan)
    link = link_of(plan, table)
    before = before_flow(plan, costs, link, costs.durations(plan))
    allowed = host_times(plan, costs.launches(plan))
    work = np.where(link >= 0, plan.ops.nbytes, 0) * NANOSECONDS_PER_SECOND

    def run(factor: Floats) -> tuple[Ints, Ints]:
        moving = np.maximum(_scaled(work, np.minimum(factor, _LARGEST_FACTOR)), link >= 0)
        return run_flows(plan, table, link, _scaled(before, factor), moving, allowed, graph)

    return run


def _scaled(amounts: Ints, factor: Floats) -> Ints:
    """Return amounts times factors, rounded; a factor of 1 keeps the integer, which a float might not hold."""
    out: Ints = np.where(factor == 1, amounts, np.rint(amounts * factor).astype(np.int64))
    return out


def jitter_summary(times: Ints, spread: Spread, alone_though_contended: bool) -> dict[str, Any]:
    """Return the object under ``jitter`` of the command line's JSON (DESIGN, section 4)."""
    quantiles = {name: round(float(np.quantile(times, q))) for name, q in _QUANTILES.items()}
    out: dict[str, Any] = {
        "draws": spread.draws,
        "seed": spread.seed,
        "distribution": DISTRIBUTION,
        "compute": spread.compute,
        "copies": spread.copies,
        STEP_TIME: quantiles | {"mean": round(float(times.mean()))},
    }
    if alone_though_contended:
        out["note"] = (
            "draws are taken with every copy at its own link's bandwidth: what they share is "
            "contended here, but the figures are too large to be drawn so"
        )
    return out
