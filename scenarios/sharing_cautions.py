"""Warns about what is said of how GPUs share the model without effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loadahead.scenarios.schema import Scenario

# The keys of ``parallel`` that divide work or state, or say how that goes, each with the values that ask for it.
_ASKS: dict[str, Callable[[Any], bool]] = {
    "sequence_parallel": bool,
    "expert_parallel_degree": lambda degree: degree > 1,
    "zero_stage": lambda stage: stage is not None and stage > 0,
    "sharded_data_parallel_degree": lambda degree: degree is not None and degree > 1,
    "shard_optimizer_state": bool,
    "overlap_grad_reduce": lambda overlaps: not overlaps,
}
# Those of them that are about replicas, and can be asked for where there is one.
_OF_REPLICAS = ("zero_stage", "shard_optimizer_state", "overlap_grad_reduce")


def cautions_of_sharing(scenario: Scenario) -> list[str]:
    """Return a sentence for each setting without effect, and for what is not modelled between replicas."""
    return [*_replicas(scenario), *_keys(scenario)]


def _is_ideal(scenario: Scenario) -> bool:
    return bool(scenario.hardware.communication == "ideal")


def _replicas(scenario: Scenario) -> list[str]:
    """Warn where replicas are planned as one and what they tell each other takes no time."""
    parallel = scenario.parallel
    replicas = parallel.data_parallel_degree
    if scenario.model.undivided is not None or _is_ideal(scenario):
        if not parallel.ddp and replicas == 1:
            return []
        said = "ddp = true" if parallel.ddp else f"data_parallel_degree = {replicas}"
        return [
            f"parallel.{said}: one replica is planned, others run in step with it; the all-reduce of gradients between "
            "replicas is not modelled"
        ]
    if parallel.ddp and "data_parallel_degree" not in parallel.model_fields_set:
        return [
            "parallel.ddp = true does not say how many replicas there are, and one is counted: set "
            "parallel.data_parallel_degree"
        ]
    return []


def _keys(scenario: Scenario) -> list[str]:
    parallel, kind = scenario.parallel, scenario.model
    asked = [key for key, asks in _ASKS.items() if asks(getattr(parallel, key))]
    if parallel.data_parallel_degree == 1:
        asked = [key for key in asked if f"parallel.{key}" not in scenario.notes.by_default]
    if kind.undivided is not None:
        return _without_effect(asked, f"on a {kind.kind} model: {kind.undivided}")
    out = []
    if "sequence_parallel" in asked and parallel.tensor_parallel_degree == 1:
        out += _without_effect(
            ["sequence_parallel"],
            "without tensor parallelism, whose GPUs divide the sequence (parallel.tensor_parallel_degree is 1)",
        )
    if parallel.data_parallel_degree == 1:
        alone = [key for key in asked if key in _OF_REPLICAS]
        return out + _without_effect(alone, "on one replica (parallel.data_parallel_degree is 1)")
    by_default = "parallel.zero_stage" in scenario.notes.by_default
    if "zero_stage" in asked and parallel.sharded_data_parallel_degree == 1 and not by_default:
        out += _without_effect(["zero_stage"], "where state is sharded over 1 (parallel.sharded_data_parallel_degree)")
    if "overlap_grad_reduce" in asked and _is_ideal(scenario):
        out += _without_effect(["overlap_grad_reduce"], 'where hardware.communication is "ideal" and takes no time')
    return out


def _without_effect(keys: list[str], where: str) -> list[str]:
    if not keys:
        return []
    named = ", ".join(f"parallel.{key}" for key in keys)
    return [f"{named} {'have' if len(keys) > 1 else 'has'} no effect {where}"]
