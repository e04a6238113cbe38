"""The planner turns a workload, an order and decisions into a plan: orders -> tasks -> decisions -> lowering."""

from __future__ import annotations

from loadahead.sim.planner.build import build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.planner.orders import (
    ORDERS,
    Order,
    PassKind,
    make_order,
    order_names,
    order_of,
    read_order,
    write_order,
)
from loadahead.sim.planner.policy import AUTO, HORIZON_UNITS, MAKERS, Policy
from loadahead.sim.planner.tasks import require_few_tasks

__all__ = [
    "AUTO",
    "HORIZON_UNITS",
    "MAKERS",
    "ORDERS",
    "Goal",
    "Order",
    "PassKind",
    "Policy",
    "build_plan",
    "make_order",
    "order_names",
    "order_of",
    "read_order",
    "require_few_tasks",
    "write_order",
]
