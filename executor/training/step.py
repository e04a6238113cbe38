"""A plan bound to a model and a training, on a backend: the one way to run its steps, whoever asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadahead.executor.backends import Backend, Measured
from loadahead.executor.links import Links
from loadahead.executor.model.in_units import ModelInUnits
from loadahead.executor.model.spec import Batch
from loadahead.executor.replay.loop import StepLosses, launch
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations
from loadahead.executor.replay.training import Training
from loadahead.executor.torch_settings import without_garbage_collection
from loadahead.sim.ir.plan import Plan

# Where timing each operation costs something, one step in this many does: the others' median is the step time.
TIMED_EVERY = 4


@dataclass(frozen=True, slots=True)
class Taken(StepLosses):
    """Holds the losses of a step that was taken, and what of its times and memory was looked at.

    Attributes:
        measured: when each operation ran; None for a step that was not waited for.
        meter: holds the memory at every operation.
        peak: bytes of the whole step's peak, of a backend's only rank.
    """

    measured: Measured | None
    meter: StepMeter | None = None
    peak: int | None = None


def unlike_costs(units: Sequence[str]) -> list[str]:
    """Return a warning about units that run another way than their costs say; none where there are none."""
    if not units:
        return []
    more = f" and {len(units) - 3} more" if len(units) > 3 else ""
    return [
        f"units {', '.join(units[:3])}{more} were calibrated with FORWARDs without a graph and come out otherwise so "
        "here: they make their graphs at FORWARD, and their times are not those of the costs; calibrate again"
    ]


class BoundStep:
    """Holds a plan bound to a model in units, a training and a backend, and runs its steps.

    Raises InputError where plan and model do not fit.
    """

    def __init__(self, plan: Plan, model: ModelInUnits, training: Training, backend: Backend, links: Links) -> None:
        self.plan, self.model, self.training, self.backend = plan, model, training, backend
        self.operations = Operations(plan, model, training, backend, links)

    def run(
        self,
        number: int,
        batches: Sequence[Batch],
        *,
        metered: bool = False,
        peaked: bool = False,
        one_by_one: bool = True,
        foreign: int = 0,
        waited: bool = True,
    ) -> Taken:
        """Run one step, and return it; after a failed one nothing is left of it but gradients and module state.

        Args:
            metered: look at the memory at every operation.
            peaked: look at the whole step's peak, on a backend whose metering is free.
            one_by_one: time each operation by itself.
            foreign: bytes of the device that belong to something else.
            waited: wait for a device that works by itself, before the step and after it, and read its times.
        """
        meter = StepMeter(self.operations, foreign) if metered else None
        whole = self.backend.meter(self.training.resident(0), [self.operations.losses], foreign) if peaked else None
        if whole is not None:
            whole.start_operation()
        try:
            with without_garbage_collection():
                values = launch(self.operations, number, batches, meter, one_by_one, alone=waited)
            measured = self.backend.measured() if waited else None
        except BaseException:
            self.operations.before_frees = None
            self.model.reset()
            raise
        return Taken(values, measured, meter, None if whole is None else whole.peak)

    def is_timed(self, number: int) -> bool:
        """Return whether the backend's step of this number is one to time operation by operation.

        Where a backend needs no warming up, timing is free; elsewhere each operation's time costs two events.
        """
        return self.backend.warm_ups == 0 or (number - self.backend.warm_ups - 1) % TIMED_EVERY == 0
