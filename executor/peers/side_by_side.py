"""Runs plans of ours and peers on one model, in turns: what each holds, and how long its step takes.

Each first trains some steps alone, from the same weights, on the same data and with the same seeds; its losses must be
ours in every digit before its time counts. The last of these steps is metered. Then all train at once, a step each in
turns, and are timed: whatever else the machine does meanwhile disturbs all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from loadahead.executor.backends import make_backend
from loadahead.executor.links import Links
from loadahead.executor.model.in_units import UnitKey
from loadahead.executor.model.spec import Batch, ModelSpec
from loadahead.executor.peers.base import Peer, Unavailable
from loadahead.executor.peers.device import allocated, begin_peak, clear, is_cuda, peak_allocated, synchronize
from loadahead.executor.peers.run import WARM_UP, PeerResult, PeerSkipped, needs_cuda
from loadahead.executor.peers.training import PeerTraining, passes_of
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations
from loadahead.executor.torch_settings import on_device, single_threaded, without_garbage_collection
from loadahead.executor.training.session import Session
from loadahead.executor.user_code import importable_from
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.ir.plan import Plan
from loadahead.sim.workload import Workload

# Steps whose losses are compared; the last is metered, after those that warm up.
CHECKED_STEPS = WARM_UP + 1
NO_ROOM = "ran out of device memory beside the others: take a smaller model, or fewer microbatches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Is what all train: a model cut into units, on a device, over links that are emulated on a CPU."""

    spec: ModelSpec
    workload: Workload
    device: torch.device
    links: Links


class Runner(Protocol):
    """Trains the model step by step, in its own way."""

    def batches(self, step: int) -> list[Batch]:
        """Return a step's data, on the device."""

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        """Zero the gradients, train a step, and return its loss once it is known."""

    def metered(self, step: int, batches: Sequence[Batch]) -> tuple[float, int | None]:
        """Train a step; return its loss, and the most bytes that tensors held on the device where that can be told."""

    def close(self) -> None:
        """Give back what outlives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """Is one of those that run side by side.

    Attributes:
        make: gives a runner; ``seeded`` seeds every unit as our plans do. Raises Unavailable.
    """

    name: str
    make: Callable[[Model, bool], Runner]


# ---- ours ----


class _PlanRunner:
    """Trains as a plan says."""

    def __init__(self, plan: Plan, model: Model, lean: Collection[UnitKey]) -> None:
        self._foreign = allocated(model.device)
        self._backend = make_backend(model.device.type)
        self._session = Session(model.spec, model.workload, (0,), self._backend.device, plan.microbatches, lean=lean)
        self._operations = Operations(plan, self._session.in_units, self._session, self._backend, model.links)
        self._microbatches = plan.microbatches

    def batches(self, step: int) -> list[Batch]:
        return self._session.batches(step, self._microbatches)

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        return replay(self._operations, step, batches, timed=False).loss

    def metered(self, step: int, batches: Sequence[Batch]) -> tuple[float, int | None]:
        meter = StepMeter(self._operations, self._foreign)
        loss = replay(self._operations, step, batches, meter).loss
        return loss, int(meter.result().peak_device[0])

    def close(self) -> None:
        self._backend.close()


def ours(name: str, plan: Plan, lean: Collection[UnitKey] = ()) -> Entrant:
    """Return a plan of one rank as an entrant; it always seeds its units.

    ``lean`` units are checkpointed the lean way, where the same comes out so.
    """
    passes_of(plan)
    return Entrant(name=name, make=lambda model, seeded: _PlanRunner(plan, model, lean))


# ---- peers ----


class _PeerRunner:
    """Trains as a peer does."""

    def __init__(self, peer: Peer, training: PeerTraining, device: torch.device, before: int) -> None:
        self._peer, self._training, self._device, self._before = peer, training, device, before

    def batches(self, step: int) -> list[Batch]:
        return self._training.batches(step)

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        return self._training.train(step, batches)[0]

    def metered(self, step: int, batches: Sequence[Batch]) -> tuple[float, int | None]:
        if is_cuda(self._device):
            begin_peak(self._device)
            loss, peak = self.train(step, batches), peak_allocated(self._device)
            return loss, None if peak is None else peak - self._before
        if not self._peer.peak_is_known_on_cpu:
            return self.train(step, batches), None
        return self._training.metered(step, batches)

    def close(self) -> None:
        return None


def peer(peer: Peer, plan: Plan, name: str | None = None) -> Entrant:
    """Return a peer as an entrant, in the plan's order of passes."""
    passes = passes_of(plan)

    def make(model: Model, seeded: bool) -> Runner:
        if peer.needs_cuda and not is_cuda(model.device):
            raise Unavailable(needs_cuda(peer))
        before = allocated(model.device)
        training = PeerTraining(peer, model.spec, model.workload, passes, model.device, seeded=seeded)
        return _PeerRunner(peer, training, model.device, before)

    return Entrant(name=name or peer.name, make=make)


