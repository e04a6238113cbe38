"""Checkpointing groups layers into units, and the pipeline deals them out over stages.

Most layers of a model are alike. So a model is its few different layers and a :class:`Cut`, which knows them by number:
models whose layers differ in their sizes alone share the cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.workload import Dealt, PassThrough, Places, UnitShape

_GROUP = re.compile(r"group_([1-9][0-9]{0,5})")
# Layers are not told whose work is an estimate, as long as it is no more of the whole: an activation, a look-up.
ESTIMATE_TOLD = 100
STRATEGIES = "each, contiguous, group_N (e.g. group_2)"

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Says how many parameters one GPU has of a layer; ``expert`` are those of its experts."""

    dense: int = 0
    expert: int = 0

    def __add__(self, other: Weights) -> Weights:
        """Return how many two layers have."""
        return Weights(dense=self.dense + other.dense, expert=self.expert + other.expert)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Says how long a layer's operations spend on collectives that no computation hides, in ns.

    It is a part of the layer's times, and no time beside them.
    """

    forward_ns: int = 0
    recompute_ns: int = 0
    backward_ns: int = 0

    def __add__(self, other: Told) -> Told:
        return Told(
            forward_ns=self.forward_ns + other.forward_ns,
            recompute_ns=self.recompute_ns + other.recompute_ns,
            backward_ns=self.backward_ns + other.backward_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Describes one layer for one microbatch: its bytes, and its times where they are known before a run.

    Attributes:
        boundary_bytes, gradient_bytes: bytes of its input, and of that input's gradient.
        saved_bytes: inner activations that its BACKWARD needs: kept from FORWARD on, or made again by RECOMPUTE.
        state_bytes: what its FORWARD changes in the module itself, from whose values before RECOMPUTE starts.
        static_bytes: bytes of weights, gradients and optimizer state.
        optimizer_ns: its part of the OPTIMIZER_STEP.
        weight: how much work it is, in any unit, for dealing a model's layers out evenly.
        cost: its times and workspaces, the saved bytes not counted; None for a module whose times are not known.
        index: its place in the model's ``nn.Sequential``; -1 where there is none.
        flops: of its FORWARD on one GPU; None where they are not known, or an estimate.
        kind: what it is, for people, e.g. ``"block"`` or a module's class; empty where that is not known.
        weights: its parameters on one GPU, where their replicas communicate.
        told: how much of its times GPUs spend on telling each other something.
    """

    boundary_bytes: int
    gradient_bytes: int
    saved_bytes: int = 0
    state_bytes: int = 0
    static_bytes: int = 0
    optimizer_ns: int = 0
    weight: int = 1
    cost: UnitCost | None = None
    index: int = -1
    flops: int | None = None
    kind: str = ""
    weights: Weights = field(default_factory=Weights)
    told: Told = field(default_factory=Told)

    def with_static(self, static_bytes: int) -> Layer:
        """Return the same layer with other resident bytes."""
        return replace(self, static_bytes=static_bytes)


