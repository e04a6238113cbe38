"""A scenario's units, as they were made of the model's layers: bytes, FLOPs and times."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from loadahead.scenarios.layers import unit_flops
from loadahead.scenarios.prepare import Prepared
from loadahead.sim.costs import Costs

# What stands in the place of times that nobody has measured.
NOT_KNOWN = "not known: calibrate"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """Says what a unit is for one microbatch on one GPU; sizes are in bytes, times in ns.

    Attributes:
        kinds: its layers' kinds with how many of each follow, e.g. ``(("block", 2),)``; empty where layers have none.
        boundary_bytes, gradient_bytes: its input, and the gradient of that.
        saved_bytes: what stays from FORWARD to BACKWARD without checkpointing, or is made again with it.
        state_bytes: what its FORWARD changes in the module itself.
        static_bytes: weights, gradients and optimizer state of its own layers.
        flops: of its FORWARD; None where they are not counted.
        frozen: whether it has a FORWARD alone.
        forward_ns, recompute_ns, backward_ns: None where they are not known.
        workspace_forward, workspace_recompute, workspace_backward: bytes in use while each runs; None as for times.
    """

    kinds: tuple[tuple[str, int], ...]
    boundary_bytes: int
    gradient_bytes: int
    saved_bytes: int
    state_bytes: int
    static_bytes: int
    flops: int | None
    frozen: bool
    forward_ns: int | None = None
    recompute_ns: int | None = None
    backward_ns: int | None = None
    workspace_forward: int | None = None
    workspace_recompute: int | None = None
    workspace_backward: int | None = None

    @property
    def workspace_bytes(self) -> int | None:
        """Return the largest of the workspaces; None where they are not known."""
        known = (self.workspace_forward, self.workspace_recompute, self.workspace_backward)
        return max((nbytes for nbytes in known if nbytes is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlace:
    """Says where a unit stands: its stage, its place there, and its layers ``[start, stop)`` as the model counts them.

    ``layers`` is None for a model that is given by its units.
    """

    stage: int
    unit: int
    layers: tuple[int, int] | None
    facts: UnitFacts

    def to_dict(self) -> dict[str, Any]:
        """Return the unit as plain data."""
        facts = asdict(self.facts) | {"kinds": [{"kind": kind, "layers": count} for kind, count in self.facts.kinds]}
        layers = None if self.layers is None else list(self.layers)
        return {"stage": self.stage, "unit": self.unit, "layers": layers, **facts}


def units_of(prepared: Prepared, costs: Costs | None) -> tuple[UnitPlace, ...]:
    """Return all units in the model's order; equal ones share their facts."""
    cut, made = prepared.units.cut, []
    facts: dict[tuple[Any, ...], UnitFacts] = {}
    layer = at = 0
    for stage, number in enumerate(cut.order):
        for place, unit in enumerate(cut.stages[number]):
            numbers, cost = cut.units[unit], None if costs is None else costs.units[stage][place]
            frozen = at < prepared.workload.frozen_units
            key = (unit, frozen, id(cost))
            if key not in facts:
                facts[key] = _facts(prepared, numbers, stage, place, frozen, costs)
            layers = (layer, layer + len(numbers)) if facts[key].kinds else None
            made.append(UnitPlace(stage=stage, unit=place, layers=layers, facts=facts[key]))
            layer, at = layer + len(numbers), at + 1
    return tuple(made)


def _facts(
    prepared: Prepared, numbers: tuple[int, ...], stage: int, place: int, frozen: bool, costs: Costs | None
) -> UnitFacts:
    layers, shape = [prepared.units.layers[number] for number in numbers], prepared.workload.stages[stage][place]
    cost = None if costs is None else costs.units[stage][place]
    known: dict[str, int | None] = {} if cost is None else _known(cost, frozen, prepared.policy.checkpoint)
    return UnitFacts(
        kinds=tuple(Counter(layer.kind for layer in layers if layer.kind).items()),
        boundary_bytes=shape.boundary_bytes,
        gradient_bytes=shape.gradient_bytes,
        saved_bytes=shape.saved_bytes,
        state_bytes=shape.state_bytes,
        static_bytes=sum(layer.static_bytes for layer in layers),
        flops=unit_flops(layers),
        frozen=frozen,
        **known,
    )


def _known(cost: Any, frozen: bool, checkpoint: bool) -> dict[str, int | None]:
    """Return a unit's times and workspaces; what it never does takes nothing."""
    recomputes, goes_back = checkpoint and not frozen, not frozen
    return {
        "forward_ns": cost.forward_ns,
        "recompute_ns": cost.recompute_ns if recomputes else 0,
        "backward_ns": cost.backward_ns if goes_back else 0,
        "workspace_forward": cost.workspace_forward,
        "workspace_recompute": cost.workspace_recompute if recomputes else 0,
        "workspace_backward": cost.workspace_backward if goes_back else 0,
    }
