"""Finds out what the planner has to know about a model, by running it once: bytes and FLOPs of every layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map_only

from loadahead.executor.backends import torch_device
from loadahead.executor.model.alike import OperatorLog
from loadahead.executor.model.blocks import kind_of
from loadahead.executor.model.boundaries import Boundaries, trace_boundaries
from loadahead.executor.model.errors import NeedsNumbers, errors_without_numbers_in_one_line
from loadahead.executor.model.graph import graph_input
from loadahead.executor.model.spec import AUTOCAST, Batch, LossFunction, ModelSpec, load_model, make_ready, mean_loss
from loadahead.executor.model.state import ModuleState, Piece
from loadahead.executor.model.unit import CheckpointedUnit, LossOf
from loadahead.executor.model.weightless import Weightless
from loadahead.executor.model.work import WorkCounter
from loadahead.executor.model.workspace import Workspace, workspace_of
from loadahead.executor.tensors.meter import StorageMeter, storage_bytes
from loadahead.executor.tensors.numbers import has_numbers
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.tensors.values import Description
from loadahead.executor.torch_settings import device_random_state_kept, single_threaded, uncompiled
from loadahead.executor.training.optimizers import primed_optimizer
from loadahead.executor.user_code import importable_from
from loadahead.sim.errors import InputError
from loadahead.sim.workload import HandedOn, LayerShape, ModuleShapes, Shared, SharedState

# So many layers are named in a warning.
_NAMED = 4


def trace_module(spec: ModelSpec, microbatches: int = 1, device: str = "cpu", numbers: bool = True) -> ModuleShapes:
    """Return what the planner has to know of every layer for one microbatch, of so many in a step.

    Saved bytes are what a layer's graph keeps alive beside its input. The loss belongs to the last layer.
    Under autocast some types are the device's own, so that a plan for a device is made from shapes found there. A model
    whose weights have shapes and no numbers is traced as the CPU's kernels would run it, and so is any model without
    ``numbers``; workspaces are known of these alone. Raises InputError for a model that does not run, and for one that
    has numbers and is not traced rightly without.
    """
    with single_threaded(), importable_from(spec.search_path):
        loaded = load_model(spec, torch_device(device), microbatches, numbers)
        with nullcontext() if loaded.weightless is None else errors_without_numbers_in_one_line():
            model = make_ready(loaded, microbatches)
            x, target = model.batch(0, 0, microbatches)
            sparse = sparse_weights(model.module)
            shapes = trace_layers(
                model.module,
                x,
                model.loss_of(target, 1),
                device=model.device,
                autocast=AUTOCAST[spec.autocast],
                seed=spec.seed,
                static_bytes=lambda tensors: _bytes_in_training(spec, tensors, sparse),
                weightless=model.weightless,
            )
        names = model.users_names()
        return replace(shapes, shared=tuple(replace(s, name=names.get(s.name, s.name)) for s in shapes.shared))


def trace_users_layers(
    module: nn.Sequential,
    batch: Batch,
    loss: LossFunction,
    loss_name: str,
    device: torch.device,
    autocast: torch.dtype | None,
    seed: int,
) -> ModuleShapes:
    """Return what the planner has to know of layers that a user trains: their gradients stay, no optimizer is seen."""
    value, target = batch
    sparse = sparse_weights(module)
    with device_random_state_kept(device), single_threaded():
        return trace_layers(
            module,
            value,
            mean_loss(loss, loss_name, target, 1),
            device=device,
            autocast=autocast,
            seed=seed,
            static_bytes=lambda tensors: bytes_with_gradients(tensors, sparse),
        )


def trace_layers(
    module: nn.Sequential,
    value: Any,
    loss: LossOf,
    *,
    device: torch.device,
    autocast: torch.dtype | None,
    seed: int,
    static_bytes: Callable[[Sequence[torch.Tensor]], int],
    weightless: Weightless | None = None,
) -> ModuleShapes:
    """Return what the planner has to know of every layer, from a microbatch's input; all is then as it was before.

    ``static_bytes`` says what weights, buffers and other tensors of layers take between steps; ``weightless`` runs
    layers that have no numbers.
    """
    active = nullcontext if weightless is None else weightless.active
    units = [
        CheckpointedUnit([layer], f"(layer {index})", device, autocast, first_layer=index)
        for index, layer in enumerate(module)
    ]
    traced = _Measured(units, loss, seed, alike=not all(map(has_numbers, _tensors(module))))
    with active(), traced.log or nullcontext():
        boundaries = trace_boundaries(units, value, loss, lambda _: seed, traced.after)
    with active():
        workspaces = traced.workspaces(boundaries)
    shapes = _shapes(module, units, boundaries, traced.runs, workspaces, _shared_state(traced.pieces), static_bytes)
    if weightless is None:
        seen = _of_sparse(units, "peaks are predicted from a few microbatches")
    else:
        seen = _without_numbers(units, traced.runs, weightless)
    return replace(shapes, warnings=(*shapes.warnings, *seen), workspaces_known=weightless is not None)


def _without_numbers(units: Sequence[CheckpointedUnit], runs: Sequence[_Run], weightless: Weightless) -> Iterator[str]:
    """Yield a warning of each sort of memory that fake tensors do not tell; NeedsNumbers where there are numbers."""
    unseen = {unit.name.strip("()"): run.unseen for unit, run in zip(units, runs, strict=True) if run.unseen}
    if unseen and weightless.stands_in:
        name, kernel = next(iter(unseen.items()))
        raise NeedsNumbers(
            f"what {kernel} in {name} keeps is not known without numbers; build the model with its weights"
        )
    for kernel in sorted(set(unseen.values())):
        of = [name for name, own in unseen.items() if own == kernel]
        named = ", ".join(of[:_NAMED]) + (", ..." if len(of) > _NAMED else "")
        yield (
            f"what {kernel} keeps in {named} is not known without numbers: with weights these layers save more, and "
            "peaks are higher"
        )
    yield from _of_sparse(units, "without numbers that is not known, and peaks are without them")


def _of_sparse(units: Sequence[CheckpointedUnit], so: str) -> Iterator[str]:
    """Yield a warning where gradients are sparse, which ends with what follows."""
    sparse = [unit.name.strip("()") for unit in units if sparse_weights(unit.layers)]
    if sparse:
        yield (
            f"weights of {sparse[0]} have sparse gradients, which take as much memory as microbatches use rows: {so}"
        )


class _Run:
    """Holds what one layer's forward pass was: the bytes its graph keeps, and its work (:class:`WorkCounter`)."""

    def __init__(self, kept: int, work: WorkCounter) -> None:
        self.kept, self.flops, self.counted, self.unseen = kept, work.flops, work.counted, work.unseen
        self.products, self.moved_bytes, self.kernels = work.products, work.moved_bytes, work.kernels