def is_strategy(text: object) -> bool:
    """Return whether ``checkpoint.strategy`` may be this."""
    return isinstance(text, str) and (text in ("each", "contiguous") or _GROUP.fullmatch(text) is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Says which layers make a unit and which units make a stage; all are known by number.

    Attributes:
        units: the different units, each as the numbers of its layers.
        stages: the different stages, each as the numbers of its units.
        order: which of these stages follow each other.
        of_unit: the numbers of all stages' units, one stage after the other.
    """

    units: tuple[tuple[int, ...], ...]
    stages: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    of_unit: Places = field(init=False)

    def __post_init__(self) -> None:
        numbers = chain.from_iterable([self.stages[stage] for stage in self.order])
        object.__setattr__(self, "of_unit", np.fromiter(numbers, dtype=np.int64))

    @classmethod
    def of(cls, stages: Iterable[Iterable[tuple[int, ...]]]) -> Cut:
        """Return the cut into these stages of units, each unit given as the numbers of its layers."""
        units: dict[tuple[int, ...], int] = {}
        different: dict[tuple[int, ...], int] = {}
        order = []
        for stage in stages:
            numbers = tuple([units.setdefault(unit, len(units)) for unit in stage])
            order.append(different.setdefault(numbers, len(different)))
        return cls(tuple(units), tuple(different), tuple(order))

    @property
    def size(self) -> int:
        """Return how much it takes to keep this: the numbers in it."""
        return len(self.of_unit) + sum(map(len, self.stages)) + sum(map(len, self.units))

    def each(self, parts: Sequence[_Part]) -> Dealt[_Part]:
        """Return the part of every stage's units, given that of every different unit; equal stages are one object."""
        made = [tuple(map(parts.__getitem__, stage)) for stage in self.stages]
        return Dealt.of([made[stage] for stage in self.order], parts, self.of_unit)

    def sums(self, amounts: Sequence[int]) -> tuple[int, ...]:
        """Return the sum over every stage's units, given the amount of every different unit."""
        made = [sum(map(amounts.__getitem__, stage)) for stage in self.stages]
        return tuple([made[stage] for stage in self.order])


class Units(NamedTuple):
    """Holds a model's different layers, and how they make its units and stages.

    Attributes:
        frozen_units: how many of the first units have a FORWARD alone.
        passed: the tensors that units hand on unchanged.
        shared_bytes: what each stage's layers hold together with other layers, beside their own static bytes; empty
            where they share nothing.
        closing_ns: what each stage's OPTIMIZER_STEP takes beside its layers' parts: it waits for other replicas, and
            has weights that stages share; empty where that is nothing.
        told_ns: what of ``closing_ns`` replicas spend on telling each other something; empty where that is nothing.
        warnings: sentences about the layers and the cut.
    """

    layers: Sequence[Layer]
    cut: Cut
    frozen_units: int = 0
    passed: tuple[PassThrough, ...] = ()
    shared_bytes: tuple[int, ...] = ()
    closing_ns: tuple[int, ...] = ()
    told_ns: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def group(layers: Sequence[int], strategy: str) -> list[tuple[int, ...]]:
    """Return a stage's layers cut into units: each alone, N at a time, or all together (smp's strategies)."""
    match = _GROUP.fullmatch(strategy)
    size = int(match[1]) if match else 1 if strategy == "each" else len(layers)
    return [tuple(layers[at : at + size]) for at in range(0, len(layers), size)]


def saved_bytes(layers: Sequence[Layer]) -> int:
    """Return the bytes a unit keeps beside its boundary: its layers' inner activations and the inputs between them."""
    return sum([layer.saved_bytes for layer in layers]) + sum([layer.boundary_bytes for layer in layers[1:]])


def unit_flops(layers: Sequence[Layer]) -> int | None:
    """Return the FLOPs of the layers' FORWARD on one GPU; None where an estimate would be much of the sum.

    Estimated work is compared by the layers' weights, which are FLOPs where a model has both.
    """
    counted = [layer.flops for layer in layers if layer.flops is not None]
    estimated = sum([layer.weight for layer in layers if layer.flops is None])
    return None if not counted or estimated * ESTIMATE_TOLD > sum(counted) else sum(counted)


def unit_shape(layers: Sequence[Layer]) -> UnitShape:
    """Return the bytes of the layers as one unit, whose boundary is the first layer's input."""
    first, last = layers[0], layers[-1]
    return UnitShape(
        boundary_bytes=first.boundary_bytes,
        gradient_bytes=first.gradient_bytes,
        saved_bytes=saved_bytes(layers),
        state_bytes=sum([layer.state_bytes for layer in layers]),
        layers=(first.index, last.index + 1) if first.index >= 0 else (0, 0),
    )


def unit_cost(layers: Sequence[Layer], checkpoint: bool) -> UnitCost | None:
    """Return the cost of the layers as one unit; None where a layer has no cost.

    Times add up; temporaries are in memory one layer at a time. With checkpointing, what RECOMPUTE makes is workspace
    of RECOMPUTE and BACKWARD, and FORWARD, which keeps no graph, holds two neighbouring layers' inputs at once.
    """
    costs = [layer.cost for layer in layers if layer.cost is not None]
    if len(costs) != len(layers):
        return None
    cost = costs[0] if len(costs) == 1 else _together(costs, layers, checkpoint)
    if not checkpoint:
        return cost
    recomputed = saved_bytes(layers)
    more = {
        "workspace_recompute": cost.workspace_recompute + recomputed,
        "workspace_backward": cost.workspace_backward + recomputed,
    }
    return UnitCost(**vars(cost) | more)


def _together(costs: Sequence[UnitCost], layers: Sequence[Layer], checkpoint: bool) -> UnitCost:
    inputs = [layer.boundary_bytes for layer in layers[1:]]
    two_inputs = max(a + b for a, b in pairwise([*inputs, 0, 0])) if checkpoint else 0
    return UnitCost(
        forward_ns=sum(cost.forward_ns for cost in costs),
        recompute_ns=sum(cost.recompute_ns for cost in costs),
        backward_ns=sum(cost.backward_ns for cost in costs),
        backward_input_ns=_sum([cost.backward_input_ns for cost in costs]),
        backward_weight_ns=_sum([cost.backward_weight_ns for cost in costs]),
        workspace_forward=max(cost.workspace_forward for cost in costs) + two_inputs,
        workspace_recompute=max(cost.workspace_recompute for cost in costs),
        workspace_backward=max(cost.workspace_backward for cost in costs),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def by_hand(partition: Sequence[int], layers: int) -> list[range]:
    """Return consecutive layers for each stage, as many as the partition says; InputError where they do not add up."""
    if sum(partition) != layers:
        raise InputError(
            f"checkpoint.partition = {shown_list(partition)} adds up to {sum(partition)} and the model has {layers} "
            f"layers; its entries must add up to {layers}"
        )
    return [range(start, end) for start, end in pairwise(accumulate(partition, initial=0))]


def shown_list(values: Sequence[int], most: int = 8) -> str:
    """Return the values as TOML has them, the first few of many."""
    return f"[{', '.join([*map(str, values[:most]), *(['...'] if len(values) > most else [])])}]"


def deal_out(weights: Sequence[int], stages: int) -> list[range]:
    """Return consecutive layers for each stage, cut so that the stage with most work has as little as possible.

    Layers are known by their places. Of several such cuts it is the one whose later stages start earliest. Raise
    InputError when there are fewer layers than stages.
    """
    if len(weights) < stages:
        raise InputError(
            f"parallel.pipeline_parallel_degree is {stages} and the model has {len(weights)} layers; each stage needs "
            "at least one"
        )
    from loadahead.sim.cuts import even_cuts

    return [range(start, end) for start, end in pairwise(even_cuts(weights, stages))]
