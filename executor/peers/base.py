"""Defines what a peer is: another way to offload activations, or not to, run on the same model beside our plans."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from loadahead.sim.errors import one_line


class Offloader(Protocol):
    """Offloads one microbatch, from its forward pass to the end of its backward pass."""

    def around(self) -> AbstractContextManager[Any]:
        """Return the context in which the microbatch runs."""

    def mark(self, boundary: torch.Tensor) -> None:
        """Learn that what is checkpointed next has this input."""


class Unavailable(Exception):
    """Says that the peer cannot be run here; the message is the reason in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Describes another implementation.

    Attributes:
        make: returns the offloader of one microbatch in flight, given the model and the device; raises Unavailable.
        needs_cuda: why it does nothing, or does not run, elsewhere; empty where it does.
        offloads: whether it moves activations to the host. On a CPU these copies cannot be told from device memory,
            unless it keeps them from being counted (``host_copies_apart``).
        checkpoints: whether units are checkpointed.
    """

    name: str
    make: Callable[[nn.Module, torch.device], Offloader]
    needs_cuda: str = ""
    offloads: bool = True
    host_copies_apart: bool = False
    checkpoints: bool = True

    @property
    def peak_is_known_on_cpu(self) -> bool:
        """Return whether a CPU's meter of tensors tells what the peer would hold on a device."""
        return self.host_copies_apart or not self.offloads


@dataclass(frozen=True, slots=True)
class SavedTensorHooks:
    """Offloads by a context manager over saved tensors, which wants no marks."""

    context: AbstractContextManager[Any]

    def around(self) -> AbstractContextManager[Any]:
        """Return that context manager."""
        return self.context

    def mark(self, boundary: torch.Tensor) -> None:
        """Do nothing: every saved tensor counts."""


def import_optional(package: str, module: str, name: str) -> Any:
    """Return a name of an optional package; Unavailable says what is missing."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        missing = (
            f"{package} is not installed"
            if getattr(error, "name", None) == package
            else _import_failure(package, error)
        )
        raise Unavailable(missing) from error
    except Exception as error:  # whatever the package does when it is imported
        raise Unavailable(_import_failure(package, error)) from error
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise Unavailable(f"the installed {package} has no {module}.{name}") from error
    except Exception as error:
        raise Unavailable(_import_failure(module, error)) from error


def _import_failure(module: str, error: Exception) -> str:
    return f"{module} cannot be imported: {type(error).__name__}: {one_line(error, 120)}"
