"""What it costs that a transfer waits for the memory it lands in: python tests/bench/bench_transfers.py.

Orders of several stages a rank, with units all alike: FORWARD 1, BACKWARD 2, no time between ranks, nothing offloaded.
Each line says by how much a step is longer than if no transfer waited, for 0, 1 and 2 tasks ahead.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from loadahead.sim.costs import Costs
from loadahead.sim.engines import find_engine
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Order, Policy, build_plan
from tests.support.orders import v_shape, virtual_stages
from tests.support.plans import never_waiting, uniform_costs, uniform_workload

AHEAD = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Row:
    """An order under the name it is printed by."""

    name: str
    order: Order


INTERLEAVED_GRID = [
    Row(f"interleaved p{ranks} v{each} m{rounds * ranks}", virtual_stages(ranks, each, rounds * ranks))
    for ranks in (2, 4, 8)
    for each in (2, 3, 4)
    for rounds in (1, 2, 4)
]
V_GRID = [
    Row(f"v p{ranks} m{microbatches} in flight {most}", v_shape(ranks, microbatches, most))
    for ranks in (2, 4, 8)
    for microbatches in (ranks, 4 * ranks)
    for most in (ranks, 2 * ranks)
]


@dataclass(frozen=True, slots=True)
class Loss:
    """A step's time in ns as transfers wait, and as they never do."""

    plan: Plan
    costs: Costs
    waiting_ns: int
    never_ns: int

    @property
    def share(self) -> float:
        """How much longer the step is."""
        return self.waiting_ns / self.never_ns - 1


def loss(row: Row, ahead: int) -> Loss:
    """The loss of an order's plan with memory taken so many tasks ahead."""
    order = row.order
    policy = Policy(order=order, ranks=order.ranks, microbatches=order.microbatches, offload=False, receive_ahead=ahead)
    plan, costs = build_plan(uniform_workload(order.stages), policy), uniform_costs(order.stages)
    engine = find_engine("compiled")
    waiting, never = (int(engine(one, costs).end_ns.max()) for one in (plan, never_waiting(plan)))
    return Loss(plan, costs, waiting, never)


def main() -> None:
    print(f"{'':34}" + "".join(f"{f'ahead {ahead}':>10}" for ahead in AHEAD))
    for row in [*INTERLEAVED_GRID, *V_GRID]:
        print(f"{row.name:34}" + "".join(f"{loss(row, ahead).share:10.2%}" for ahead in AHEAD))


if __name__ == "__main__":
    main()
