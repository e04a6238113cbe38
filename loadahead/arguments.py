"""What callers give in one of several forms is made into the one that is worked with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loadahead.plan_files import read_decisions
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan

if TYPE_CHECKING:
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.decisions import Decisions
    from loadahead.sim.planner import Order

    # What an order and decisions may be given as; a text is a name of an order, or a path.
    OrderSource = Order | str | Path | Sequence[Sequence[str]]
    DecisionsSource = Decisions | Plan | str | Path | Iterable[Mapping[str, Any]]

# What stands for costs that follow from the model and the GPU (loadahead.sim.costs.ESTIMATE).
Estimate = Literal["estimate"]

# What a launcher of several processes says to each: how many there are.
WORLD_SIZE = "WORLD_SIZE"


def order_given(order: OrderSource | None) -> Order | str | None:
    """Return an order that was given as such, as its rows or as its file; a registered order's name stays a name."""
    from loadahead.sim.planner import Order, order_names, read_order

    if order is None or isinstance(order, Order):
        return order
    if isinstance(order, Path):
        return read_order(order)
    if not isinstance(order, str):
        return Order.of(order)
    if order in order_names():
        return order
    if not Path(order).suffix and not os.path.exists(order):
        raise InputError(
            f"order {order!r:.60}: is neither a name nor a file; the names are {', '.join(order_names())}, and a file "
            "has a row of passes per rank, e.g. 0F0,0B0"
        )
    return read_order(order)


def decisions_given(decisions: DecisionsSource | None) -> Decisions | None:
    """Return decisions that were given as such, as rows, as a file of either, or as a plan that makes them."""
    from loadahead.sim.ir.decisions import Decisions

    if decisions is None or isinstance(decisions, Decisions):
        return decisions
    if isinstance(decisions, Plan):
        return Decisions.of(decisions)
    if isinstance(decisions, str | Path):
        return read_decisions(decisions)
    return Decisions.from_rows(decisions)


def costs_given(costs: Costs | Path | str | None) -> Costs | Estimate | None:
    """Return costs that were given as such, or as their file, or the word that asks for an estimate.

    The word as a path is a file of that name. Raise InputError where a value is not allowed.
    """
    from loadahead.sim.costs import ESTIMATE, Costs, load_costs, require_sound

    if isinstance(costs, str) and costs == ESTIMATE:
        return "estimate"
    if isinstance(costs, str | Path):
        return load_costs(Path(costs))
    if costs is not None and not isinstance(costs, Costs):
        raise InputError(
            f'the costs are of type {type(costs).__name__}; give costs, the path of a costs file, or "{ESTIMATE}"'
        )
    if costs is not None:
        require_sound(costs)
    return costs


def require_one_process() -> None:
    """Raise InputError in one of several processes that torchrun or the like started: each would run all ranks."""
    processes = os.environ.get(WORLD_SIZE, "").strip().lstrip("0")
    if processes.isdecimal() and processes != "1":
        raise InputError(
            f"{WORLD_SIZE} is {processes:.20}, as torchrun sets it: each of its processes would run the whole step; "
            "run it once, without torchrun (or with the variable unset): one process runs all ranks"
        )


def require_device(device: str) -> None:
    """Raise InputError, before any work is done, when tensors cannot be run here.

    That is where there is no backend or no device of that name, and in one of several processes.
    """
    require_one_process()
    from loadahead.executor.backends import torch_device

    try:
        torch_device(device)
    except InputError as error:
        raise InputError(str(error), parameters=("device",)) from error
