"""Gives a plan's operations, in list order, to a backend. This is the only replay loop, for every device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch

from loadahead.executor.backends import Measured
from loadahead.executor.model.spec import Batch
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Holds each microbatch's loss, divided by their number.

    Attributes:
        values: on the device, float64, shape (microbatches,): to read them the host waits for the device.
    """

    values: torch.Tensor

    @property
    def losses(self) -> list[float]:
        """Return each microbatch's loss."""
        return [float(value) for value in self.values.tolist()]

    @property
    def loss(self) -> float:
        """Return the step's loss, the mean over its microbatches."""
        return sum(self.losses)


@dataclass(frozen=True, slots=True)
class StepRun(StepLosses):
    """Holds a step's losses, and when each operation ran."""

    measured: Measured


def replay(
    operations: Operations,
    number: int,
    batches: Sequence[Batch],
    meter: StepMeter | None = None,
    timed: bool = True,
) -> StepRun:
    """Run the plan once as step ``number`` on its data, one batch per microbatch, and return times and loss.

    ``timed`` says whether each operation is timed by itself. What the training does before a step, such as zeroing
    gradients, is outside the measured time. Gradients stay after the OPTIMIZER_STEP to be looked at. Raises what the
    first failing operation raised, after all queues have run dry.
    """
    values = launch(operations, number, batches, meter, timed)
    return StepRun(values, operations.backend.measured())


def launch(
    operations: Operations,
    number: int,
    batches: Sequence[Batch],
    meter: StepMeter | None = None,
    timed: bool = True,
    alone: bool = True,
) -> torch.Tensor:
    """Do as :func:`replay` without waiting for a device that works by itself; return the losses, on the device.

    The backend's ``measured`` waits for the step and tells its times. ``alone`` says whether the device is waited for
    before.
    """
    backend = operations.backend
    operations.begin_step(number, batches)
    try:
        backend.begin(len(operations.views), operations.awaited, timed=timed, alone=alone)
        for op, queue, edges in zip(operations.views, operations.queues, operations.waits, strict=True):
            for edge in edges:
                backend.wait(queue, edge)
            work = partial(operations.run, op)
            backend.launch(queue, op.index, work if meter is None else meter.around(op, work))
            backend.record(queue, op.index)
        backend.end()
        values = operations.losses.clone()
    except BaseException:
        with suppress(RuntimeError):  # a device that is lost says so again, and the first error tells more
            backend.abandon()
        raise
    finally:
        operations.end_step()
    return values
