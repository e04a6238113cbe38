from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from numba.core.dispatcher import Dispatcher

import loadahead.sim
from loadahead.sim import compiled
from loadahead.sim.warm_up import warm_up, warm_up_tuning


def everything_compiled() -> Iterator[tuple[str, Any]]:
    """Name and dispatcher of every compiled function of the simulator."""
    for info in pkgutil.walk_packages(loadahead.sim.__path__, "loadahead.sim."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == info.name:
                yield f"{info.name}.{name}", value


def called_by(function: Any) -> Iterator[Any]:
    """What of ours a function names, directly or as a module's attribute."""
    names, own = function.__code__.co_names, function.__globals__
    for name in names:
        found = own.get(name)
        yield from (getattr(found, part, None) for part in names) if isinstance(found, ModuleType) else (found,)


def reached_from(functions: Iterable[Any]) -> set[Any]:
    """These functions and all that they call: what comes from numba's cache brings along what it calls."""
    reached, left = set(), list(functions)
    while left:
        one = left.pop()
        function = getattr(one, "py_func", one)
        if isinstance(function, FunctionType) and one not in reached and function.__module__.startswith("loadahead."):
            reached.add(one)
            left += called_by(function)
    return reached


def test_warming_up_calls_every_compiled_function() -> None:
    """One that it forgets would be compiled in the first part of somebody's long run."""
    warm_up()
    warm_up_tuning()
    found = dict(everything_compiled())
    assert {"loadahead.sim.engines.fluid._flow", "loadahead.sim.verify.happens_before._clock"} <= found.keys()
    reached = reached_from(function for function in found.values() if function.signatures)
    assert [name for name, function in found.items() if function not in reached] == []
    assert compiled.is_warm() and compiled.is_warm(compiled.TUNING)
