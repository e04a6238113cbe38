"""Tells all there is of layers, without the code that finds their state."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.support.stateful_layers import Slotted, Tally


def picture(value: Any, seen: set[int]) -> Any:
    """Return all that can be told of a value, identities and versions too; written without the code under test."""
    if isinstance(value, torch.Tensor):
        return id(value), value._version, value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    if id(value) in seen and not isinstance(value, (int, str, float, type(None))):
        return id(value)
    seen.add(id(value))
    if isinstance(value, nn.Module):
        if isinstance(value, torch.jit.ScriptModule):
            names = ("calls", "history", "spare", "table") if hasattr(value, "calls") else ()
            script = [picture(getattr(value, name), set()) for name in names if name not in ("history", "table")]
            script += [list(value.history), value.table["t"]._version] if names else []
            return id(value), script, [picture(tensor, seen) for tensor in value.state_dict(keep_vars=True).values()]
        return id(value), [(name, picture(item, seen)) for name, item in sorted(value.__dict__.items())]
    if isinstance(value, dict):
        return id(value), [(key, picture(item, seen)) for key, item in value.items()]
    if isinstance(value, tuple):
        return [picture(item, seen) for item in value]
    if isinstance(value, (list, deque, set)):
        return id(value), [picture(item, seen) for item in value]
    if isinstance(value, (Tally, SimpleNamespace)):
        return id(value), picture(value.__dict__, seen)
    if isinstance(value, Slotted):
        return id(value), value.steps
    if isinstance(value, np.ndarray):
        return id(value), value.tolist()
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, np.random.Generator):
        return id(value), repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return id(value), repr(value.get_state())
    if isinstance(value, np.random.BitGenerator):
        return id(value), repr(value.state)
    return value if isinstance(value, (int, float, str, bytes, bytearray)) else id(value)


def pictures(layers: list[nn.Module]) -> list[Any]:
    """Return pictures of the layers; what they hold must live on for identities to mean something."""
    return [picture(each, set()) for each in layers]
