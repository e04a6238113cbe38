"""The planner turns a workload and a policy into a plan: orders -> tasks -> offload decisions -> lowering."""

from __future__ import annotations

from loadahead.sim.planner.build import build_plan
from loadahead.sim.planner.orders import ORDERS, order_names
from loadahead.sim.planner.policy import HORIZON_UNITS, Policy
from loadahead.sim.planner.tasks import require_few_tasks

__all__ = ["HORIZON_UNITS", "ORDERS", "Policy", "build_plan", "order_names", "require_few_tasks"]
