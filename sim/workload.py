"""A workload tells the planner a model's bytes and which layers make a unit; it holds no times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT

_Unit = TypeVar("_Unit")
Places = npt.NDArray[np.int64]

# What ``model.python`` is where a model was given in memory: a file cannot hold it.
IN_MEMORY = "in-memory"


def _non_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value <= LARGEST_AMOUNT:
            raise InputError(
                f"{type(owner).__name__}.{name} is {value}; it must be at least 0 and at most {LARGEST_AMOUNT}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitShape:
    """Describes one unit, a checkpointed group of consecutive layers, for one microbatch.

    Attributes:
        boundary_bytes: bytes of the unit's input, the activation that checkpointing keeps.
        gradient_bytes: bytes of the gradient with respect to that input; 0 where there is none (token ids).
        saved_bytes: inner activations that stay between FORWARD and BACKWARD when checkpointing is off.
        state_bytes: the module's buffers that FORWARD changes; RECOMPUTE starts from their values before it.
        layers: ``[start, stop)`` in the model's ``nn.Sequential``; ``(0, 0)`` where there is no module.
    """

    boundary_bytes: int
    gradient_bytes: int
    saved_bytes: int = 0
    state_bytes: int = 0
    layers: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        _non_negative(self, "boundary_bytes", "gradient_bytes", "saved_bytes", "state_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    """Describes a tensor without gradient that units hand on unchanged, e.g. a mask, for one microbatch.

    It is no part of a boundary: it stays on each rank that reads it, from the first of its readers there to the last.

    Attributes:
        nbytes: its bytes.
        readers: the units that read it, counted through the model, each once and in rising order.
    """

    nbytes: int
    readers: tuple[int, ...]

    def __post_init__(self) -> None:
        _non_negative(self, "nbytes")
        if not self.readers or self.readers[0] < 0 or any(b <= a for a, b in pairwise(self.readers)):
            raise InputError(f"PassThrough.readers is {self.readers}; it must name units from 0 on, in rising order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Describes the model as the planner sees it.

    Attributes:
        stages: the units of each stage, in order.
        frozen_units: how many of the model's first units have parameters that are not trained and nothing below them
            that is: they have a FORWARD alone.
        passed: the tensors that units hand on unchanged.
    """

    stages: tuple[tuple[UnitShape, ...], ...]
    frozen_units: int = 0
    passed: tuple[PassThrough, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise InputError("a workload needs at least one stage, and each stage at least one unit")
        units = sum(map(len, self.stages))
        if not 0 <= self.frozen_units < units:
            raise InputError(
                f"Workload.frozen_units is {self.frozen_units}; of {units} units 0 to {units - 1} may be frozen"
            )
        beyond = [tensor.readers[-1] for tensor in self.passed if tensor.readers[-1] >= units]
        if beyond:
            raise InputError(f"PassThrough.readers names unit {beyond[0]}; the model has units 0 to {units - 1}")

    def boundary_bytes(self) -> Places:
        """Return the bytes of each unit's boundary, in the order of the model; shape (units,)."""
        distinct, of_unit = distinct_units(self.stages)
        out: Places = np.asarray([unit.boundary_bytes for unit in distinct], dtype=np.int64).take(of_unit)
        return out

    def largest_boundary(self) -> int:
        """Return the bytes of the largest boundary that waits for a BACKWARD: a frozen unit's does not."""
        return int(self.boundary_bytes()[self.frozen_units :].max())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """Describes one layer of an ``nn.Sequential`` for one microbatch: its bytes and its forward pass's FLOPs.

    Attributes:
        input_bytes: of its input, without the tensors that layers hand on unchanged (:class:`HandedOn`).
        gradient_bytes: of the gradient with respect to that input, as plain training computes it.
        saved_bytes: what its graph keeps beside its input.
        state_bytes: values from before of what its FORWARD changes in the module itself, its buffers above all.
        static_bytes: weights, gradients, buffers and optimizer state that no other layer holds too.
        flops: as counted, or estimated where ``counted`` is false.
        kind: the layer's class, for sentences.
        products: how many matrix products (convolutions, attention) the FLOPs are of.
        moved_bytes: what the other operators of its forward pass read and write.
        kernels: how many these are; views are none.
        parameters: elements of its weights that no other layer holds too, trained or not.
        trained: whether its weights get gradients; None where some do and others do not. One without weights is true.
        workspace_forward, workspace_recompute, workspace_backward: what the operations of the layer as a checkpointed
            unit hold beyond a plan's buffers, its graph included; 0 where only a calibration tells.
    """

    input_bytes: int
    gradient_bytes: int
    saved_bytes: int
    static_bytes: int
    state_bytes: int = 0
    flops: int = 0
    counted: bool = True
    kind: str = "layer"
    products: int = 0
    moved_bytes: int = 0
    kernels: int = 0
    parameters: int = 0
    trained: bool | None = True
    workspace_forward: int = 0
    workspace_recompute: int = 0
    workspace_backward: int = 0

    def __post_init__(self) -> None:
        _non_negative(self, "input_bytes", "gradient_bytes", "saved_bytes", "static_bytes", "state_bytes", "flops")
        _non_negative(self, "products", "moved_bytes", "kernels", "parameters")
        _non_negative(self, "workspace_forward", "workspace_recompute", "workspace_backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOn:
    """Describes a tensor without gradient that at least one layer hands on unchanged.

    Attributes:
        nbytes: its bytes.
        origin: the layer that makes it; -1 where the data holds it.
        last: the last layer whose input holds it.
    """

    nbytes: int
    origin: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Describes resident memory that several layers hold together; a rank that runs any of them holds it once.

    Attributes:
        nbytes: weight or buffer, with gradient and optimizer state.
        layers: the layers, in rising order.
        trained: whether it is a weight that is trained, so that all its layers must be on one rank.
        name: the weight's first name in the model.
    """

    nbytes: int
    layers: tuple[int, ...]
    trained: bool
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedState:
    """Describes a part of a layer's ``state_bytes`` that an earlier layer has too: a unit of both keeps it once.

    Attributes:
        nbytes: its bytes.
        layer: the layer.
        earlier: the last layer before it that has it.
    """

    nbytes: int
    layer: int
    earlier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleShapes:
    """Holds the layers of a traced ``nn.Sequential``, in order, and what belongs to several of them.

    Attributes:
        frozen_layers: how many of the first layers have an output without gradient: they need no backward pass.
        warnings: sentences about what the trace saw.
        workspaces_known: whether the layers' workspaces are those of their operations, rather than left to a
            calibration.
        weights_in_16_bits: whether most of the layers' parameters are of such a type.
    """

    layers: tuple[LayerShape, ...]
    handed_on: tuple[HandedOn, ...] = ()
    shared: tuple[Shared, ...] = ()
    shared_state: tuple[SharedState, ...] = ()
    frozen_layers: int = 0
    warnings: tuple[str, ...] = ()
    workspaces_known: bool = False
    weights_in_16_bits: bool = False


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
