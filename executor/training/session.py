"""Cuts a model into a plan's units and ranks, with its optimizers: all that lives from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from loadahead.executor.model.boundaries import Boundaries, trace_boundaries
from loadahead.executor.model.spec import AUTOCAST, CPU, Batch, LoadedModel, ModelSpec, load_model, make_ready, on_meta
from loadahead.executor.model.unit import CheckpointedUnit, Foreseen
from loadahead.executor.tensors.randomness import seed_of
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.tensors.values import Form
from loadahead.executor.training.optimizers import StageOptimizer
from loadahead.sim.errors import InputError
from loadahead.sim.workload import Workload

UnitKey = tuple[int, int]  # (stage, unit)


class Session:
    """Holds the units of a workload over one freshly loaded model.

    Gradients are allocated and optimizer state has its memory here, so that both are resident before the first step.
    Each stage has an optimizer of its own: what its step costs does not depend on the rank that holds it.

    Args:
        stage_rank: the rank that runs each stage.
        microbatches: how many a step has, which the data is asked for.
        foreseen: what units do that a traced microbatch does not show, by their names.
        one_at_a_time: units of several ranks take turns, as they set something of the whole process.
        in_turns: the session is a calibration's, whose numbers nobody looks at and whose ranks never run at the same
            time: they may share what they change.

    Raises InputError where workload and model do not fit.
    """

    def __init__(
        self,
        spec: ModelSpec,
        workload: Workload,
        stage_rank: tuple[int, ...],
        device: torch.device = CPU,
        microbatches: int = 1,
        foreseen: Mapping[str, Foreseen] | None = None,
        in_turns: bool = False,
        one_at_a_time: bool = False,
    ) -> None:
        self.spec, self.workload, self.stage_rank, self.device = spec, workload, stage_rank, device
        self.microbatches = microbatches
        self.model: LoadedModel = load_model(spec, device)
        if on_meta(self.model.module):
            raise InputError(
                "the model lies on the meta device, its weights have shapes and no numbers; build it on the CPU to run "
                "it, as it is it can only be planned"
            )
        make_ready(self.model, microbatches)
        self.dtype = AUTOCAST[spec.autocast]
        self._check_layers()
        self.units = self._units(self.model.module)
        if not in_turns:
            self._check_shared_weights()
        self.boundaries = self._trace(foreseen or {})
        for unit in self.units.values():
            unit.forgiving, unit.in_turns = in_turns, one_at_a_time
        if not in_turns:
            self._check_shared_state()
        self.forms: dict[UnitKey, Form] = dict(zip(self.units, self.boundaries.forms, strict=True))
        self.frozen = self._frozen()
        self.optimizers = self._optimizers()

    @property
    def last(self) -> UnitKey:
        """Return the unit in which the model ends and the loss is computed."""
        return len(self.workload.stages) - 1, len(self.workload.stages[-1]) - 1

    def _check_layers(self) -> None:
        at, layers = 0, len(self.model.module)
        for stage in self.workload.stages:
            for unit in stage:
                if unit.layers[0] != at or unit.layers[1] <= at:
                    raise InputError(f"a unit holds layers {list(unit.layers)}; layer {at} must come next")
                at = unit.layers[1]
        if at != layers:
            raise InputError(f"the units hold {at} layers and the model has {layers}; plan for this model")

    def _units(self, module: nn.Sequential) -> dict[UnitKey, CheckpointedUnit]:
        out, layers = {}, list(module)
        shared = len(set(self.stage_rank)) > 1  # all ranks are threads of this process
        for stage, units in enumerate(self.workload.stages):
            for unit, shape in enumerate(units):
                start, stop = shape.layers
                name = f"{stage}.{unit}"
                out[stage, unit] = CheckpointedUnit(layers[start:stop], name, self.device, self.dtype, shared, start)
        return out

    def _check_shared_weights(self) -> None:
        """Raise InputError for ranks that share a trained weight: none of them would have its whole gradient."""
        owner: dict[int, UnitKey] = {}
        names = {id(parameter): name for name, parameter in self.model.module.named_parameters()}
        for key, unit in self.units.items():
            for parameter in unit.parameters():
                first = owner.setdefault(id(parameter), key)
                ranks = self.stage_rank[first[0]], self.stage_rank[key[0]]
                if parameter.requires_grad and ranks[0] != ranks[1]:
                    raise InputError(
                        f"units {first[0]}.{first[1]} and {key[0]}.{key[1]} share the weight {names[id(parameter)]} of "
                        f"shape {list(parameter.shape)} and lie on ranks {ranks[0]} and {ranks[1]}; a weight that is "
                        "trained must lie on one rank: use one rank, or untie it"
                    )

    def _check_shared_state(self) -> None:
        """Raise InputError for ranks that share what their FORWARDs change: each would change it in its own time."""
        owner: dict[tuple[object, ...], UnitKey] = {}
        for key, unit in self.units.items():
            for slot in unit.state.watched:
                for identity in slot.identities():
                    first = owner.setdefault(identity, key)
                    ranks = self.stage_rank[first[0]], self.stage_rank[key[0]]
                    if ranks[0] != ranks[1]:
                        units = f"units {first[0]}.{first[1]} and {key[0]}.{key[1]}"
                        raise InputError(
                            f"{units} share {slot.path}, which a FORWARD changes, and lie on ranks {ranks[0]} and "
                            f"{ranks[1]}, which would change it each in its own time: use one rank, bring the layers "
                            "onto one with checkpoint.partition, or give each its own"
                        )

    def shared_weights(self) -> dict[str, tuple[str, ...]]:
        """Return the trained weights that several units hold, by name, with these units' names."""
        owners: dict[int, list[str]] = {}
        for unit in self.units.values():
            for parameter in {id(p): p for p in unit.parameters() if p.requires_grad}.values():
                owners.setdefault(id(parameter), []).append(unit.name)
        names = {id(parameter): name for name, parameter in self.model.module.named_parameters()}
        return {names[key]: tuple(own) for key, own in owners.items() if len(own) > 1}

    def _trace(self, foreseen: Mapping[str, Foreseen]) -> Boundaries:
        """Run one microbatch to its loss, and return what passes between the units."""
        value, target = self.model.batch(0, 0, self.microbatches)
        keys = list(self.units)
        return trace_boundaries(
            list(self.units.values()),
            value,
            self.model.loss_of(target, 1),
            lambda number: self.seed(0, *keys[number], 0),
            foreseen=foreseen,
        )

    def _frozen(self) -> frozenset[UnitKey]:
        """Return the units that need no backward pass; InputError where the workload has others."""
        found = self.boundaries.frozen
        if found >= len(self.units):
            raise InputError("the model's loss has no gradient: none of its weights is trained; train at least one")
        if found != self.workload.frozen_units:
            raise InputError(
                f"the model's first {found} units need no backward pass, and the first {self.workload.frozen_units} "
                "have none in the plan: plan for this model"
            )
        return frozenset(list(self.units)[:found])

    def _optimizers(self) -> list[StageOptimizer]:
        """Return each stage's optimizer; a weight that several stages hold is the first's."""
        taken: set[int] = set()
        sparse = sparse_weights(self.model.module)
        out = []
        for stage in range(len(self.stage_rank)):
            units = [unit for (own, _), unit in self.units.items() if own == stage]
            own = [p for p in _parameters(units) if p.requires_grad and id(p) not in taken]
            taken.update(map(id, own))
            out.append(StageOptimizer(self.spec, own, sparse))
        return out

    def _rank_units(self, rank: int) -> list[CheckpointedUnit]:
        return [unit for (stage, _), unit in self.units.items() if self.stage_rank[stage] == rank]

    def _rank_optimizers(self, rank: int) -> list[StageOptimizer]:
        return [optimizer for own, optimizer in zip(self.stage_rank, self.optimizers, strict=True) if own == rank]

    def parameters(self, rank: int) -> list[nn.Parameter]:
        """Return a rank's parameters, each once."""
        return _parameters(self._rank_units(rank))

    def resident(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield weights, gradients, module buffers and optimizer state of a rank."""
        for parameter in self.parameters(rank):
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        for unit in self._rank_units(rank):
            yield from unit.state.held()
            for layer in unit.layers:
                yield from layer.buffers()
        for optimizer in self._rank_optimizers(rank):
            yield from optimizer.state()

    def optimizer_step(self, rank: int) -> None:
        """Take one optimizer step on each stage of a rank, one after the other."""
        for optimizer in self._rank_optimizers(rank):
            optimizer.step()

    def unused(self) -> set[int]:
        """Return the ids of the trained weights that no microbatch of the last step has used."""
        return {id(parameter) for optimizer in self.optimizers for parameter in optimizer.unused}

    def begin_step(self) -> None:
        """Zero the gradients in place, and forget what a failed step may have left."""
        for optimizer in self.optimizers:
            optimizer.zero_gradients()
        for unit in self.units.values():
            unit.reset()

    def copy_gradients(self) -> None:
        """Copy gradients before each optimizer step from now on."""
        for optimizer in self.optimizers:
            optimizer.copied = True

    def gradients(self) -> dict[int, torch.Tensor]:
        """Return the last step's gradients, as they were before the optimizer's step where they are copied, by id."""
        found = {p: p.grad for optimizer in self.optimizers for p in optimizer.parameters if p.grad is not None}
        for optimizer in self.optimizers:
            found |= optimizer.copies
        return {id(parameter): gradient for parameter, gradient in found.items()}

    def watch(self, watched: bool) -> None:
        """Compare, or compare no more, what each unit's RECOMPUTE saves with what its FORWARD saved."""
        for unit in self.units.values():
            unit.watched = watched

    def batches(self, step: int, count: int) -> list[Batch]:
        """Return the data of so many microbatches, on the device.

        A step has ``microbatches`` of them; where more are wanted, they begin anew.
        """
        return [self.model.batch(step, number % self.microbatches, self.microbatches) for number in range(count)]

    def loss_of(self, target: Any, microbatches: int) -> Callable[[Any], torch.Tensor]:
        """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean."""
        return self.model.loss_of(target, microbatches)

    def seed(self, step: int, stage: int, unit: int, microbatch: int) -> int:
        """Return the seed of a unit's random numbers for one step and microbatch."""
        return seed_of(self.spec.seed, step, stage, unit, microbatch)

    def weights(self) -> dict[str, Any]:
        """Return the model's and the optimizers' state dictionaries, on the CPU and apart from the session."""
        states = [o.optimizer.state_dict() for o in self.optimizers if o.optimizer is not None]
        whole = {"model": dict(self.model.module.state_dict()), "optimizer": states}
        copied: dict[str, Any] = tree_map_only(torch.Tensor, lambda t: t.detach().to("cpu", copy=True), whole)
        return copied


def _parameters(units: Iterable[CheckpointedUnit]) -> list[nn.Parameter]:
    """Return the units' parameters, each once."""
    return list({id(p): p for unit in units for p in unit.parameters()}.values())
