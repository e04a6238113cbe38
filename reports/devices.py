"""Says whether a prediction and a measurement are of one device. The rule stands here alone."""

from __future__ import annotations

from loadahead.sim.costs import is_estimate


def of_one_device(costs: object, measured_on: str) -> bool:
    """Return whether predicted times say anything of measured ones: an estimate for a GPU says nothing of a CPU.

    ``costs`` is where the predicted times come from, as a timeline's header has it.
    """
    return measured_on != "cpu" or not is_estimate(str(costs))
