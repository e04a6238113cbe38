"""What a run or a sweep is of, from the prepared scenario that it was made of."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.about import ABOUT, About
from loadahead.scenarios.estimates import counted_source, estimate_source
from loadahead.scenarios.hardware_words import device_in_words, link_in_words, machine_in_words
from loadahead.scenarios.layers import Told
from loadahead.scenarios.parallelism import sharing_of
from loadahead.scenarios.sharing import Sharing
from loadahead.sim.ir.kinds import Kind

if TYPE_CHECKING:
    from loadahead.scenarios.prepare import Prepared
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan

_SPLIT = (Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)
# What of a model says how large a microbatch and its work are.
_OF_WORK = ("tokens_per_microbatch", "flops_per_microbatch")
# The tables of a scenario whose keys, as a sweep's axes, leave a field of About undecided.
_FOLLOWS_FROM: dict[str, tuple[str, ...]] = {
    "model": ("model", *_OF_WORK, "peak_flops_per_s"),
    "hardware.machine": ("machine", "device", "link", "peak_flops_per_s"),
    "hardware.preset": ("device", "link", "peak_flops_per_s"),
    "hardware.memory": ("device",),
    "hardware.d2h": ("link",),
    "hardware.h2d": ("link",),
    "hardware.flops": ("peak_flops_per_s",),
    "hardware.gpus_per_host": ("machine",),
    "costs": ("device", "link"),
    "parallel.pipeline_parallel_degree": ("pipeline_parallel", "gpus", "machine"),
    "parallel.tensor_parallel_degree": ("tensor_parallel", "gpus", "machine"),
    "parallel.data_parallel_degree": ("data_parallel", "gpus", "machine"),
    "parallel.microbatches": ("microbatches",),
    "parallel.expert_parallel_degree": ("expert_parallel",),
    "parallel.zero_stage": ("zero_stage",),
    "parallel.sharded_data_parallel_degree": ("zero_stage",),
    "parallel.shard_optimizer_state": ("zero_stage",),
    "parallel.sequence_parallel": ("sequence_parallel",),
}


def about(prepared: Prepared, costs: Costs, plan: Plan | None = None, swept: Container[str] = ()) -> About:
    """Return what is known of a prepared scenario under its costs.

    Without a plan nothing is said of communication. ``swept`` are the scenario's keys that are axes of a sweep: what
    follows from them is None.
    """
    scenario, work, ranks = prepared.scenario, prepared.work, prepared.policy.ranks
    sharing = sharing_of(scenario.parallel)
    found: dict[str, Any] = {
        "model": scenario.model.described(prepared.units.layers),
        "machine": machine_in_words(scenario.hardware, costs, ranks),
        "device": device_in_words(scenario.hardware, costs),
        "link": link_in_words(costs),
        "pipeline_parallel": ranks,
        **_degrees(sharing),
        "gpus": costs.placement.processes(ranks),
        "microbatches": prepared.policy.microbatches,
        "tokens_per_microbatch": work.tokens,
        "flops_per_microbatch": work.flops,
        "peak_flops_per_s": None if work.peak_flops_per_s is None else float(work.peak_flops_per_s),
        "communication_ns": None if plan is None else communication_ns(prepared, costs, plan),
    }
    hidden = {name for key, names in _FOLLOWS_FROM.items() if _is_swept(key, swept) for name in names}
    return About(**{name: value for name, value in found.items() if name not in hidden})


def header_about(prepared: Prepared | None, costs: Costs, plan: Plan) -> dict[str, Any]:
    """Return what a timeline's header says of its run; nothing for a plan that does not say its scenario."""
    return {} if prepared is None else {ABOUT: about(prepared, costs, plan).to_dict()}


def _degrees(sharing: Sharing) -> dict[str, Any]:
    return {
        "tensor_parallel": sharing.tensor,
        "data_parallel": sharing.data,
        "expert_parallel": sharing.expert,
        "zero_stage": sharing.zero_stage,
        "sequence_parallel": sharing.sequence_parallel,
    }


def _is_swept(key: str, swept: Container[str]) -> bool:
    """Return whether a key is an axis, or any key of a table is."""
    if "." in key or not isinstance(swept, frozenset | set | tuple | list):
        return key in swept
    return any(axis == key or axis.startswith(f"{key}.") for axis in swept)


def communication_ns(prepared: Prepared, costs: Costs, plan: Plan) -> tuple[int, ...] | None:
    """Return how long each rank's operations spend on collectives in a step, in ns; None where that is not known.

    It is known of models whose times follow from their shapes; what ranks of the pipeline send is no part of it.
    """
    scenario, ops = prepared.scenario, plan.ops
    own_times = costs.source in (counted_source(scenario.hardware), estimate_source(scenario.hardware))
    if not (scenario.model.counts_communication and own_times) or np.isin(ops.kind, _SPLIT).any():
        return None
    cut, layers = prepared.units.cut, prepared.units.layers
    of_unit = [sum((layers[number].told for number in unit), Told()) for unit in cut.units]
    each = np.asarray([(one.forward_ns, one.recompute_ns, one.backward_ns) for one in of_unit], dtype=np.int64)
    # Where each stage's units begin among those of all stages.
    starts = np.concatenate([[0], np.cumsum([len(cut.stages[stage]) for stage in cut.order])])
    out = np.zeros(plan.ranks, dtype=np.int64)
    for place, kind in enumerate((Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD)):
        rows = np.flatnonzero(ops.kind == kind)
        units = cut.of_unit[starts[ops.stage[rows]] + ops.unit[rows]]
        np.add.at(out, ops.rank[rows], each[units, place])
    if prepared.units.told_ns:
        np.add.at(out, plan.stage_rank, np.asarray(prepared.units.told_ns, dtype=np.int64))
    return tuple(out.tolist())
