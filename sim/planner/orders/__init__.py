"""The pipeline orders by name. To add one: write its file, add its line here; tests run over this registry."""

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
    """Every name a scenario may give as ``parallel.pipeline``, aliases included."""
    return list(ORDERS)


def find_order(name: str) -> PipelineOrder:
    """The order of that name; InputError when there is none."""
    if name not in ORDERS:
        raise InputError(f"pipeline is {name!r}; it must be one of {', '.join(ORDERS)}")
    return ORDERS[name]


__all__ = ["ORDERS", "Passes", "PipelineOrder", "find_order", "order_names"]
