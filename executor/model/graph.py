"""Begins and ends a unit's graph at its boundaries, and goes backward through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from loadahead.executor.model.saved import SavedTensors
from loadahead.executor.model.state import Before
from loadahead.executor.tensors.layout import Layout


class _GraphInput(torch.autograd.Function):
    """Is the identity at a unit's boundary; its backward hands out the gradient as it is.

    Autograd's own accumulation into a leaf would copy it, which plain training does not do between two layers. The leaf
    is a stand-in, and the boundary comes in a list: so the graph does not hold the boundary, which the plan frees.
    """

    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, boundary: list[torch.Tensor], sink: list[torch.Tensor]) -> torch.Tensor:
        ctx.sink = sink
        return boundary[0].detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None, None]:
        ctx.sink.append(gradients[0])
        return None, None, None


def graph_input(x: torch.Tensor, needed: bool, sink: list[torch.Tensor]) -> torch.Tensor:
    """Return one of the boundary's tensors as a unit's graph begins with it; without a gradient it stays as it is."""
    if not needed:
        return x.detach()
    if not torch.is_grad_enabled():
        return x.detach().requires_grad_()  # as a layer sees it that asks
    leaf = torch.empty(0, device=x.device, requires_grad=True)
    return _GraphInput.apply(leaf, [x], sink)  # type: ignore[no-untyped-call,no-any-return]


def output_edge(out: torch.Tensor) -> GradientEdge:
    """Return the place in the graph where the output's gradient enters, without the output.

    Before torch 2.7 such a place does not keep a node alive that is written in Python; a view's node does.
    """
    written_in_python = isinstance(out.grad_fn, torch.autograd.function.BackwardCFunction)
    return get_gradient_edge(out.view_as(out) if written_in_python else out)


def backward_from(ends: Sequence[GradientEdge], gradients: Sequence[torch.Tensor]) -> None:
    """Do as ``torch.autograd.backward``, from places in the graph, for which torch before 2.7 takes tensors alone.

    So it goes to the engine by the call that torch's own functions make, alike in torch 2.6 to 2.13.
    """
    run: Any = torch.autograd.graph._engine_run_backward
    run(tuple(ends), tuple(gradients), False, False, (), allow_unreachable=True, accumulate_grad=True)


@dataclass(slots=True)
class UnitGraph:
    """Holds what stays between FORWARD and BACKWARD.

    Attributes:
        ends: where the gradient of each output that has one enters: the output itself is the plan's to free.
        outputs: the layouts of these, by their places among the outputs that need a gradient.
        boundary: layouts of what the unit reads and needs a gradient of.
        sinks: each gets the gradient of one of these.
        boundary_storages: the ids of the boundary's memory, in which BACKWARD's tensors may lie.
        saved: what RECOMPUTE has to restore; None where there is no RECOMPUTE, or where it makes a graph of its own.
        before: what the unit's modules held before FORWARD changed it; None without checkpointing.
        read: a digest of each of the boundary's tensors as FORWARD read them, where that is looked at.
        made: a digest of each tensor that a FORWARD without a graph made, where that is looked at.
    """

    ends: dict[int, GradientEdge]
    outputs: dict[int, Layout]
    boundary: tuple[Layout, ...]
    sinks: list[list[torch.Tensor]]
    boundary_storages: frozenset[int]
    saved: SavedTensors | None = None
    before: Before | None = None
    read: tuple[int | None, ...] = ()
    made: tuple[int | None, ...] = ()
