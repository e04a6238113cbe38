"""A plan in which every process is a rank of its own: what folding peers into one rank has to agree with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loadahead.sim.costs import Costs
from loadahead.sim.ir.plan import Buffers, Ops, Plan, Ragged
from loadahead.sim.placement import Placement


def every_gpu(plan: Plan, costs: Costs) -> tuple[Plan, Costs]:
    """The plan once for each lane, with stages and operations numbered on, and each process a rank.

    The processes' numbers are those of the placement, so that ranks stand on the hosts and switches of the GPUs. The
    lanes wait for nothing of each other.
    """
    lanes = costs.placement.lanes(plan.ranks)
    stages, copies = len(plan.stage_rank), len(lanes)

    def on(column: np.ndarray, step: int) -> np.ndarray:
        return np.concatenate([np.where(column >= 0, column + step * lane, column) for lane in range(copies)])

    def rows(ragged: Ragged, step: int) -> Ragged:
        starts = [ragged.starts[:-1] + len(ragged.values) * lane for lane in range(copies)]
        return Ragged(np.concatenate([*starts, [len(ragged.values) * copies]]), on(ragged.values, step))

    def again(column: np.ndarray) -> np.ndarray:
        return np.tile(column, copies)

    def ranked(rank: np.ndarray) -> np.ndarray:
        return np.concatenate([lane[rank] for lane in lanes]).astype(rank.dtype)

    o, b = plan.ops, plan.buffers
    ops = Ops(
        rank=ranked(o.rank),
        stage=on(o.stage, stages).astype(o.stage.dtype),
        after=rows(o.after, len(plan)),
        **{name: rows(getattr(o, name), len(b.nbytes)) for name in ("reads", "writes", "allocs", "frees")},
        **{name: again(getattr(o, name)) for name in ("queue", "kind", "unit", "microbatch", "nbytes")},
    )
    buffers = Buffers(
        rank=ranked(b.rank),
        stage=on(b.stage, stages).astype(b.stage.dtype),
        **{name: again(getattr(b, name)) for name in ("space", "nbytes", "role", "unit", "microbatch")},
    )
    whole = replace(plan, ranks=lanes.size, ops=ops, buffers=buffers, op_ids=None, buffer_ids=None)
    for_all = {name: getattr(costs, name) * copies for name in ("units", "static_bytes", "optimizer_ns")}
    placement = Placement(gpus_per_host=costs.placement.gpus_per_host)
    return whole, costs.model_copy(update={**for_all, "placement": placement})


def in_step(plan: Plan, costs: Costs) -> tuple[Plan, Costs]:
    """The same, but that an operation waits for what it follows in every lane, and stands beside its peers."""
    whole, of_all = every_gpu(plan, costs)
    copies, ops = len(costs.placement.lanes(plan.ranks)), whole.ops
    # Operation i of lane l becomes number i * lanes + l, so that edges to other lanes point backwards.
    order = np.arange(len(whole)).reshape(copies, len(plan)).T.ravel()
    previous, edges = plan.previous_in_queue.tolist(), plan.ops.after.to_lists()
    after = []
    for op in range(len(plan)):
        before = sorted({*edges[op], *([previous[op]] if previous[op] >= 0 else [])})
        after += [[number * copies + lane for number in before for lane in range(copies)]] * copies

    def moved(ragged: Ragged) -> Ragged:
        rows = ragged.to_lists()
        return Ragged.from_lists([rows[at] for at in order.tolist()])

    columns = {
        name: getattr(ops, name)[order] for name in ("rank", "queue", "kind", "stage", "unit", "microbatch", "nbytes")
    }
    lists = {name: moved(getattr(ops, name)) for name in ("reads", "writes", "allocs", "frees")}
    return replace(whole, ops=replace(ops, after=Ragged.from_lists(after), **columns, **lists)), of_all
