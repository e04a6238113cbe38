"""Sweeps made of numbers alone, and small ones that are simulated, for figures and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from loadahead.reports.run_data import RunData
from loadahead.reports.sweep_facts import CostsFacts, SweepFacts
from loadahead.sim.planner import Policy
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_point, grid
from tests.support.plans import GB, uniform_costs, uniform_workload

ALWAYS = {"pipeline": "simple", "microbatches": 4, "horizon": 1, "horizon_unit": "tasks", "release_window": 1}


def row(step_time_ns: int, peak_device_bytes: int, **columns: Any) -> SweepRow:
    """A point with these numbers; other metrics are 0, other axes are one value."""
    metrics = {
        "peak_boundary_bytes": 0,
        "peak_host_bytes": 0,
        "stall_release_ns": 0,
        "stall_prefetch_ns": 0,
        "stall_send_ns": 0,
        "stall_recv_ns": 0,
        "overlap": 1.0,
        "offloaded": 1,
        "kept": 0,
        "host_bytes": 0,
    }
    room = {name: columns.pop(name, None) for name in ("capacity_bytes", "host_capacity_bytes", "gpus")}
    own = {name: columns.pop(name, value) for name, value in metrics.items()}
    dotted = columns.pop("axes", {})
    return SweepRow(
        axes=ALWAYS | columns | dotted, step_time_ns=step_time_ns, peak_device_bytes=peak_device_bytes, **own, **room
    )


@cache
def simulated(*, horizons: tuple[int, ...], counts: tuple[int, ...], units: tuple[str, ...] = ("tasks",)) -> RunData:
    """A simulated sweep over horizon, microbatches and unit, on a slow link."""
    axes: Mapping[str, Sequence[Any]] = {"microbatches": counts, "horizon": horizons, "horizon_unit": units}
    costs = uniform_costs(1, 2, d2h_bandwidth=GB // 4, h2d_bandwidth=GB // 4)
    points = grid(uniform_workload(1, 2), costs, Policy(pipeline="simple", microbatches=4, ranks=1), axes)
    return RunData(sweep=tuple(evaluate_point(point, "compiled") for point in points))


def facts(axes: Mapping[str, Sequence[Any]], **changes: Any) -> SweepFacts:
    """What a sweep over these axes says of itself."""
    known: dict[str, Any] = {
        "loadahead": "0.1.0",
        "scenario": "test",
        "tables": {"hardware": {"d2h": "16000000000 B/s"}, "offload": {"receive_ahead": 1}},
        "axes": {key: tuple(values) for key, values in axes.items()},
        "engine": "compiled",
        "costs": (CostsFacts(microbatches=None, source="scenario", digest=None),),
        "points": 1,
    }
    return SweepFacts(**(known | changes))
