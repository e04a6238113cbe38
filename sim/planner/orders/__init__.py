"""The pipeline orders are known by name. To add one, write its file and add its line here; the tests find it."""

from __future__ import annotations

from loadahead.sim.errors import InputError
from loadahead.sim.planner.orders.base import Order, Passes, PassKind, PipelineOrder
from loadahead.sim.planner.orders.files import read_order, write_order
from loadahead.sim.planner.orders.interleaved import interleaved
from loadahead.sim.planner.orders.of_plan import order_of
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


def make_order(name: str, ranks: int, microbatches: int, active: int | None = None) -> Order:
    """Return the order of that name, of one stage a rank; raise InputError when there is none.

    ``active`` caps the microbatches in flight on a rank; None means no cap beyond the order's own.
    """
    if name not in ORDERS:
        raise InputError(f"pipeline is {name!r}; it must be one of {', '.join(ORDERS)}")
    cap = min(active or microbatches, microbatches)
    return Order(name, tuple(ORDERS[name](ranks, microbatches, cap))).checked()


__all__ = [
    "ORDERS",
    "Order",
    "PassKind",
    "Passes",
    "PipelineOrder",
    "make_order",
    "order_names",
    "order_of",
    "read_order",
    "write_order",
]