# ---- side by side ----


def side_by_side(
    entrants: Sequence[Entrant],
    model: Model,
    *,
    rounds: int = 9,
    progress: Callable[[str], None] = lambda what: None,
) -> list[PeerResult | PeerSkipped]:
    """Run the entrants, and return what was measured of each, or why it was not, in their order.

    The first is the one whose losses the others must have; what fails in it is raised. Times are of whole steps, from
    before the gradients are zeroed to when the losses are known and the device has nothing left to do.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    with single_threaded(), importable_from(model.spec.search_path):
        found = _checked(entrants, model, progress)
        good = [entrant for entrant in entrants if isinstance(found[entrant.name], PeerResult)]
        with on_device(model.device, False):
            times = _in_turns(good, model, rounds, progress)
        clear(model.device)
    out: list[PeerResult | PeerSkipped] = []
    for entrant in entrants:
        result = found[entrant.name]
        if isinstance(result, PeerSkipped):
            out.append(result)
        elif entrant.name in times:
            out.append(replace(result, step_times_ns=times[entrant.name]))
        else:
            out.append(PeerSkipped(name=entrant.name, reason=NO_ROOM))
    return out


def _in_turns(
    entrants: Sequence[Entrant], model: Model, rounds: int, progress: Callable[[str], None]
) -> dict[str, list[int]]:
    """Return the times of each entrant's steps; who runs out of memory beside the others is left out."""
    runners: dict[str, Runner] = {}
    times: dict[str, list[int]] = {entrant.name: [] for entrant in entrants}
    try:
        for step in range(WARM_UP + rounds):
            progress(f"step {step + 1} of {WARM_UP + rounds}, {len(times)} in turns")
            for entrant in entrants:
                name = entrant.name
                if name not in times:
                    continue
                try:
                    if name not in runners:
                        runners[name] = entrant.make(model, False)
                    took = _timed(runners[name], step, model.device)
                except torch.OutOfMemoryError:
                    if entrant is entrants[0]:
                        raise
                    del times[name]
                    if name in runners:
                        runners.pop(name).close()
                    continue
                if step >= WARM_UP:
                    times[name].append(took)
    finally:
        for runner in runners.values():
            runner.close()
    return times


def _checked(
    entrants: Sequence[Entrant], model: Model, progress: Callable[[str], None]
) -> dict[str, PeerResult | PeerSkipped]:
    """Return each entrant's losses and peak, without times yet; those whose losses are not the first one's are out."""
    found: dict[str, PeerResult | PeerSkipped] = {}
    reference: PeerResult | None = None
    for entrant in entrants:
        progress(f"{entrant.name}: losses and peak memory")
        clear(model.device)
        try:
            result = _alone(entrant, model)
        except Unavailable as error:
            found[entrant.name] = PeerSkipped(name=entrant.name, reason=str(error))
            continue
        except Exception as error:  # whatever another package does
            if reference is None:
                raise
            reason = f"failed: {type(error).__name__}: {one_line(error, 120)}"
            found[entrant.name] = PeerSkipped(name=entrant.name, reason=reason)
            continue
        reference = reference or result
        found[entrant.name] = _unlike(result, reference) or result
    clear(model.device)
    return found


def _alone(entrant: Entrant, model: Model) -> PeerResult:
    """Train with an entrant that has the device to itself, seeded; nothing of it stays."""
    last = CHECKED_STEPS - 1
    with on_device(model.device, True), closing(entrant.make(model, True)) as runner:
        losses = [runner.train(step, runner.batches(step)) for step in range(last)]
        loss, peak = runner.metered(last, runner.batches(last))
    return PeerResult(name=entrant.name, step_times_ns=[], losses=[*losses, loss], peak_device_bytes=peak)


def _unlike(result: PeerResult, reference: PeerResult) -> PeerSkipped | None:
    """Return why a result does not count; None where its losses are the reference's in every digit."""
    for step, (one, other) in enumerate(zip(result.losses, reference.losses, strict=True)):
        if one != other:
            reason = f"its loss in step {step} is {one!r}, ours {other!r}: it does something else, and no time counts"
            return PeerSkipped(name=result.name, reason=reason)
    return None


def _timed(runner: Runner, step: int, device: torch.device) -> int:
    batches = runner.batches(step)
    with without_garbage_collection():
        synchronize(device)
        began = time.perf_counter_ns()
        runner.train(step, batches)
        synchronize(device)
        return time.perf_counter_ns() - began
