"""The layers that a user holds: what a plan for them depends on, and whether they can be run as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from loadahead.executor.backends import BACKENDS
from loadahead.executor.model.spec import AUTOCAST, Modules, is_lazy, layers_of, on_meta, require_own_process
from loadahead.sim.errors import InputError

# Names for those who do not import torch.
Tensor: TypeAlias = torch.Tensor
Dtype: TypeAlias = torch.dtype
Device: TypeAlias = torch.device


@dataclass(frozen=True, slots=True)
class Condition:
    """Says what a plan bound to layers depends on beside their code; equal ones need not be bound again.

    Attributes:
        modules: each module by its id, with its train flag.
        weights: each weight by its id, with what may be changed of it from outside.
        autocast: the type that autocast casts to; None where it is off.
    """

    modules: tuple[tuple[int, bool], ...]
    weights: tuple[tuple[Any, ...], ...]
    autocast: torch.dtype | None


class UsersModel:
    """Holds the layers that a user holds; nothing of them is copied or changed.

    Raises InputError where they are no layers that are run one after the other.
    """

    def __init__(self, layers: Modules, device: torch.device) -> None:
        self._given, self.device = layers, device
        self.require_runnable()

    @property
    def module(self) -> nn.Sequential:
        """Return the layers as they are now, in a container of ours."""
        return nn.Sequential(*layers_of(self._given))

    def condition(self, autocast: torch.dtype | None) -> Condition:
        """Return what a plan bound now depends on; ``autocast`` is the type where the caller has switched none on."""
        modules = [part for layer in layers_of(self._given) for part in layer.modules()]
        weights = [p for part in modules for p in part._parameters.values() if p is not None]
        return Condition(
            tuple([(id(part), part.training) for part in modules]),
            tuple([(id(p), p.requires_grad, p.dtype, p.device, p.shape, p.data_ptr()) for p in weights]),
            ambient_autocast(self.device) or autocast,
        )

    def require_runnable(self) -> None:
        """Raise InputError, in one line, for layers that cannot be run as they are."""
        module = self.module
        require_own_process(module)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if is_lazy(tensor):
                raise InputError(
                    f"model: {name} learns its shape when the model first runs: run it once, e.g. under "
                    "torch.no_grad(), before a step is made of it"
                )
        if on_meta(module):
            raise InputError("the model lies on the meta device, its weights have shapes and no numbers: build it anew")
        for name, tensor in module.named_parameters():
            if tensor.is_inference():
                raise InputError(f"model: {name} was made in inference mode and cannot be trained: make it outside")
            if tensor.device != self.device:
                raise InputError(
                    f"model: {name} is on {tensor.device} and the step runs on {self.device}: move the layers there "
                    f'with .to("{self.device}"), or give device = "{tensor.device.type}"'
                )


def device_name(device: Any) -> str:
    """Return the name by which a backend goes, of a name or of a ``torch.device``; InputError where there is none."""
    name = str(device).partition(":")[0]
    if name not in BACKENDS:
        raise InputError(f"device is {str(device)!r:.40}; it must be one of {', '.join(BACKENDS)}")
    return name


def require_device_of(backend_device: torch.device, device: Any) -> None:
    """Raise InputError where a device was named by its number and is not the one that the backend runs on."""
    wanted = torch.device(str(device))
    if (wanted.type, wanted.index or 0) != (backend_device.type, backend_device.index or 0) and ":" in str(device):
        raise InputError(
            f"device is {str(device)!r} and this process's current one is {backend_device}: choose it with "
            f"torch.cuda.set_device({wanted.index}) first"
        )


def ambient_autocast(device: torch.device) -> torch.dtype | None:
    """Return the type that the caller's autocast casts to now; None where it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def require_gradients_on() -> None:
    """Raise InputError under ``torch.no_grad`` and in inference mode."""
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        where = "torch.inference_mode" if torch.is_inference_mode_enabled() else "torch.no_grad"
        raise InputError(f"the step was called under {where}, and it computes gradients: call it outside")


def autocast_name(dtype: torch.dtype | None) -> str | None:
    """Return the scenario's word for what autocast casts to; None where it has none for it."""
    return next((name for name, known in AUTOCAST.items() if known == dtype), None)


def scale_of(scaler: Any, device: torch.device) -> torch.Tensor | None:
    """Return what a ``torch.amp.GradScaler`` multiplies a loss by, on the device; None where that is nothing.

    Raises InputError for what is no scaler.
    """
    if scaler is None:
        return None
    if not callable(getattr(scaler, "scale", None)) or not callable(getattr(scaler, "is_enabled", None)):
        raise InputError(f"scaler is of type {type(scaler).__name__}; it must be a torch.amp.GradScaler")
    # It makes its scale when it is first asked to scale something.
    scale: torch.Tensor = scaler.scale(torch.ones((), device=device))
    return scale.detach() if scaler.is_enabled() else None
