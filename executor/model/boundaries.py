"""Finds out, by running one microbatch, what passes between units and what units do to their modules.

The traced run leaves no trace itself: what it changed in the modules, and all random states, are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only

from loadahead.executor.model.graph import graph_input
from loadahead.executor.model.probe import Trace, is_leanable, without_graph
from loadahead.executor.model.saved import SavedTensors
from loadahead.executor.model.state import Before, Slot
from loadahead.executor.model.unit import CheckpointedUnit, Foreseen, LossOf
from loadahead.executor.tensors.layout import Layout, own_storage, storage_id
from loadahead.executor.tensors.randomness import (
    Draws,
    generators_kept,
    global_states,
    globals_kept,
    seed_globals,
)
from loadahead.executor.tensors.values import CONSTANT, Form, View, handed_place, plain_tensor
from loadahead.executor.torch_settings import autocasts
from loadahead.sim.errors import InputError

# What torch says where a transform of torch.func meets hooks of saved tensors.
_NO_HOOKS = "saved tensor hooks"
# The tensor's maker where the data holds it.
DATA = -1


@dataclass(frozen=True, slots=True)
class Handed:
    """Describes a tensor without gradient that units hand on unchanged.

    Attributes:
        origin: the unit that makes it; :data:`DATA` where the data holds it.
        last: the last unit that reads it.
    """

    layout: Layout
    origin: int
    last: int

    @property
    def readers(self) -> tuple[int, ...]:
        """Return the units that hold it: its maker, and all to the last that reads it."""
        return tuple(range(max(0, self.origin), self.last + 1))


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Holds what passes between units.

    Attributes:
        forms: of each unit's input, in the model's order.
        handed: the tensors that units hand on; forms name them by their numbers here.
        frozen: how many of the first units need no backward pass; all of them where the loss has no gradient.
    """

    forms: tuple[Form, ...]
    handed: tuple[Handed, ...]
    frozen: int


@dataclass(slots=True)
class _Leaf:
    """Describes one leaf of a boundary; ``token`` is the tensor's, -1 where it has a gradient or is no tensor."""

    tensor: torch.Tensor | None
    token: int = -1
    view: View | None = None


@dataclass(slots=True)
class _Boundary:
    spec: TreeSpec
    leaves: list[_Leaf]


@dataclass(slots=True)
class _Tokens:
    """Numbers tensors without gradient, and notes for each who made it and who reads it last."""

    origin: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)

    def new(self, origin: int, tensor: torch.Tensor) -> int:
        self.origin.append(origin)
        self.last.append(origin + 1)
        self.layouts.append(Layout.of(tensor))
        return len(self.origin) - 1

    def handed_on(self) -> dict[int, Handed]:
        """Return the tensors that at least one unit hands on, by token."""
        return {
            token: Handed(layout, origin, last)
            for token, (layout, origin, last) in enumerate(zip(self.layouts, self.origin, self.last, strict=True))
            if last - origin >= 2
        }


def trace_boundaries(
    units: Sequence[CheckpointedUnit],
    batch: Any,
    loss: LossOf,
    seed: Callable[[int], int],
    after: Callable[[int, Any], None] | None = None,
    foreseen: Mapping[str, Foreseen] | None = None,
    probed: Collection[str] = (),
) -> Boundaries:
    """Run a microbatch through all units; tell each its forms, what it draws and what it changes.

    ``foreseen`` says, by unit's name, what units do that the traced microbatch does not show. Units ``probed``, by
    name, run without a graph too, and learn whether the same comes out. ``after`` is called with each unit's number and
    its input, once the unit has run. Raises InputError where a unit fails or returns what a plan cannot hold.
    """
    before: list[tuple[CheckpointedUnit, Before]] = []
    try:
        with globals_kept(), generators_kept(units[0].device):
            return _traced(units, batch, loss, seed, after, before, foreseen or {}, probed)
    finally:
        # Only now, as a unit may read what one below it has put somewhere.
        for unit, values in reversed(before):
            unit.state.put_back(values)


