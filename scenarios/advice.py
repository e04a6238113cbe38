"""Warns about settings without effect, in the words of SageMaker's documentation where it has some."""

from __future__ import annotations

from loadahead.scenarios.kinds import Setting
from loadahead.scenarios.schema import Scenario


def advice(scenario: Scenario, setting: Setting | None = None) -> list[str]:
    """Return a sentence for each setting that does not do what its name says."""
    return [*advice_beside_model(scenario), *scenario.model.advice(setting or scenario.setting())]


def advice_beside_model(scenario: Scenario) -> list[str]:
    """Return those of the sentences that follow from other tables than the model's."""
    return [*_offloading(scenario), *_parallelism(scenario), *_sharing(scenario)]


def _offloading(scenario: Scenario) -> list[str]:
    """Warn where offloading has no effect.

    smp's documentation says: "When the activation checkpointing is not used, activation offloading has no effect. When
    it is used with only one microbatch, it does not save memory"; it also needs active_microbatches above 1.
    """
    offload, parallel = scenario.offload, scenario.parallel
    if not offload.offload_activations:
        return []
    if not scenario.checkpoint.enabled:
        return [
            "activation_loading_horizon has no effect: without activation checkpointing (checkpoint.enabled is false) "
            "activation offloading has no effect"
        ]
    if parallel.microbatches == 1:
        return ["activation offloading does not save memory with only one microbatch (parallel.microbatches is 1)"]
    if parallel.active_microbatches == 1:
        return [
            "activation offloading does not save memory with only one microbatch in flight "
            "(parallel.active_microbatches is 1)"
        ]
    return []


def _parallelism(scenario: Scenario) -> list[str]:
    parallel = scenario.parallel
    out = []
    if parallel.ddp:
        out.append(
            "parallel.ddp = true: one replica is planned; the all-reduce of gradients between replicas is not modelled"
        )
    if "placement_strategy" in parallel.model_fields_set and parallel.placement_strategy != "cluster":
        out.append("parallel.placement_strategy has no effect: ranks fill the switches of one host in order")
    if scenario.hardware.host_memory is not None and parallel.tensor_parallel_degree > 1:
        out.append(
            "hardware.host_memory is compared with what the ranks of one tensor-parallel GPU each put there: "
            f"{parallel.tensor_parallel_degree} GPUs share the work of a rank (parallel.tensor_parallel_degree), and "
            "each has slots of its own"
        )
    active = parallel.active_microbatches
    if active is not None and active > parallel.microbatches:
        out.append(
            f"parallel.active_microbatches is {active} and there are {parallel.microbatches} microbatches: the cap has "
            "no effect"
        )
    return out


def _sharing(scenario: Scenario) -> list[str]:
    hardware = scenario.hardware
    out = []
    if hardware.gpus_per_switch is not None and hardware.uplink_d2h is None and hardware.uplink_h2d is None:
        out.append("hardware.gpus_per_switch has no effect: neither uplink_d2h nor uplink_h2d is given")
    weights = [key for key in ("d2h_weight", "h2d_weight") if getattr(hardware, key) is not None]
    if weights and hardware.duplex is None and hardware.host_memory_bandwidth is None:
        out.append(
            f"hardware.{weights[0]} has no effect: copies of both directions meet only in duplex or "
            "host_memory_bandwidth, and neither is given"
        )
    return out
