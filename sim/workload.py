"""A workload tells the planner a model's bytes and which layers make a unit; it holds no times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from loadahead.sim.errors import InputError

_Unit = TypeVar("_Unit")

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


def distinct_units(stages: Sequence[Sequence[_Unit]]) -> tuple[list[_Unit], list[int]]:
    """Return the units that are different objects, and for each unit of the model which of them it is.

    Most units of a large model are one and the same object, and so are most stages.
    """
    distinct: dict[int, int] = {}
    units: list[_Unit] = []
    known: dict[int, list[int]] = {}
    out: list[int] = []
    for stage in stages:
        rows = known.get(id(stage))
        if rows is None:
            rows = known[id(stage)] = []
            for unit in stage:
                row = distinct.setdefault(id(unit), len(units))
                if row == len(units):
                    units.append(unit)
                rows.append(row)
        out += rows
    return units, out
