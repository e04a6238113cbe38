"""Which model and which hardware a scenario of options has: those given, the instance's, or else stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.catalogue.machines import MACHINES, find_machine
from loadahead.scenarios.kinds.transformer import Transformer
from loadahead.scenarios.kinds.uniform import Uniform
from loadahead.scenarios.notes import Note
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.values import shown
from loadahead.sim.errors import InputError

# Keys of [hardware] that say which GPUs there are, and so leave nothing to stand in.
WHICH = ("machine", "preset")
_WHICH_KEYS = tuple(f"hardware.{key}" for key in WHICH)
_STAND_IN = "the uniform scenario's, which stands in"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIns:
    """Holds the tables ``model`` and ``hardware``, and what is to be said of them.

    Attributes:
        machine: the machine's name, where one is known; ``machine_is_instance``: the options' instance type names it.
        hardware_stands_in: nothing says which GPUs there are.
        instance_unknown: why the options' instance type says nothing; empty where it does.
    """

    model: Any
    hardware: Any
    machine: str | None = None
    machine_is_instance: bool = False
    hardware_stands_in: bool = False
    instance_unknown: str = ""
    notes: tuple[Note, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def gpus_per_host(self) -> int | None:
        """How many GPUs a host of the machine has; None where that is not known."""
        return None if self.machine is None else MACHINES[self.machine].gpus_per_host


def stand_ins(options: Options, given: Mapping[str, Any], uniform: Mapping[str, Any]) -> StandIns:
    """Return the model and the hardware beside what is given by hand; raise InputError where a GPU's speed is missing.

    ``uniform`` is the scenario whose model and numbers stand in.
    """
    model, model_stands_in = _model(given.get("model"), uniform["model"])
    own = given.get("hardware", {})
    if not isinstance(own, Mapping):
        return StandIns(model=model, hardware=own)
    instance = options.launch.get("instance_type")
    named = find_machine(instance) if isinstance(instance, str) else None
    unknown = _unknown(instance) if isinstance(instance, str) and named is None else ""
    notes, origins, stands_in = [], {}, False
    if any(own.get(key) is not None for key in WHICH):
        hardware, machine, is_instance = dict(own), own.get("machine"), False
    elif named is not None:
        hardware, machine, is_instance = {"machine": named, **own}, named, True
    else:
        hardware, machine, is_instance, stands_in = {**uniform["hardware"], **own}, None, False, True
        origins = {f"hardware.{key}": _STAND_IN for key in uniform["hardware"] if key not in own}
        _require_speed(model, hardware, options.source)
        if unknown:
            notes.append(Note(f"instance_type is {unknown}", _WHICH_KEYS))
    if model_stands_in:
        origins |= {f"model.{key}": _STAND_IN for key in uniform["model"]}
    text = _missing(model_stands_in, stands_in, uniform)
    if text is not None:
        notes.append(Note(text, ("model",) if model_stands_in else _WHICH_KEYS))
    return StandIns(
        model=model,
        hardware=hardware,
        machine=find_machine(machine) if isinstance(machine, str) else None,
        machine_is_instance=is_instance,
        hardware_stands_in=stands_in,
        instance_unknown=unknown,
        notes=tuple(notes),
        origins=origins,
    )


def _model(given: Any, uniform: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the model's table, and whether it stands in.

    Keys without a kind are put into that of the uniform scenario where it has them all, and else are a transformer's.
    """
    if given is None:
        return dict(uniform), True
    if not isinstance(given, Mapping) or "kind" in given:
        return given, False
    if set(given) <= set(Uniform.model_fields):
        return {**uniform, **given}, True
    if set(given) <= set(Transformer.model_fields):
        return {"kind": "transformer", **given}, False
    return given, False


def _require_speed(model: Any, hardware: Mapping[str, Any], source: str) -> None:
    """Refuse a model whose times follow from a GPU's speed where no GPU is known."""
    if isinstance(model, Mapping) and model.get("kind") == "transformer" and hardware.get("flops") is None:
        raise InputError(
            f"{source}: the model counts FLOPs, and no machine says how fast its GPUs are; set hardware.machine, one "
            f"of {', '.join(MACHINES)}",
            parameters=("machine",),
        )


def _unknown(instance: str) -> str:
    return f"{shown(instance)}, which is none of the machines known: {', '.join(MACHINES)}"


def _missing(model: bool, hardware: bool, uniform: Mapping[str, Any]) -> str | None:
    """Return the sentence about what was not given and what stands in for it."""
    of_model, of_hardware = uniform["model"], uniform["hardware"]
    numbers = f"{of_model['forward']} of forward and {of_model['boundary']} of boundary a unit"
    links = f"links of {of_hardware['d2h']}"
    if model and hardware:
        return (
            f"no model and no machine are given: the uniform scenario's stand in, with {numbers} and {links}; set "
            "model.preset and hardware.machine"
        )
    if model:
        return f"no model is given: the uniform scenario's stands in, with {numbers}; set model.preset"
    if hardware:
        return f"no machine is given: the uniform scenario's numbers stand in, with {links}; set hardware.machine"
    return None
