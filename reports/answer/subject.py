"""Says what a run or a sweep is of: the model, what it was planned for, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping

from loadahead.reports.about import About
from loadahead.reports.run_data import RunData
from loadahead.sim.choice import choices
from loadahead.sim.units import counted

# What begins the words on a module, and on costs that are no model's.
_MODULE, _GIVEN = "a module of ", "given costs"


def subject(data: RunData) -> str:
    """Return what the run is of: model, GPUs, link, and how the model is split; empty where nothing is known."""
    about = data.about
    where, on = gpus_of(about), measured_on(data)
    parts = [model_of(data) or "", _placed(where, on) if where else "", f"copies at {about.link}" if about.link else ""]
    split = _split(about)
    known = ", ".join(filter(None, [_joined(*parts[:2]), parts[2]]))
    ends = [part for part in (known, split, f"measured on {on}" if on is not None else "") if part]
    return f"{'; '.join(ends)}." if known else ""


def _joined(model: str, where: str) -> str:
    """Return the model and where it runs; a plan for what did not run it is told apart by a comma."""
    comma = "," if model and where.startswith("planned") else ""
    return f"{model}{comma} {where}".strip()


def _placed(where: str, on: str | None) -> str:
    return f"on {where}" if on is None else f"planned for {where}"


def model_of(data: RunData) -> str | None:
    """Return the model in words, or how many there are where a sweep has several; None where nothing is known."""
    about = data.about
    if about.model is not None or not data.sweep or not gpus_of(about):
        return about.model
    several = len(choices(data.sweep, model_axes=data.model_axes))
    return counted(several, "model") if several > 1 else None


def measured_on(data: RunData) -> str | None:
    """Return the CPU that ran what was planned for a GPU, e.g. ``a CPU (2 cores)``; None where none did."""
    if data.measured is None or data.measured.source != "cpu":
        return None
    machine = data.measured.header.get("machine")
    cores = machine.get("cores") if isinstance(machine, Mapping) else None
    return f"a CPU ({counted(cores, 'core')})" if type(cores) is int else "a CPU"


def title(data: RunData, name: str) -> str:
    """Return the model and the machine in short, else the scenario's name, which stands before costs that are given."""
    model, about, on = model_of(data), data.about, measured_on(data)
    if model is None:
        return name
    short = short_model(model)
    where = about.machine or device_of(about)
    placed = "" if not where else f" {'on' if on is None else 'for'} {where}"
    whose = "" if names_a_model(model) or short == name else f"{name}: "
    return f"{whose}{short}{placed}"


def short_model(model: str) -> str:
    """Return a model's name without the layers of its module."""
    named, _, layers = model.partition(_MODULE)
    return named.removesuffix(", ") or f"{_MODULE}{layers.partition(' (')[0]}"


def names_a_model(model: str) -> bool:
    """Return whether what is known of a model names it."""
    return not model.startswith((_MODULE, _GIVEN))


def device_of(about: About) -> str:
    """Return the GPU with its memory, e.g. ``h100-sxm of 79.65 GiB``; empty where it is not known."""
    return "" if about.device is None else about.device.replace(", ", " of ")


def gpus_of(about: About) -> str:
    """Return e.g. ``128 x h100-sxm of 79.65 GiB (16 x p5.48xlarge)``."""
    device = device_of(about)
    several = about.gpus is not None and about.gpus > 1
    where = f"{about.gpus} x {device.removeprefix('a ') or 'GPU'}" if several else device
    return f"{where} ({about.machine})" if where and about.machine else where or (about.machine or "")


def _split(about: About) -> str:
    """Return the degrees above 1, and what else says how the model is split."""
    degrees = {
        "pipeline": about.pipeline_parallel,
        "tensor": about.tensor_parallel,
        "data": about.data_parallel,
        "expert": about.expert_parallel,
    }
    parts = [f"{name} {degree}" for name, degree in degrees.items() if degree is not None and degree > 1]
    parts += ["sequence parallelism"] if about.sequence_parallel else []
    parts += [f"ZeRO {about.zero_stage}"] if about.zero_stage else []
    return ", ".join(parts)