class _Measured:
    """Measures each layer once it has been traced, and where none has numbers, one of those that are alike.

    There its operations are run too, for the workspaces of a unit of it: elsewhere a calibration measures these.
    """

    def __init__(self, units: Sequence[CheckpointedUnit], loss: LossOf, seed: int, alike: bool) -> None:
        self._units, self._loss, self._seed = units, loss, seed
        self.log = OperatorLog() if alike else None
        self.runs: list[_Run] = []
        self.pieces: list[list[Piece]] = []
        self._inputs: list[Any] = []
        self._known: dict[Hashable, _Run] = {}

    def after(self, number: int, given: Any) -> None:
        """Measure a layer, whose input is given."""
        unit = self._units[number]
        self.pieces.append(unit.state.pieces())
        # Layers of the same modules that run the same operators are alike in what is measured.
        key = number if self.log is None else (*map(type, unit.layers[0].modules()), self.log.take())
        if key not in self._known:
            self._known[key] = _measured(unit, given, self._ends(number), self._seed)
        self.runs.append(self._known[key])
        if self.log is None:
            self._known.clear()
        else:
            self._inputs.append(given)
            self.log.take()

    def workspaces(self, boundaries: Boundaries) -> list[Workspace]:
        """Return the layers' workspaces; nothing for those without a backward pass, and where layers have numbers."""
        out = [Workspace(0, 0, 0) for _ in self._units]
        made: dict[Hashable, tuple[Workspace, Description]] = {}
        gradient: Description | None = None
        for number in reversed(range(boundaries.frozen, len(self._units)) if self.log is not None else ()):
            unit = self._units[number]
            # Layers that run the same operators may hand on other tensors. A gradient may lie otherwise than another
            # one of its shape: so kernels need other copies of it.
            key = (
                id(self.runs[number]),
                *[form and (form.places, form.layouts, form.needs) for form in (unit.form, unit.out)],
                gradient and (gradient.layouts, gradient.views, gradient.absent),
            )
            if key not in made:
                given, ends = self._inputs[number], self._ends(number)
                made[key] = workspace_of(unit, given, ends, boundaries.handed, gradient, self._seed)
            out[number], gradient = made[key]
        return out

    def _ends(self, number: int) -> LossOf | None:
        return self._loss if number == len(self._units) - 1 else None


