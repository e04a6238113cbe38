"""Calls a model as training does: without a cache of what it has seen.

A cache of keys and values would travel in the blocks' calls, and grow with each run.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

_CACHE = "use_cache"
_PUBLISHED = "transformers"


def ask_for_no_cache(model: nn.Module) -> None:
    """Give a model's modules configs that ask for no cache; the configs that they had stay as they are."""
    memo: dict[int, Any] = {}
    for part in model.modules():
        for name, value in list(vars(part).items()):
            if not isinstance(value, nn.Module) and getattr(value, _CACHE, None) is True:
                config = copy.deepcopy(value, memo)
                config.use_cache = False
                part.__dict__[name] = config


def called(model: nn.Module, value: Any) -> Any:
    """Return what a model makes of an input, a tensor or a mapping of its keywords."""
    given = dict(value) if isinstance(value, Mapping) else {}
    if _CACHE in given or _takes_the_word(model):
        given[_CACHE] = False
    return model(**given) if isinstance(value, Mapping) else model(value, **given)


def _takes_the_word(model: nn.Module) -> bool:
    """Return whether a model can be told to use no cache, by its own keyword or by those that it hands on."""
    parameters = inspect.signature(model.forward).parameters
    if _CACHE in parameters:
        return True
    open_to_more = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    published = any(kind.__module__.partition(".")[0] == _PUBLISHED for kind in type(model).__mro__)
    return open_to_more and published and any(_names_it(part) for part in model.children())


def _names_it(part: nn.Module) -> bool:
    return _CACHE in inspect.signature(part.forward).parameters
