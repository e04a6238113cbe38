"""Warns about settings without effect, in the words of SageMaker's documentation where it has some."""

from __future__ import annotations

from loadahead.scenarios.host_cautions import cautions_of_hosts
from loadahead.scenarios.kinds import Setting
from loadahead.scenarios.kinds.module import Module
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.sharing_cautions import cautions_of_sharing
from loadahead.scenarios.tables import COMPUTE_KEYS, GOAL_KEYS, HORIZON_KEYS, SEND_KEYS
from loadahead.sim.costs import ESTIMATE, Costs, is_estimate
from loadahead.sim.planner import AUTO, Policy
from loadahead.sim.units import bytes_apart
from loadahead.sim.workload import ModuleShapes, Workload

# The source of costs that were measured on a CPU.
ON_CPU = "calibrated on cpu"


def cautions(scenario: Scenario, setting: Setting | None = None) -> list[str]:
    """Return a sentence for each setting that does not do what its name says."""
    return [*cautions_beside_model(scenario), *scenario.model.cautions(setting or scenario.setting())]


def cautions_beside_model(scenario: Scenario) -> list[str]:
    """Return those of the sentences that follow from other tables than the model's."""
    return [
        *scenario.notes.sentences(),
        *scenario.hardware.cautions(),
        *_compute(scenario),
        *_no_estimate(scenario),
        *_recomputation(scenario),
        *_ideal(scenario),
        *_offloading(scenario),
        *cautions_of_decisions(scenario),
        *_budgets(scenario),
        *cautions_of_sharing(scenario),
        *_cap(scenario),
        *cautions_of_hosts(scenario),
    ]


def cautions_of_costs(scenario: Scenario, costs: Costs | None, shapes: ModuleShapes | None = None) -> list[str]:
    """Return warnings about what the scenario says and its costs, given or calibrated, say otherwise.

    ``shapes`` are those of the scenario's module, where it was traced.
    """
    if costs is None:
        return []
    return [*_estimated(scenario, costs, shapes), *_of_another_device(scenario, costs), *_issuing(scenario, costs)]


def cautions_of_sizes(policy: Policy, workload: Workload) -> list[str]:
    """Warn where every boundary is too small to leave, so that no horizon offloads anything."""
    if not policy.min_bytes or not policy.offload or not policy.checkpoint:
        return []
    largest = workload.largest_boundary()
    if largest >= policy.min_bytes:
        return []
    has, limit = bytes_apart(largest, policy.min_bytes)
    return [
        f"nothing is offloaded: every boundary is smaller than offload.min_bytes ({limit}), the largest has {has}; set "
        "a smaller min_bytes"
    ]


def _estimated(scenario: Scenario, costs: Costs, shapes: ModuleShapes | None) -> list[str]:
    """Say that times are an estimate, whether it is made now or stands in a costs file."""
    if not is_estimate(costs.source):
        return []
    instead = "; calibrate on that GPU for measured ones" if scenario.model.needs_shapes else ""
    out = [f"times are not measured but an {costs.source}{instead}"]
    if scenario.has_estimated_times:
        out += _other_precision(scenario, shapes)
    return out


def _other_precision(scenario: Scenario, shapes: ModuleShapes | None) -> list[str]:
    """Warn where the catalogue's FLOPs, which are of 16-bit products, are not those of a module's products."""
    hardware, model = scenario.hardware, scenario.model
    if hardware.flops is not None or not isinstance(model, Module):
        return []
    as_built = model.dtype is None and shapes is not None and shapes.weights_in_16_bits
    if model.autocast != "none" or model.dtype == "bfloat16" or as_built:
        return []
    ours = (
        "model.dtype is float32, whose products"
        if model.dtype == "float32"
        else "neither model.dtype nor model.autocast says that the model has such; its products in float32"
    )
    return [
        f"the estimate takes the catalogue's FLOPs of {hardware.accelerator}, which are of products in 16 bits; {ours} "
        "take longer"
    ]


def _of_another_device(scenario: Scenario, costs: Costs) -> list[str]:
    """Warn where a model's times were measured on a CPU and its hardware is a GPU."""
    hardware = scenario.hardware
    if hardware.accelerator is None or not scenario.model.needs_shapes or costs.source != ON_CPU:
        return []
    key = "machine" if hardware.preset is None else "preset"
    return [
        f'hardware.{key} is "{getattr(hardware, key)}" and compute times were calibrated on a CPU: they are that '
        "CPU's and say nothing about the GPU; calibrate on that GPU"
    ]


def _issuing(scenario: Scenario, costs: Costs) -> list[str]:
    """Warn where the scenario says how long an operation takes to issue and the costs say otherwise."""
    hardware, written = scenario.hardware, scenario.hardware.model_fields_set
    keys: list[tuple[str, object, object]] = [
        ("launch", hardware.launch, costs.launch_ns),
        ("launch_by_kind", hardware.launch_by_kind, costs.launch_by_kind),
    ]
    return [
        f"hardware.{key} has no effect: the costs hold what the host takes to issue an operation"
        for key, own, of_costs in keys
        if key in written and own != of_costs
    ]