def _measured(unit: CheckpointedUnit, value: Any, loss: LossOf | None, seed: int) -> _Run:
    """Run a layer twice more, to count its work and to see what its graph keeps; its state is put back."""
    before = unit.state.everything()

    def again() -> Any:
        # A layer may change its input in place.
        return tree_map_only(torch.Tensor, lambda t: graph_input(t.detach().clone(), t.requires_grad, []), value)

    try:
        counter = _counted(unit, again, loss, seed)
        inputs = again()
        held = [t for t in tree_leaves(inputs) if isinstance(t, torch.Tensor)]
        meter = StorageMeter([*held, *_tensors(unit.layers)])
        with uncompiled(), meter:
            with unit.context(seed, shared=False).active(), torch.enable_grad():
                out = tree_leaves(unit.run(inputs, loss))
                ends = [get_gradient_edge(t) for t in out if isinstance(t, torch.Tensor) and t.requires_grad]
                del out  # the outputs go, unless the graph holds them
            kept = meter.live - meter.resident  # autocast's cast weights have gone
            del ends
    finally:
        unit.state.put_back(before)
    return _Run(kept, counter)


def _counted(unit: CheckpointedUnit, again: Callable[[], Any], loss: LossOf | None, seed: int) -> WorkCounter:
    """Return the work of a unit's forward pass on inputs that are made ``again`` for each try."""
    for followed in (True, False):
        counter, inputs = WorkCounter(followed), again()
        try:
            with uncompiled(), unit.context(seed, shared=False).active(), torch.enable_grad(), counter:
                unit.run(inputs, loss)
        except InputError:
            if not followed:
                raise
            continue
        break
    return counter


def _shapes(
    module: nn.Sequential,
    units: Sequence[CheckpointedUnit],
    boundaries: Boundaries,
    runs: Sequence[_Run],
    workspaces: Sequence[Workspace],
    shared_state: tuple[SharedState, ...],
    static_bytes: Callable[[Sequence[torch.Tensor]], int],
) -> ModuleShapes:
    shared = _shared(module)
    common = {id(tensor) for tensor, _, _ in shared}
    layers = tuple(
        LayerShape(
            input_bytes=form.nbytes,
            gradient_bytes=form.gradient_bytes,
            saved_bytes=run.kept,
            static_bytes=static_bytes([t for t in _tensors(unit.layers) if id(t) not in common]),
            state_bytes=unit.state_bytes,
            flops=run.flops,
            counted=run.counted,
            kind=kind_of(unit.layers[0]),
            products=run.products,
            moved_bytes=run.moved_bytes,
            kernels=run.kernels,
            parameters=sum(p.numel() for p in _own_parameters(unit) if id(p) not in common),
            trained=_trains(unit),
            workspace_forward=workspace.forward,
            workspace_recompute=workspace.recompute,
            workspace_backward=workspace.backward,
        )
        for unit, form, run, workspace in zip(units, boundaries.forms, runs, workspaces, strict=True)
    )
    return ModuleShapes(
        layers=layers,
        handed_on=tuple(HandedOn(nbytes=h.layout.nbytes, origin=h.origin, last=h.last) for h in boundaries.handed),
        shared=tuple(
            Shared(nbytes=static_bytes([t]), layers=own, trained=_is_trained(t), name=name) for t, own, name in shared
        ),
        shared_state=shared_state,
        frozen_layers=boundaries.frozen,
        warnings=_warnings(units),
        weights_in_16_bits=_are_in_16_bits(_tensors(module)),
    )


