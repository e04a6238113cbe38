"""``kind = "module"`` names a Python function that returns a model, or a file that describes a published one.

The module is traced for its sizes and calibrated for its times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from loadahead.scenarios.fields import Count, Name, Natural, Plain, Positive, not_allowed, one_of
from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.kinds.traced import traced_units, trained_flops
from loadahead.scenarios.layers import Layer, Units
from loadahead.scenarios.roofline import Compute
from loadahead.sim.units import counted
from loadahead.sim.work import Work
from loadahead.sim.workload import IN_MEMORY, ModuleShapes

# Weights, gradients, and the optimizer's state: how many parts of equal size these are together. Adam has two moments
# (Kingma and Ba, "Adam", 2015, algorithm 1), plain SGD keeps nothing.
_STATE_PARTS = {"adamw": 4, "sgd": 2}
# What ``python`` says where ``config`` describes the model.
PUBLISHED = "transformers"
# So many runs of layers of one class are named.
_MOST_RUNS = 4
# A model that comes with Loadahead has a name of this form, e.g. byte-gpt.
_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def _function(value: str) -> str:
    module, _, name = value.partition(":")
    if not all(part.isidentifier() for part in module.split(".")) or not name.isidentifier():
        raise not_allowed('it must be "package.module:function" or the name of a model that comes with Loadahead')
    return value


def _loss(value: str) -> str:
    return value if ":" not in value else _function(value)


def _sizes(value: list[int]) -> list[int]:
    if not value or not all(type(size) is int and size > 0 for size in value):
        raise not_allowed("it must be a list of integers above 0, e.g. [8, 128]")
    return value


def _at_least_two(value: int) -> int:
    if value < 2:
        raise not_allowed("it must be an integer of at least 2: the first step is not timed")
    return value


def _function_or_word(value: str) -> str:
    return value if _WORD.fullmatch(value) else _function(value)


Function = Annotated[Name, AfterValidator(_function)]
# The words are the names of the executor's models; the executor checks them.
FunctionOrWord = Annotated[Name, AfterValidator(_function_or_word)]


class Module(Model):
    """Says what to build, on what data to train it, and how.

    Attributes:
        python: a model that comes with Loadahead, e.g. ``"byte-gpt"``, or the function that returns the
            ``nn.Sequential`` or a model of blocks; called with ``options`` as keywords.
        config: the ``config.json`` of a published model, or its folder; ``options`` are other values of its keys.
        data: function (step, microbatch, microbatches) -> (input, target), also given the options that it names.
        loss: a known loss or a function (output, target) -> number.
        input_shape, input_dtype, input_high: random input of one microbatch where there is no ``data``.
        dtype: the weights and floating-point input are brought to it; None: the model stays as it is built.
        steps: optimizer steps that a run executes, the first of them for warming up.
        search_path: folder to look for modules and ``config`` in; relative to the scenario file, whose own folder is
            the default.
    """

    needs_shapes: ClassVar[bool] = True
    times: ClassVar[str | None] = "its times are measured"
    undivided: ClassVar[str | None] = "its layers run as they are, on one GPU"

    kind: Literal["module"]
    python: FunctionOrWord
    options: Plain = Field(default_factory=dict)
    config: Name | None = None
    data: FunctionOrWord | None = None
    loss: Annotated[Name, AfterValidator(_loss)] = "mean"
    input_shape: Annotated[list[int], AfterValidator(_sizes)] | None = None
    input_dtype: Name = "float32"
    input_high: Count = 2
    optimizer: one_of("adamw", "sgd") = "adamw"  # type: ignore[valid-type]
    learning_rate: Positive = 3e-4
    dtype: one_of("float32", "bfloat16") | None = None  # type: ignore[valid-type]
    autocast: one_of("none", "bfloat16") = "none"  # type: ignore[valid-type]
    seed: Natural = 0
    steps: Annotated[Count, AfterValidator(_at_least_two)] = 8
    search_path: Name | None = None
    # What was given in memory (the executor's ModelObjects): no key of the file, and no part of a plan's echo.
    _objects: Any = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _of_config(cls, value: Any) -> Any:
        """Let a config stand for ``python``: what it describes reads ids, and is trained on the next ones."""
        if not isinstance(value, dict) or value.get("config") is None:
            return value
        if value.get("python", PUBLISHED) != PUBLISHED:
            raise not_allowed("python and config are given; give one of the two")
        return {"python": PUBLISHED, "input_dtype": "int64", "loss": "cross_entropy", **value}

    @model_validator(mode="after")
    def _has_config(self) -> Module:
        if self.python == PUBLISHED and self.config is None:
            raise not_allowed(f'python = "{PUBLISHED}" needs config, the path of a config.json')
        return self

    @property
    def objects(self) -> Any:
        """Return what was given in memory instead of by name; None for a scenario that comes from a file."""
        return self._objects

    def with_objects(self, objects: Any) -> Module:
        """Return the same table with what was given in memory."""
        table = self.model_copy()
        table._objects = objects
        return table

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return every stage's units, made of the traced layers; raise InputError where they cannot be dealt out."""
        assert setting.shapes is not None, "a module is traced before it is planned"
        return traced_units(setting.shapes, setting, cuts, _STATE_PARTS[self.optimizer])

    def work(self, setting: Setting) -> Work:
        """Return what a microbatch is, as the trace counted it.

        BACKWARD takes twice FORWARD's FLOPs, and none where nothing is trained; tokens are known of ids in sequences.
        """
        assert setting.shapes is not None, "a module is traced before it is planned"
        return Work(
            tokens=self._tokens(),
            flops=trained_flops(setting.shapes),
            peak_flops_per_s=self._peak(setting.compute, setting.shapes),
        )

    def _tokens(self) -> int | None:
        shape = self.input_shape
        if self.data is not None or shape is None or len(shape) != 2 or self.input_dtype not in ("int32", "int64"):
            return None
        return shape[0] * shape[1]

    def _peak(self, compute: Compute, shapes: ModuleShapes) -> int | None:
        """Return the GPU's peak where it is that of the products' precision: the catalogue's is of 16 bits."""
        in_16_bits = shapes.weights_in_16_bits or self.autocast == "bfloat16"
        return None if compute.flops_of_16_bits and not in_16_bits else compute.flops

    def described(self, layers: Sequence[Layer]) -> str:
        """Return the model's name where it has one, and its layers by their classes."""
        name = {IN_MEMORY: "", PUBLISHED: self.config}.get(self.python, self.python)
        runs = [(kind, len(list(same))) for kind, same in groupby(layer.kind or "layer" for layer in layers)]
        shown = [kind if count == 1 else f"{count} {kind}" for kind, count in runs[:_MOST_RUNS]]
        classes = ", ".join([*shown, *(["..."] if len(runs) > _MOST_RUNS else [])])
        module = f"a module of {counted(len(layers), 'layer')} ({classes})"
        return f"{name}, {module}" if name else module

    def cautions(self, setting: Setting) -> list[str]:
        """Return a warning when tensor parallelism is asked for, which a module ignores."""
        if setting.tensor_parallel_degree == 1:
            return []
        return ["parallel.tensor_parallel_degree has no effect on a module: its layers run as they are, on one GPU"]
