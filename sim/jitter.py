"""Random spread on durations: many draws of one step, and how far its time spreads.

Each operation's duration is multiplied by a factor of its own, lognormal with mean 1: never negative, skewed to the
late side. Host launches are left as they are. Waits turn spread into time, so the mean step is longer than the step of
mean durations (Jensen: a maximum is convex).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.costs import Costs, require_total
from sim.engines.compiled_engine import forward
from sim.ir.kinds import Queue
from sim.ir.plan import Ints, Plan

DISTRIBUTION = "lognormal with mean 1, drawn for each operation by itself"
_QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """``compute`` and ``copies`` (sends among them) are standard deviation over mean of an operation's factor."""

    compute: float = 0.0
    copies: float = 0.0
    seed: int = 0
    draws: int = 1000

    def sigmas(self, plan: Plan) -> npt.NDArray[np.float64]:
        """Standard deviation of the logarithm of each operation's factor; shape (operations,)."""
        variation = np.where(plan.ops.queue == Queue.COMPUTE, self.compute, self.copies)
        return np.sqrt(np.log1p(variation**2))


def step_times(plan: Plan, costs: Costs, spread: Spread) -> Ints:
    """The step's time in each draw, in ns; shape (draws,). Every copy has its own link's bandwidth.

    Equal seeds give equal draws.
    """
    random = np.random.default_rng(spread.seed)
    durations, launches, sigma = costs.durations(plan), costs.launches(plan), spread.sigmas(plan)
    out = np.zeros(spread.draws, dtype=np.int64)
    for draw in range(spread.draws if len(plan) else 0):
        factor = np.exp(sigma * random.standard_normal(len(plan)) - sigma**2 / 2)
        scaled = durations * factor
        require_total(scaled, "durations with jitter", "ns")
        # A float holds no more than 53 bits, so what has no spread keeps its integer.
        drawn = np.where(sigma > 0, np.rint(scaled).astype(np.int64), durations)
        times = forward(plan, drawn, launches)
        out[draw] = times.end_ns.max() - times.start_ns.min()
    return out


def jitter_summary(times: Ints, spread: Spread, contended: bool) -> dict[str, Any]:
    """The object under ``jitter`` of ``simulate --json``; ``contended``: whether the plain step's copies share links."""
    found = {name: round(float(np.quantile(times, q))) for name, q in _QUANTILES.items()}
    out: dict[str, Any] = {
        "draws": spread.draws,
        "seed": spread.seed,
        "distribution": DISTRIBUTION,
        "compute": spread.compute,
        "copies": spread.copies,
        "step_time_ns": found | {"mean": round(float(times.mean()))},
    }
    if contended:
        out["note"] = "draws are taken with every copy at its own link's bandwidth: shared links are contended here"
    return out
