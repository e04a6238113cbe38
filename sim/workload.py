"""A workload tells the planner a model's bytes and which layers make a unit; it holds no times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loadahead.sim.errors import InputError

_Unit = TypeVar("_Unit")
Places = npt.NDArray[np.int64]

# What ``model.python`` is where a model was given in memory: a file cannot hold it.
IN_MEMORY = "in-memory"


def _non_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value < 0:
            raise InputError(f"{type(owner).__name__}.{name} is {value}; it must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitShape:
    """Describes one unit, a checkpointed group of consecutive layers, for one microbatch.

    Attributes:
        boundary_bytes: bytes of the unit's input, the activation that checkpointing keeps.
        gradient_bytes: bytes of the gradient with respect to that input; 0 where there is none (token ids).
        saved_bytes: inner activations that stay between FORWARD and BACKWARD when checkpointing is off.
        layers: ``[start, stop)`` in the model's ``nn.Sequential``; ``(0, 0)`` where there is no module.
    """

    boundary_bytes: int
    gradient_bytes: int
    saved_bytes: int = 0
    layers: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        _non_negative(self, "boundary_bytes", "gradient_bytes", "saved_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Describes the model as the planner sees it: the units of each stage, in order."""

    stages: tuple[tuple[UnitShape, ...], ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise InputError("a workload needs at least one stage, and each stage at least one unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """Describes one layer of an ``nn.Sequential`` for one microbatch: its bytes and its forward pass's FLOPs."""

    input_bytes: int
    gradient_bytes: int
    saved_bytes: int
    static_bytes: int
    flops: int = 0

    def __post_init__(self) -> None:
        _non_negative(self, "input_bytes", "gradient_bytes", "saved_bytes", "static_bytes", "flops")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleShapes:
    """Holds the layers of a traced ``nn.Sequential``, in order."""

    layers: tuple[LayerShape, ...]


class Dealt(tuple[tuple[_Unit, ...], ...]):
    """Is each stage's units, made of a few different ones; it remembers which, so that nobody has to look for them."""

    distinct: Sequence[_Unit]
    of_unit: Places

    @classmethod
    def of(cls, stages: Iterable[tuple[_Unit, ...]], distinct: Sequence[_Unit], of_unit: Places) -> Dealt[_Unit]:
        """Return these stages; ``of_unit`` says which of the different units is each unit of the model."""
        out = cls(stages)
        out.distinct, out.of_unit = distinct, of_unit
        return out


def distinct_units(stages: Sequence[Sequence[_Unit]]) -> tuple[Sequence[_Unit], Places]:
    """Return the units that are different objects, and for each unit of the model which of them it is.

    Most units of a large model are one and the same object, and so are most stages.
    """
    if isinstance(stages, Dealt):
        return stages.distinct, stages.of_unit
    different = {id(stage): stage for stage in stages}
    units = {id(unit): unit for stage in different.values() for unit in stage}
    number = dict(zip(units, range(len(units)), strict=True))
    numbers = {name: [number[id(unit)] for unit in stage] for name, stage in different.items()}
    of_unit = chain.from_iterable([numbers[id(stage)] for stage in stages])
    return list(units.values()), np.fromiter(of_unit, dtype=np.int64)
