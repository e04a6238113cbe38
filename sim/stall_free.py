"""A search finds the smallest horizon at which no BACKWARD waits for its PREFETCH, and what a larger one costs.

A horizon at which nothing is offloaded any more waits for nothing, and does not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from loadahead.sim.costs import Costs
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.planner import Policy
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import Point, evaluate_points
from loadahead.sim.workload import Workload

# LARGER horizons are priced beyond the one sought. FIRST_BATCH are tried at once, then twice as many each time.
LARGER, FIRST_BATCH = 4, 8
# A search tries plans of at most this many operations together, which takes about ten seconds.
MOST_OPERATIONS = 500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StallFree:
    """Holds the smallest horizon without stalls, its step time in ns and its largest rank's peak device bytes.

    ``larger`` holds (horizon, bytes more than at ``horizon``) of the next ones; the bytes are below 0 where one needs
    less.
    """

    horizon: int
    step_time_ns: int
    peak_device_bytes: int
    larger: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the command line's JSON holds it (DESIGN, section 4)."""
        return asdict(self) | {
            "larger": [{"horizon": horizon, "more_bytes": more} for horizon, more in self.larger],
        }


def stall_free(workload: Workload, costs: Costs, policy: Policy) -> StallFree | None:
    """Search the horizons from 1 on, all else as in the policy; return None where none is free of stalls."""
    rows: list[SweepRow] = []
    for row in _rows(workload, costs, policy):
        rows.append(row)
        answer = stall_free_of(rows)
        if answer is not None and len(answer.larger) == LARGER:
            return answer
    return stall_free_of(rows)


def _rows(workload: Workload, costs: Costs, policy: Policy) -> Iterable[SweepRow]:
    """Yield the rows of growing horizons, until one offloads nothing or the search has become too long.

    Beyond a rank's number of tasks a horizon changes nothing any more.
    """
    units = [len(stage) for stage in workload.stages]
    on_ranks = units if policy.order is None else np.bincount(policy.order.stage_rank, weights=units).tolist()
    most = min(2 * policy.microbatches * int(max(on_ranks)), MOST_OPERATIONS // (10 * policy.microbatches * sum(units)))
    size, horizon = FIRST_BATCH, 1
    while horizon <= most:
        policies = [replace(policy, horizon=h) for h in range(horizon, min(horizon + size, most + 1))]
        points = [Point(workload=workload, costs=costs, policy=p, axes={"horizon": p.horizon}) for p in policies]
        for row in evaluate_points(points, DEFAULT_ENGINE):
            if not row.offloaded:
                return
            yield row
        horizon, size = horizon + size, 2 * size


def stall_free_of(rows: Sequence[SweepRow]) -> StallFree | None:
    """Return the answer among rows that differ in their horizon alone; None where every row has stalls."""
    rows = sorted((row for row in rows if row.offloaded), key=lambda row: row.horizon)
    for index, row in enumerate(rows):
        if not row.stall_prefetch_ns:
            peak = row.peak_device_bytes
            following = rows[index + 1 : index + 1 + LARGER]
            return StallFree(
                horizon=row.horizon,
                step_time_ns=row.step_time_ns,
                peak_device_bytes=peak,
                larger=tuple((other.horizon, other.peak_device_bytes - peak) for other in following),
            )
    return None


def stall_free_groups(rows: Sequence[SweepRow], axes: Sequence[str]) -> list[tuple[dict[str, Any], StallFree | None]]:
    """Return, in the rows' order, the values of a sweep's other axes and the answer for each combination."""
    others = [axis for axis in axes if axis != "horizon"]

    def key(row: SweepRow) -> tuple[Any, ...]:
        return tuple(row.axes[axis] for axis in others)

    order = {values: place for place, values in reversed(list(enumerate(map(key, rows))))}
    grouped = itertools.groupby(sorted(rows, key=lambda row: order[key(row)]), key)
    return [(dict(zip(others, values, strict=True)), stall_free_of(list(group))) for values, group in grouped]