def _traced(
    units: Sequence[CheckpointedUnit],
    batch: Any,
    loss: LossOf,
    seed: Callable[[int], int],
    after: Callable[[int, Any], None] | None,
    before: list[tuple[CheckpointedUnit, Before]],
    foreseen: Mapping[str, Foreseen],
    probed: Collection[str],
) -> Boundaries:
    tokens, boundaries = _Tokens(), []
    # A model of which nothing is trained is planned as if its input were.
    trains_input = not any(p.requires_grad for unit in units for p in unit.parameters())
    value = batch
    given: list[_Leaf] = []
    for number, unit in enumerate(units):
        who = f"the model's unit {units[number - 1].name}" if number else "the data"
        if not number:
            value = tree_map_only(torch.Tensor, _needing_gradient if trains_input else _own, value)
        boundary, value = _boundary(value, who, number - 1, tokens, given, units[number - 1].resident if number else ())
        boundaries.append(boundary)
        given = boundary.leaves
        ends = loss if number == len(units) - 1 else None
        bare = without_graph(unit, value, ends, seed(number)) if unit.name in probed else None
        out = _observed(unit, value, ends, seed(number), before, foreseen.get(unit.name, Foreseen()))
        if unit.name in probed:
            unit.leanable = is_leanable(unit, bare, Trace.of(out, unit.state.watched))
        if after is not None:
            after(number, value)
        value = out
    handed = tokens.handed_on()
    forms = tuple(_form(boundary, list(handed)) for boundary in boundaries)
    for unit, form, above in zip(units, forms, (*forms[1:], None), strict=True):
        unit.form, unit.out = form, above
    # Below a boundary without a gradient nothing is trained, whatever the units there hold.
    cuts = [number for number in range(1, len(forms)) if not any(forms[number].needs)]
    frozen = len(forms) if not value.requires_grad else max(cuts, default=0)
    return Boundaries(forms, tuple(handed.values()), frozen)


def _boundary(
    value: Any, who: str, origin: int, tokens: _Tokens, given: Sequence[_Leaf], resident: Collection[int]
) -> tuple[_Boundary, Any]:
    """Return what is known of a value that ``who`` made, and the value as the next unit is called with it."""
    leaves, spec = tree_flatten(value)
    seen: dict[int, _Leaf] = {}
    known, taken = [], set(resident)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            if spec.is_leaf():
                plain_tensor(leaf, who)
            if any(isinstance(held, torch.Tensor) for held in getattr(leaf, "__dict__", {}).values()):
                raise InputError(
                    f"{who} returns a value of type {type(leaf).__name__}, which holds tensors; hand them on in "
                    "tuples, lists or dictionaries"
                )
            known.append(_Leaf(None))
            continue
        plain_tensor(leaf, who)
        if id(leaf) not in seen:
            seen[id(leaf)] = _known(leaf, origin, tokens, given, taken)
        known.append(seen[id(leaf)])
    if not any(leaf.tensor is not None for leaf in known):
        raise InputError(f"{who} returns no tensor, {type(value).__name__}; the next layer reads one")
    inputs = {
        id(leaf): graph_input(leaf.tensor if leaf.view is None else leaf.view.of(leaf.tensor), leaf.token < 0, [])
        for leaf in known
        if leaf.tensor is not None
    }
    parts = [inputs.get(id(part), leaf) for part, leaf in zip(known, leaves, strict=True)]
    return _Boundary(spec, known), spec.unflatten(parts)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy: a first layer may write into its input, which is the caller's."""
    return tensor.detach().clone()


def _needing_gradient(tensor: torch.Tensor) -> torch.Tensor:
    return _own(tensor).requires_grad_(tensor.is_floating_point() or tensor.is_complex())


