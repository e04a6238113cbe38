"""The pipeline orders are known by name. To add one, write its file and add its line here; the tests find it."""

from __future__ import annotations

from loadahead.sim.errors import InputError
from loadahead.sim.planner.orders.base import Passes, PipelineOrder
from loadahead.sim.planner.orders.interleaved import interleaved
from loadahead.sim.planner.orders.simple import simple

ORDERS: dict[str, PipelineOrder] = {
    "simple": simple,
    "gpipe": simple,
    "interleaved": interleaved,
    "1f1b": interleaved,
}


def order_names() -> list[str]:
    """Return every name a scenario may give as ``parallel.pipeline``, aliases included."""
    return list(ORDERS)


def find_order(name: str) -> PipelineOrder:
    """Return the order of that name; raise InputError when there is none."""
    if name not in ORDERS:
        raise InputError(f"pipeline is {name!r}; it must be one of {', '.join(ORDERS)}")
    return ORDERS[name]


__all__ = ["ORDERS", "Passes", "PipelineOrder", "find_order", "order_names"]