def _are_in_16_bits(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether most of the parameters among tensors are floating-point numbers of 16 bits."""
    weights = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
    narrow = [weight for weight in weights if weight.dtype in (torch.bfloat16, torch.float16)]
    return sum(weight.numel() for weight in narrow) * 2 > sum(weight.numel() for weight in weights)


def _own_parameters(unit: CheckpointedUnit) -> list[nn.Parameter]:
    return list({id(p): p for p in unit.parameters()}.values())


def _trains(unit: CheckpointedUnit) -> bool | None:
    """Return whether a layer's weights get gradients; None where some do and others do not."""
    found = {parameter.requires_grad for parameter in unit.parameters()} or {True}
    return found.pop() if len(found) == 1 else None


def _warnings(units: Sequence[CheckpointedUnit]) -> tuple[str, ...]:
    out = []
    if not any(p.requires_grad for unit in units for p in unit.parameters()):
        out.append("no parameter of the model is trained (requires_grad): it is planned as if its input were")
    return tuple(out)


def _tensors(layers: Iterable[nn.Module]) -> list[torch.Tensor]:
    """Return the layers' parameters, buffers and other tensors that they hold, each once."""
    found = (
        tensor
        for layer in layers
        for tensor in (*layer.parameters(), *layer.buffers(), *ModuleState([layer], "").held())
    )
    return list({id(tensor): tensor for tensor in found}.values())


def _shared(module: nn.Sequential) -> list[tuple[torch.Tensor, tuple[int, ...], str]]:
    """Return the weights and buffers that several layers hold, with these layers and the first name of each."""
    owners: dict[int, list[int]] = {}
    tensors: dict[int, tuple[torch.Tensor, str]] = {}
    for index, layer in enumerate(module):
        names = {id(tensor): name for name, tensor in (*layer.named_parameters(), *layer.named_buffers())}
        for tensor in _tensors([layer]):
            tensors.setdefault(id(tensor), (tensor, f"{index}.{names.get(id(tensor), 'a tensor of its own')}"))
            if index not in owners.setdefault(id(tensor), []):
                owners[id(tensor)].append(index)
    return [(tensor, tuple(owners[key]), name) for key, (tensor, name) in tensors.items() if len(owners[key]) > 1]


def _shared_state(pieces: Iterable[Sequence[Piece]]) -> tuple[SharedState, ...]:
    """Return the pieces that an earlier layer's FORWARD changes too, each with the last such layer."""
    out = []
    last: dict[tuple[object, ...], tuple[int, int]] = {}
    for layer, own in enumerate(pieces):
        for piece in own:
            known = [last[owner] for owner in piece.owners if owner in last]
            if known:
                earlier, nbytes = max(known)
                out.append(SharedState(nbytes=min(nbytes, piece.nbytes), layer=layer, earlier=earlier))
        last.update((owner, (layer, piece.nbytes)) for piece in own for owner in piece.owners)
    return tuple(out)


def _is_trained(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad


def _bytes_in_training(spec: ModelSpec, tensors: Sequence[torch.Tensor], sparse: Collection[int]) -> int:
    """Return the bytes of weights and buffers, with gradients and optimizer state of what is trained."""
    trained = _trained(tensors)
    if not all(map(has_numbers, trained)):
        # What an optimizer makes of fake tensors needs their numbers; on the meta device it needs none.
        stand_ins = [
            nn.Parameter(torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device="meta")) for p in trained
        ]
        sparse = {id(mine) for mine, theirs in zip(stand_ins, trained, strict=True) if id(theirs) in sparse}
        trained = stand_ins
    placeholders = primed_optimizer(spec, trained, sparse)
    gradients = [p.grad for p in trained if p.grad is not None]
    nbytes = storage_bytes([*tensors, *gradients, *placeholders])
    for parameter in trained:
        parameter.grad = None
    return nbytes


def bytes_with_gradients(tensors: Sequence[torch.Tensor], sparse: Collection[int] = ()) -> int:
    """Return the bytes of weights and buffers, with a gradient of each weight that is trained and keeps one.

    ``sparse`` holds ids of weights whose gradients take as much as microbatches use. Where a hook takes a gradient as
    soon as it is there, none stays.
    """
    resident = [
        parameter
        for parameter in _trained(tensors)
        if id(parameter) not in sparse and not getattr(parameter, "_post_accumulate_grad_hooks", None)
    ]
    return storage_bytes(tensors) + sum(parameter.numel() * parameter.element_size() for parameter in resident)


def _trained(tensors: Sequence[torch.Tensor]) -> list[nn.Parameter]:
    return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter) and tensor.requires_grad]