def _known(tensor: torch.Tensor, origin: int, tokens: _Tokens, given: Sequence[_Leaf], taken: set[int]) -> _Leaf:
    if tensor.requires_grad:
        alone = own_storage(tensor.detach(), taken)
        taken.add(storage_id(alone))
        return _Leaf(alone, view=View.of_tensor(tensor))
    for leaf in given:
        if leaf.token >= 0 and leaf.tensor is not None and is_same(leaf.tensor, tensor):
            tokens.last[leaf.token] = origin + 1
            return leaf
    alone = own_storage(tensor.detach(), taken)
    taken.add(storage_id(alone))
    return _Leaf(alone, tokens.new(origin, alone), View.of_tensor(tensor))


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are the same numbers in the same memory."""
    return (
        storage_id(one) == storage_id(other)
        and one.storage_offset() == other.storage_offset()
        and Layout.of(one) == Layout.of(other)
    )


def _form(boundary: _Boundary, handed: Sequence[int]) -> Form:
    places: list[int] = []
    layouts: list[Layout] = []
    needs: list[bool] = []
    own: dict[int, int] = {}
    for leaf in boundary.leaves:
        if leaf.tensor is None:
            places.append(CONSTANT)
        elif leaf.token in handed:
            places.append(handed_place(handed.index(leaf.token)))
        else:
            if id(leaf) not in own:
                own[id(leaf)] = len(layouts)
                layouts.append(Layout.of(leaf.tensor))
                needs.append(leaf.token < 0)
            places.append(own[id(leaf)])
    return Form(boundary.spec, tuple(places), tuple(layouts), tuple(needs))


def _observed(
    unit: CheckpointedUnit,
    value: Any,
    loss: LossOf | None,
    seed: int,
    before: list[tuple[CheckpointedUnit, Before]],
    foreseen: Foreseen,
) -> Any:
    """Return what a unit makes of a value, and note on the unit what it draws and changes.

    The values from before of what it changed are added to ``before``.
    """
    everything = unit.state.everything()
    changed: tuple[Slot, ...] | None = None
    try:
        with unit.context(seed, shared=False).active(), torch.enable_grad():
            seed_globals(seed, Draws(python=True, numpy=True))
            start = _random_states(unit)
            out = _run(unit, value, loss)
            drew = [one != other for one, other in zip(start, _random_states(unit), strict=True)]
        python, numpy, *torchs = drew
        unit.draws = Draws(any(torchs), python, numpy) | foreseen.draws
        changed = unit.state.changed_since(everything, written=True)
        known = {slot.key for slot in changed}
        changed += tuple(s for s, _ in everything.images if s.path in foreseen.paths and s.key not in known)
        unit.state.watch(changed)
        unit.state_bytes = unit.state.nbytes
    finally:
        before.append((unit, everything if changed is None else everything.narrowed(changed)))
    return out


def _random_states(unit: CheckpointedUnit) -> tuple[Any, ...]:
    """Return Python's, numpy's and torch's random states, to be compared."""
    cpu = torch.default_generator.get_state().numpy().tobytes()
    cuda = torch.cuda.get_rng_state(unit.device).numpy().tobytes() if unit.device.type == "cuda" else b""
    return (*global_states(), cpu, cuda)


def _run(unit: CheckpointedUnit, value: Any, loss: LossOf | None) -> Any:
    """Return the unit's output, and note on the unit how its saved tensors have to be treated."""
    saved = SavedTensors(unit.name, digested=True, kept=True)
    with autocasts() as seen:
        try:
            with saved.discarding():
                out = unit.run(value, loss)
        except InputError as error:
            if _NO_HOOKS not in str(error.__cause__):
                raise
            unit.unhookable = True
            out = unit.run(value, loss)
    unit.computes_gradients, unit.fills_late = saved.used, saved.filled_late()
    unit.autocasts = bool(seen) or unit.context(0).autocast is not None
    return out
