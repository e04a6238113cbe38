"""The order of a plan is read off its tasks."""

from __future__ import annotations

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.planner.orders.base import Order, Passes

# Halves of a backward pass, which no order has yet.
_SPLIT = (int(Kind.BACKWARD_INPUT), int(Kind.BACKWARD_WEIGHT))


def order_of(plan: Plan) -> Order | None:
    """Return the order in which a plan runs its passes; None where its tasks are no whole passes of whole stages.

    A backward pass over a stage all of whose units are frozen has no task, and stands behind the rank's other passes.
    """
    ops = plan.ops
    if np.isin(ops.kind, _SPLIT).any() or ops.stage.max(initial=-1) >= len(plan):
        return None
    forward = ops.kind == Kind.FORWARD
    units = np.zeros(int(ops.stage.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(units, ops.stage[forward], ops.unit[forward] + 1)
    frozen = np.clip(plan.frozen_units - np.cumsum(units) + units, 0, units)
    passes = [_passes(plan, rank, units, frozen) for rank in range(plan.ranks)]
    whole = [own for own in passes if own is not None]
    if len(whole) < len(passes):
        return None
    name = plan.policy.get("pipeline")
    try:
        return Order(name if isinstance(name, str) else plan.name, tuple(whole)).checked()
    except InputError:
        return None  # a stage is missing, or in two places


def _passes(plan: Plan, rank: int, units: Ints, frozen: Ints) -> Passes | None:
    """Return the passes of one rank; ``units`` and ``frozen`` count each stage's units and those that are frozen."""
    own = plan.queue_ops(rank, Queue.COMPUTE)
    own = own[np.isin(plan.ops.kind[own], (int(Kind.FORWARD), int(Kind.BACKWARD)))]
    columns = (plan.ops.kind[own] == Kind.BACKWARD, plan.ops.stage[own], plan.ops.microbatch[own])
    labels = np.stack(columns, axis=1).astype(np.int64).reshape(-1, 3)
    backward, stage, unit = labels[:, 0] == 1, labels[:, 1], plan.ops.unit[own].astype(np.int64)
    if not len(own) or labels.min() < 0 or unit.min() < 0:
        return None
    step = np.where(backward, units[stage] - 1 - unit, unit)  # how many units of its pass a task comes after
    begins = np.flatnonzero(step == 0)
    if not len(begins) or begins[0] != 0:
        return None
    number = np.cumsum(step == 0) - 1
    as_begun = (labels == labels[begins][number]).all() and (step == np.arange(len(own)) - begins[number]).all()
    wanted = units[stage[begins]] - np.where(backward[begins], frozen[stage[begins]], 0)
    if not as_begun or (np.diff([*begins, len(own)]) != wanted).any():
        return None
    begun = labels[begins]
    without = begun[(begun[:, 0] == 0) & (frozen == units)[begun[:, 1]]] + (1, 0, 0)
    out: Passes = np.concatenate([begun, without]).astype(np.int32)
    return out
