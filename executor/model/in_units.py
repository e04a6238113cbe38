"""Cuts a model into units, each of which a rank runs, and knows what passes between them and what they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from loadahead.executor.model.boundaries import Boundaries, trace_boundaries
from loadahead.executor.model.unit import CheckpointedUnit, Foreseen, LossOf
from loadahead.executor.tensors.values import Form
from loadahead.sim.errors import InputError
from loadahead.sim.workload import Workload

UnitKey = tuple[int, int]  # (stage, unit)


class ModelInUnits:
    """Holds the units of a workload over a module's layers, which stay where and what they are.

    What passes between units is known once :meth:`trace` has run a microbatch.

    Args:
        module: layers that are run one after the other.
        workload: which of them each unit holds.
        stage_rank: the rank that runs each stage.
        autocast: the type that autocast casts to; None where it is off.
        in_turns: nobody looks at the numbers and ranks never run at the same time: they may share what they change.
        one_at_a_time: units of several ranks take turns, as they set something of the whole process.

    Attributes:
        units: by stage and unit, in the model's order.
        forms: of each unit's input.
        frozen: the units that need no backward pass.

    Raises InputError where workload and model do not fit.
    """

    def __init__(
        self,
        module: nn.Sequential,
        workload: Workload,
        stage_rank: tuple[int, ...],
        device: torch.device,
        *,
        autocast: torch.dtype | None = None,
        in_turns: bool = False,
        one_at_a_time: bool = False,
    ) -> None:
        self.module, self.workload, self.stage_rank, self.device = module, workload, stage_rank, device
        self.autocast, self._in_turns = autocast, in_turns
        self._check_layers()
        self.units = self._cut()
        if not in_turns:
            self._check_shared_weights()
        for unit in self.units.values():
            unit.forgiving, unit.in_turns = in_turns, one_at_a_time
        self.boundaries = Boundaries((), (), 0)
        self.forms: dict[UnitKey, Form] = {}
        self.frozen: frozenset[UnitKey] = frozenset()

    @property
    def last(self) -> UnitKey:
        """Return the unit in which the model ends and the loss is computed."""
        return len(self.workload.stages) - 1, len(self.workload.stages[-1]) - 1

    def trace(
        self,
        value: Any,
        loss: LossOf,
        seed: Callable[[UnitKey], int],
        foreseen: Mapping[str, Foreseen] | None = None,
        lean: Collection[UnitKey] = (),
    ) -> None:
        """Run one microbatch to its loss, and learn what passes between the units; all is then as it was before.

        Args:
            foreseen: what units do that this microbatch does not show, by their names.
            lean: the units to checkpoint the lean way, where the same comes out so.
        """
        keys = list(self.units)
        self.boundaries = trace_boundaries(
            list(self.units.values()),
            value,
            loss,
            lambda number: seed(keys[number]),
            foreseen=foreseen or {},
            probed={self.units[key].name for key in lean if key in self.units},
        )
        self.use_lean(lean)
        if not self._in_turns:
            self._check_shared_state()
        self.forms = dict(zip(self.units, self.boundaries.forms, strict=True))
        self.frozen = self._frozen()

    def _check_layers(self) -> None:
        at, layers = 0, len(self.module)
        for stage in self.workload.stages:
            for unit in stage:
                if unit.layers[0] != at or unit.layers[1] <= at:
                    raise InputError(f"a unit holds layers {list(unit.layers)}; layer {at} must come next")
                at = unit.layers[1]
        if at != layers:
            raise InputError(f"the units hold {at} layers and the model has {layers}; plan for this model")

    def _cut(self) -> dict[UnitKey, CheckpointedUnit]:
        out, layers = {}, list(self.module)
        shared = len(set(self.stage_rank)) > 1  # all ranks are threads of this process
        for stage, units in enumerate(self.workload.stages):
            for unit, shape in enumerate(units):
                start, stop = shape.layers
                name = f"{stage}.{unit}"
                out[stage, unit] = CheckpointedUnit(layers[start:stop], name, self.device, self.autocast, shared, start)
        return out

    def _check_shared_weights(self) -> None:
        """Raise InputError for ranks that share a trained weight: none of them would have its whole gradient."""
        owner: dict[int, UnitKey] = {}
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
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

    def shared_weights(self) -> dict[str, tuple[str, ...]]:
        """Return the trained weights that several units hold, by name, with these units' names."""
        owners: dict[int, list[str]] = {}
        for unit in self.units.values():
            for parameter in {id(p): p for p in unit.parameters() if p.requires_grad}.values():
                owners.setdefault(id(parameter), []).append(unit.name)
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        return {names[key]: tuple(own) for key, own in owners.items() if len(own) > 1}

    def of_rank(self, rank: int) -> list[CheckpointedUnit]:
        """Return the units that a rank runs."""
        return [unit for (stage, _), unit in self.units.items() if self.stage_rank[stage] == rank]

    def of_stage(self, stage: int) -> list[CheckpointedUnit]:
        """Return a stage's units."""
        return [unit for (own, _), unit in self.units.items() if own == stage]

    def held(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield what a rank's units hold between steps: weights with their gradients, buffers and other tensors."""
        units = self.of_rank(rank)
        for parameter in parameters_of(units):
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        for unit in units:
            yield from unit.state.held()
            for layer in unit.layers:
                yield from layer.buffers()

    def reset(self) -> None:
        """Forget what a step, which may have failed, has left in the units."""
        for unit in self.units.values():
            unit.reset()

    def use_lean(self, units: Collection[UnitKey]) -> None:
        """Checkpoint these units the lean way from now on, as far as they can be, and the others the sparing way."""
        for key, unit in self.units.items():
            unit.lean = key in units and bool(unit.leanable)

    def not_lean(self, units: Collection[UnitKey]) -> list[str]:
        """Return the names of those of the units that are not checkpointed the lean way, as they come out otherwise."""
        return [self.units[key].name for key in sorted(units) if key in self.units and not self.units[key].lean]

    def watch(self, watched: bool) -> None:
        """Compare, or compare no more, what each unit's RECOMPUTE saves with what its FORWARD saved."""
        for unit in self.units.values():
            unit.watched = watched


def parameters_of(units: Iterable[CheckpointedUnit]) -> list[nn.Parameter]:
    """Return the units' parameters, each once."""
    return list({id(p): p for unit in units for p in unit.parameters()}.values())
