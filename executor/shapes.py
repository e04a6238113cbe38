"""Finds a module's shapes without its weights where that can be done, and else with them."""

from __future__ import annotations

from dataclasses import replace

from loadahead.executor.model.errors import NeedsNumbers
from loadahead.executor.model.published import TooLarge, warnings_of_config
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.trace import trace_module
from loadahead.sim.errors import InputError
from loadahead.sim.workload import ModuleShapes

_ADVICE = (
    "these do not fit into this machine's memory: give fewer layers, e.g. options.num_hidden_layers = 2; where the "
    'model looks at a mask in the data, data without one or options.attn_implementation = "eager" may help'
)


def module_shapes(spec: ModelSpec, microbatches: int = 1, device: str = "cpu", numbers: bool = True) -> ModuleShapes:
    """Return what the planner has to know of a model, see :func:`trace_module`.

    One that a config describes is traced without its weights, and any model without ``numbers``. Numbers may decide
    what a model does, and torch may not be able to do without: then it is built with its weights, where it has some and
    they fit. Elsewhere than on the CPU other types may pass between layers, which a plan to be run there has to know:
    there models have their weights.
    """
    shapes = _shapes(spec, microbatches, device, numbers)
    if spec.config is None:
        return shapes
    of_config = warnings_of_config(spec.config, spec.options, spec.search_path)
    return replace(shapes, warnings=(*shapes.warnings, *of_config))


def _shapes(spec: ModelSpec, microbatches: int, device: str, numbers: bool) -> ModuleShapes:
    if device != "cpu" or (numbers and spec.config is None):
        return trace_module(spec, microbatches, device)
    try:
        return trace_module(spec, microbatches, device, numbers=False)
    except InputError as error:
        try:
            # What does not run at all is told again.
            return trace_module(spec, microbatches, device)
        except TooLarge:
            if isinstance(error, NeedsNumbers):
                raise InputError(f"{error}; {_ADVICE}") from error
            raise error from None


__all__ = ["module_shapes"]
