"""Chooses how each unit is checkpointed, the sparing way or the lean one, from what both took.

The sparing way takes the device less time, the lean one the host (:mod:`loadahead.executor.model.unit`). Whichever is
slower of device and host makes an operation as long as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from loadahead.executor.calibration.samples import Key, Samples
from loadahead.sim.costs import CheckpointWay
from loadahead.sim.ir.kinds import Kind

# The lean way takes more memory during RECOMPUTE, so it has to be quicker by more than what two measurements differ by.
LEAN_GAIN = 0.9

_OF_A_WAY = (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD)

UnitKey = tuple[int, int]  # (stage, unit)


@dataclass(frozen=True, slots=True)
class WaySamples:
    """Holds what was measured with units checkpointed one way.

    Attributes:
        times: samples in ns of every operation on its queue.
        launches: samples in ns of the host's time to issue each; empty where that is off the clock.
    """

    times: Samples
    launches: Samples = field(default_factory=dict)

    def unit_ns(self, rank: int, unit: UnitKey) -> float:
        """Return what one microbatch of a unit takes, by the slower of device and host in each operation."""
        return sum(
            max(_median(self.times, (rank, *unit, kind)), _median(self.launches, (rank, *unit, kind)))
            for kind in _OF_A_WAY
        )


def _median(samples: Samples, key: Key) -> float:
    return float(np.median(samples[key])) if samples.get(key) else 0.0


def lean_units(ways: Mapping[CheckpointWay, WaySamples], units: Collection[UnitKey]) -> frozenset[UnitKey]:
    """Return those of the units that are quicker the lean way; in a calibration a stage is a rank."""
    if "lean" not in ways:
        return frozenset()
    sparing, lean = ways["sparing"], ways["lean"]
    return frozenset(unit for unit in units if lean.unit_ns(unit[0], unit) < LEAN_GAIN * sparing.unit_ns(unit[0], unit))


def chosen(ways: Mapping[CheckpointWay, Samples], lean: Collection[UnitKey]) -> dict[Key, list[int]]:
    """Return each task's samples as its unit is checkpointed, and those of both runs of what belongs to no unit."""
    out: dict[Key, list[int]] = {}
    for way, samples in ways.items():
        for key, values in samples.items():
            _, stage, unit, kind = key
            if kind not in _OF_A_WAY:
                out.setdefault(key, []).extend(values)
            elif way == ("lean" if (stage, unit) in lean else "sparing"):
                out[key] = list(values)
    return out
