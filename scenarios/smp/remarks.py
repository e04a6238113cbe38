"""What is to be said of options themselves, whatever the model and the machine are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loadahead.scenarios.notes import Note
from loadahead.scenarios.smp import v1
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.processes import Degrees
from loadahead.scenarios.smp.values import NotKnown, shown

_OFFLOAD = ("offload.offload_activations",)
_SHARDING = ("parallel.zero_stage", "parallel.sharded_data_parallel_degree")
# Keys that change memory or time in truth and not here, each with when it does.
_NOT_MODELLED: dict[str, Callable[[Any], bool]] = {
    "context_parallel_degree": lambda value: value > 1,
}


def remarks_on(options: Options, degrees: Degrees, parallel: Mapping[str, Any]) -> list[Note]:
    """Return a note for each thing that is assumed, has no effect, or is not modelled."""
    out = []
    if options.undecided:
        out.append(Note("no key is of one version of SageMaker's model parallel library alone: those of v1 are taken"))
    if options.launch.get("enabled") is False:
        out.append(Note("enabled is false: SageMaker would leave the library off; predicted is what it would do if on"))
    out.append(
        Note(
            "activation checkpointing is taken as on: it is set in the training script, which the options do not show",
            ("checkpoint.enabled",),
        )
    )
    out += _of_v1(options, degrees, parallel) if options.version == v1.NAME else _of_v2(options, degrees)
    return [*out, *_not_modelled(options)]


def _of_v1(options: Options, degrees: Degrees, parallel: Mapping[str, Any]) -> list[Note]:
    out = []
    if parallel["pipeline"] == "interleaved" and degrees.pipeline > 1:
        out.append(
            Note(
                "pipeline = interleaved is plain 1F1B here, backward first, as SageMaker has it; elsewhere the word "
                "means virtual stages, several on a GPU, which these are not",
                ("parallel.pipeline",),
            )
        )
    if degrees.data > 1 and not parallel["ddp"] and options.parameters.get("horovod") is not True:
        out.append(
            Note(
                f"{degrees.processes} processes make {degrees.data} replicas and ddp is not true: SageMaker's "
                "documentation asks for ddp = true with data parallelism",
                ("parallel.ddp",),
            )
        )
    if not options.value("offload_activations") and "activation_loading_horizon" in options.parameters:
        out.append(Note("activation_loading_horizon has no effect: offload_activations is not true", _OFFLOAD))
    return out


def _of_v2(options: Options, degrees: Degrees) -> list[Note]:
    out = []
    if not options.value("sm_activation_offloading"):
        text = (
            "sm_activation_offloading is false: offloading is off here; PyTorch's own, which the training script may "
            "use then, is not modelled"
        )
        out.append(Note(text, _OFFLOAD))
    if options.value("hybrid_shard_degree") == 0 and degrees.data > 1 and degrees.tensor == 1:
        how = "" if "hybrid_shard_degree" in options.parameters else ", the default"
        text = (
            f"hybrid_shard_degree is 0{how}: the training script's sharding_strategy counts, and FULL_SHARD over all "
            f"{degrees.data} replicas is taken"
        )
        out.append(Note(text, _SHARDING))
    return out


def _not_modelled(options: Options) -> list[Note]:
    """Return a note for each key that would change the memory or the time in truth, and is set to do so."""
    out = []
    for name, changes in _NOT_MODELLED.items():
        key = options.keys.get(name)
        value = None if key is None else options.value(name)
        if key is None or isinstance(value, NotKnown) or not changes(value):
            continue
        how = "" if name in options.parameters else ", the default,"
        out.append(Note(f"{name} = {shown(value)}{how} does not change this prediction: {key.why}"))
    return out
