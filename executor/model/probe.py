"""Tries whether a unit does the same without a graph as with one, which the lean way needs.

What it makes and what it changes in its modules is compared, of one microbatch; the first step of a run is watched too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from loadahead.executor.model.state import Slot
from loadahead.executor.model.unit import CheckpointedUnit, LossOf
from loadahead.executor.tensors.digests import digest
from loadahead.executor.tensors.randomness import Draws, seed_globals
from loadahead.executor.torch_settings import compiled_layers
from loadahead.sim.errors import InputError


@dataclass(frozen=True, slots=True)
class Trace:
    """Holds what a run of a unit left behind: digests of what it made, and what each changed piece of state is now."""

    made: tuple[int | None, ...]
    changed: dict[tuple[object, ...], object]

    @classmethod
    def of(cls, out: Any, changed: tuple[Slot, ...]) -> Trace:
        """Return what a run made, and what the slots that it changed hold now."""
        made = tuple(digest(leaf.detach()) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return cls(made, {slot.key: _fingerprint(slot.place.get()) for slot in changed})


def without_graph(unit: CheckpointedUnit, value: Any, loss: LossOf | None, seed: int) -> Trace | None:
    """Run a unit as its lean FORWARD does, and undo it; return what it left behind, None where it fails."""
    before = unit.state.everything()
    # As FORWARD gets it: leaves, in memory of their own.
    own = tree_map_only(torch.Tensor, lambda t: t.detach().clone().requires_grad_(t.requires_grad), value)
    try:
        with unit.context(seed, shared=False).active(), torch.no_grad():
            seed_globals(seed, Draws(python=True, numpy=True))
            out = unit.run(own, loss)
        return Trace.of(out, unit.state.changed_since(before, written=True))
    except InputError:  # with a graph it may not
        return None
    finally:
        unit.state.put_back(before)


def is_leanable(unit: CheckpointedUnit, bare: Trace | None, whole: Trace) -> bool:
    """Return whether a unit can be checkpointed the lean way, from what it left behind without a graph and with one."""
    if bare != whole or unit.computes_gradients or unit.state.needs_own_graph:
        return False
    return not any(compiled_layers(layer) for layer in unit.layers)  # to other kernels without a graph


def _fingerprint(value: Any) -> object:
    if isinstance(value, torch.Tensor):
        return digest(value.detach()) if value.layout is torch.strided else None
    return value if isinstance(value, (type(None), bool, int, float, str, bytes)) else type(value).__name__
