"""The step of a plan in a user's own loop: it adds gradients, returns the mean loss, and leaves no other trace."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from loadahead.executor.backends import Backend, Measured
from loadahead.executor.links import Hardware, Links
from loadahead.executor.machine import machine
from loadahead.executor.model.foreseen import Foreseen
from loadahead.executor.model.in_units import ModelInUnits, UnitKey
from loadahead.executor.model.spec import Batch, LossFunction
from loadahead.executor.replay.plan_match import stage_ranks
from loadahead.executor.tensors.meter import storage_bytes
from loadahead.executor.tensors.randomness import Draws, states_of_threads
from loadahead.executor.torch_settings import compiled_layers, device_random_state_kept, single_threaded, uncompiled
from loadahead.executor.training.differences import DEPENDS
from loadahead.executor.training.results import summary_of
from loadahead.executor.training.step import BoundStep, Taken, unlike_costs
from loadahead.executor.training.users import UsersTraining
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.memory import MemoryWalk, samples
from loadahead.sim.placement import Placement
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY
from loadahead.sim.timeline import Timeline
from loadahead.sim.workload import Workload

_METERED = "Memory was metered in one step with as many gradients in place before it, and stands for later ones."
_SLOWED = " Its memory was metered, so it took longer than others do."
_UNCOMPILED = (
    "layers that torch.compile compiles run uncompiled: ranks that share a process draw random numbers operator by "
    "operator"
)
_METERED_FOR_FREE = "Memory was read from the allocator: at every operation in one step, and the peak of every step."
_NOT_YET = "Memory is not known yet: the first step warms up."
_OTHERS = "Memory was not metered with the gradients that were in place before this step."
_OPTIMIZER_INSIDE = (
    "an optimizer of the model's weights steps while the step runs, as in a hook: microbatches would use different "
    "weights; take the optimizer's step after the call"
)
_UNMETERED = "Memory was not metered: under a meter, which sees every operator, torch does not compile layers."

# Which gradients are there before a step may be different every time, where microbatches do not use all weights.
MOST_METERED = 4


class NotAlike(Exception):
    """Says that a unit comes out otherwise without a graph than with one, in a step that was watched."""

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit


class UsersStep:
    """Holds a plan bound to a user's layers, and runs its steps.

    Args:
        workload: says which layers each unit holds.
        batch: a microbatch, which is traced; nothing remains of that.
        seed: what all seeds are made of.
        autocast: the type that autocast casts to inside the units; None where it is off.
        lean: the units to checkpoint the lean way, where the same comes out so.
        foreseen: what units do that the traced microbatch does not show, by their names.

    Raises InputError where plan, layers and device do not go together.
    """

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        module: nn.Sequential,
        *,
        loss: LossFunction,
        loss_name: str,
        batch: Batch,
        seed: int,
        autocast: torch.dtype | None,
        backend: Backend,
        hardware: Hardware,
        placement: Placement,
        lean: Collection[UnitKey] = (),
        foreseen: Mapping[str, Foreseen] | None = None,
    ) -> None:
        self.plan, self.backend, self._hardware, self._placement = plan, backend, hardware, placement
        self._parameters = list(module.named_parameters())
        compiled = bool(compiled_layers(module))
        self._model = ModelInUnits(module, workload, stage_ranks(plan, workload), backend.device, autocast=autocast)
        self._training = UsersTraining(self._model, loss, loss_name, seed)
        self._eager = False
        with self._process():
            before = self._versions()
            value, target = batch
            loss_of = self._training.loss_of(target, 1)
            self._model.trace(value, loss_of, lambda key: self._training.seed(0, *key, 0), foreseen, lean)
            self._step = BoundStep(plan, self._model, self._training, backend, Links.of(hardware))
        # A layer may change its own weights, as an embedding with max_norm does: it has just done so.
        self._changing = {
            at for at, (one, other) in enumerate(zip(before, self._versions(), strict=True)) if one != other
        }
        drawing = any(unit.draws.torch for unit in self._model.units.values())
        # Ranks that share a process draw random numbers operator by operator.
        self._eager = compiled and plan.ranks > 1 and drawing
        if not compiled or self._eager or plan.ranks == 1:
            # A unit may begin to draw at any time, as dropout with a schedule does. To seed it takes no longer than to
            # look whether it drew.
            for unit in self._model.units.values():
                unit.draws |= Draws()
        self._unlike = unlike_costs(self._model.not_lean(lean))
        self._meterable = backend.metering_is_free or not compiled or self._eager
        self._taken = 0
        self._slowed = False
        # What a step held, by which gradients were there before it.
        self._memory: dict[tuple[bool, ...], MemoryWalk] = {}
        self._gradients: tuple[bool, ...] = ()
        self._timed: Measured | None = None
        self._number = 0

    def run(self, number: int, batches: Sequence[Batch], scale: torch.Tensor | None = None) -> torch.Tensor:
        """Run step ``number``, and return its mean loss; gradients times ``scale`` are added to those there are.

        What a layer raises is an InputError in one line; where a unit draws or changes what it was not known to, it is
        Unforeseen, and where one comes out otherwise without a graph it is NotAlike. After a failed step gradients and
        the layers' own state are as they are when a plain loop fails; all else is as before it.
        """
        gradients = tuple([parameter.grad is not None for _, parameter in self._parameters])
        warm = self._taken >= self.backend.warm_ups
        metered = warm and self._meterable and gradients not in self._memory and len(self._memory) < MOST_METERED
        peaked = warm and self._meterable and self.backend.metering_is_free and not metered
        timed = self._timed is None or self._step.is_timed(self._taken)
        versions = self._versions()
        self._training.scale = scale
        try:
            with self._process() as stack:
                foreign = self._foreign(gradients) if metered or peaked else 0
                self._model.watch(not self._taken)
                stack.enter_context(self._no_optimizer())
                taken = self._step.run(
                    number,
                    batches,
                    metered=metered,
                    peaked=peaked,
                    one_by_one=timed,
                    foreign=foreign,
                    waited=timed or metered,
                )
        except InputError:
            self._require_same_weights(versions)
            raise
        finally:
            self._training.scale = None
        self._require_same_weights(versions)
        self._require_alike()
        self._note(taken, number, gradients, timed)
        return self._training.mean(taken.values)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a user should know about how steps run here."""
        return (*self.backend.warnings, *((_UNCOMPILED,) if self._eager else ()), *self._unlike)

    def seed_from(self, seed: int) -> None:
        """Make all seeds of another one."""
        self._training.base_seed = seed

    def timeline(self) -> Timeline:
        """Return the last step that was timed operation by operation; InputError before there is one."""
        if self._timed is None:
            raise InputError("no step was timed yet: call the step with batches first")
        plan, timed = self.plan, self._timed
        known = self._memory.get(self._gradients)
        memory = known or _nothing(plan)
        start, end = timed.start_ns - timed.start_ns.min(), timed.end_ns - timed.start_ns.min()
        levels = samples(plan, memory.during, memory.after, start, end)
        metering = _METERED_FOR_FREE if self.backend.metering_is_free else _METERED
        if known is None:
            metering = (_OTHERS if self._memory else _NOT_YET) if self._meterable else _UNMETERED
        launches = {} if timed.issue_ns is None else {"issue_ns": timed.issue_ns.tolist()}
        header = {
            "summary": summary_of(plan, self._placement, self.backend.name, start, end, timed.issue_ns, levels, memory),
            CAPACITY: self._hardware.memory_bytes,
            HOST_CAPACITY: self._hardware.host_memory_bytes,
            "machine": machine() | self.backend.machine(),
            "step_times_ns": [timed.step_time_ns],
            "timed_steps": f"Step {self._number} in a loop of the user's own; the optimizer's step is no part of it."
            + (_SLOWED if self._slowed and not self.backend.metering_is_free else ""),
            "metering": metering,
            "link": self.backend.link_note
            + (f" Here: {Links.of(self._hardware).in_words(plan.ranks)}." if self.backend.emulated else ""),
            "warnings": list(self.warnings),
            **launches,
        }
        return Timeline.of_plan(plan, self.backend.name, start, end, levels, **header)

    # ---- parts of them ----

    @contextmanager
    def _process(self) -> Iterator[ExitStack]:
        """Set the process up for a step, and put it back: threads, autocast, random states."""
        with ExitStack() as stack:
            stack.enter_context(device_random_state_kept(self.backend.device))
            stack.enter_context(single_threaded())
            if self.plan.ranks > 1:
                stack.enter_context(states_of_threads())
            if self._eager:
                stack.enter_context(uncompiled())
            yield stack

    def _versions(self) -> list[int]:
        return [parameter._version for _, parameter in self._parameters]

    @contextmanager
    def _no_optimizer(self) -> Iterator[None]:
        """Raise InputError where an optimizer of these weights steps inside; fused ones count no version."""
        own = {id(parameter) for _, parameter in self._parameters}

        def refuse(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
                raise InputError(_OPTIMIZER_INSIDE)

        handle = register_optimizer_step_pre_hook(refuse)
        try:
            yield
        finally:
            handle.remove()

    def _require_alike(self) -> None:
        """Raise InputError where a watched step's RECOMPUTE came out otherwise than its FORWARD."""
        for unit in self._model.units.values():
            for microbatch, what in sorted(unit.seen.different.items()):
                if unit.lean:
                    raise NotAlike(unit.name)
                raise InputError(
                    f"RECOMPUTE of unit {unit.name}, microbatch {microbatch}: {what}; {DEPENDS}. The gradients of this "
                    "step are not those of plain training"
                )

    def _require_same_weights(self, versions: Sequence[int]) -> None:
        """Raise InputError where a weight was changed while the step ran."""
        for at, (one, other) in enumerate(zip(versions, self._versions(), strict=True)):
            if one != other and at not in self._changing:
                raise InputError(
                    f"the weight {self._parameters[at][0]} was changed while the step ran, as by an optimizer in a "
                    "hook: microbatches would use different weights; take the optimizer's step after the call"
                )

    def _foreign(self, gradients: tuple[bool, ...]) -> int:
        """Return the device bytes that are not the step's, where something counts them: data, the optimizer's state."""
        if not self.backend.metering_is_free:
            return 0
        walk = self._memory.get(gradients)
        own = storage_bytes(self._training.resident(0)) if walk is None else int(walk.static[0])
        return self.backend.allocated() - own

    def _note(self, taken: Taken, number: int, gradients: tuple[bool, ...], timed: bool) -> None:
        if taken.meter is not None:
            self._memory[gradients] = taken.meter.result()
        self._gradients = gradients
        walk = self._memory.get(gradients)
        if taken.peak is not None and walk is not None:
            walk.peak_device[0] = max(walk.peak_device[0], taken.peak)
        if timed:
            self._timed, self._number, self._slowed = taken.measured, number, taken.meter is not None
        self._taken += 1


def _nothing(plan: Plan) -> MemoryWalk:
    """Return the memory of a step that was not metered."""
    rows, ranks = np.zeros(len(plan), dtype=np.int64), np.zeros(plan.ranks, dtype=np.int64)
    return MemoryWalk(rows, rows, rows, ranks, ranks, ranks, ranks)