def _compute(scenario: Scenario) -> list[str]:
    """Warn where the GPU's speed is written for a model whose times do not follow from it."""
    kind, written = scenario.model, scenario.hardware.model_fields_set
    if scenario.has_estimated_times:
        return []
    keys = [f"hardware.{key}" for key in COMPUTE_KEYS if key in written and getattr(scenario.hardware, key) is not None]
    if not keys or kind.times is None:
        return []
    have = "have" if len(keys) > 1 else "has"
    return [f"{', '.join(keys)} {have} no effect on a {kind.kind} model: {kind.times}"]


def _recomputation(scenario: Scenario) -> list[str]:
    """Warn where it is said what is recomputed, and nothing is."""
    granularity = scenario.checkpoint.recompute_granularity
    if scenario.checkpoint.enabled or granularity == "full":
        return []
    return [
        f'checkpoint.recompute_granularity = "{granularity}" has no effect without activation checkpointing '
        "(checkpoint.enabled is false)"
    ]


def _ideal(scenario: Scenario) -> list[str]:
    """Warn where it is written how quick sends are that are to take no time."""
    hardware = scenario.hardware
    written = [f"hardware.{key}" for key in SEND_KEYS if key in hardware.model_fields_set]
    written = [key for key in written if getattr(hardware, key.removeprefix("hardware.")) is not None]
    if not hardware.is_ideal or not written:
        return []
    have = "have" if len(written) > 1 else "has"
    return [f'{", ".join(written)} {have} no effect: hardware.communication is "ideal", so that sends take no time']


def _no_estimate(scenario: Scenario) -> list[str]:
    """Warn where an estimate is asked for of a model that has times of its own."""
    if not scenario.is_estimated or scenario.has_estimated_times:
        return []
    return [f'costs = "{ESTIMATE}" has no effect on a {scenario.model.kind} model: {scenario.model.times}']


def _offloading(scenario: Scenario) -> list[str]:
    """Warn where offloading has no effect.

    smp's documentation says: "When the activation checkpointing is not used, activation offloading has no effect. When
    it is used with only one microbatch, it does not save memory"; it also needs active_microbatches above 1.
    """
    offload, parallel = scenario.offload, scenario.parallel
    tuned = offload.decisions == AUTO
    if not offload.offload_activations:
        said = 'offload.decisions = "auto" has no effect: offload.offload_activations is false, so that nothing leaves'
        return [said] if tuned else []
    key = 'offload.decisions = "auto"' if tuned else "activation_loading_horizon"
    if not scenario.checkpoint.enabled:
        return [
            f"{key} has no effect: without activation checkpointing (checkpoint.enabled is false) "
            "activation offloading has no effect"
        ]
    if scenario.checkpoint.is_selective:
        return [
            f'{key} has no effect: checkpoint.recompute_granularity = "selective" keeps what units '
            "save, and no boundary leaves the GPU"
        ]
    if tuned:
        # Tuning offloads where that is of use, and says what it found.
        return []
    if parallel.microbatches == 1 and "parallel.microbatches" not in scenario.notes.by_default:
        return [
            "activation offloading does not save memory with only one microbatch (parallel.microbatches is 1), says "
            "SageMaker's documentation; between the many units of a rank it may still save some"
        ]
    if parallel.active_microbatches == 1:
        return [
            "activation offloading does not save memory with only one microbatch in flight "
            "(parallel.active_microbatches is 1), says SageMaker's documentation; between the many units of a rank it "
            "may still save some"
        ]
    return []


def cautions_of_decisions(scenario: Scenario) -> list[str]:
    """Warn of keys that say when boundaries leave, or what is to be reached, and that what decides takes no notice of.

    What a scenario that was made of something else has by default was written by nobody.
    """
    offload, tuned = scenario.offload, scenario.offload.decisions == AUTO
    without_effect = HORIZON_KEYS if tuned else GOAL_KEYS
    written = offload.model_fields_set - {key.removeprefix("offload.") for key in scenario.notes.by_default}
    keys = [key for key in without_effect if key in written and getattr(offload, key) is not None]
    if not keys:
        return []
    named, have = ", ".join(f"offload.{key}" for key in keys), "have" if len(keys) > 1 else "has"
    if tuned:
        return [f'{named} {have} no effect: offload.decisions is "auto", and tuning chooses when each boundary leaves']
    return [f'{named} {have} no effect: a horizon decides; set offload.decisions to "auto" for a plan that reaches it']


def _budgets(scenario: Scenario) -> list[str]:
    """Warn where a plan may take more than there is."""
    offload, hardware = scenario.offload, scenario.hardware
    if offload.decisions != AUTO:
        return []
    pairs = [
        ("memory", offload.memory, hardware.links()["memory_bytes"], "a GPU"),
        ("host_memory", offload.host_memory, hardware.value_of("host_memory"), "a host"),
    ]
    out = []
    for key, budget, there, who in pairs:
        if budget is not None and there is not None and budget > there:
            allowed, has = bytes_apart(budget, there)
            out.append(f"offload.{key} is {allowed} and {who} has {has}: a plan that keeps it may not fit")
    return out


def _cap(scenario: Scenario) -> list[str]:
    """Warn where more microbatches may be in flight than there are."""
    parallel = scenario.parallel
    active = parallel.active_microbatches
    by_default = "parallel.active_microbatches" in scenario.notes.by_default
    if active is None or active <= parallel.microbatches or by_default:
        return []
    return [
        f"parallel.active_microbatches is {active} and there are {parallel.microbatches} microbatches: the cap has "
        "no effect"
    ]
