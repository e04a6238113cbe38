"""Which way a unit is checkpointed follows from the slower of device and host in each operation."""

from __future__ import annotations

from collections.abc import Mapping

from loadahead.executor.calibration.samples import Key
from loadahead.executor.calibration.ways import WaySamples, chosen, lean_units
from loadahead.sim.ir.kinds import Kind

TASKS = (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD)
UNIT = (0, 0)


def samples(unit: tuple[int, int], *values: int) -> dict[Key, list[int]]:
    """One unit's FORWARD, RECOMPUTE and BACKWARD, with an outlier each that a median does not see."""
    return {(unit[0], *unit, kind): [value, value, 90_000] for kind, value in zip(TASKS, values, strict=True)}


def way(device: Mapping[Key, list[int]], host: Mapping[Key, list[int]] | None = None) -> WaySamples:
    return WaySamples(device, host or {})


def test_the_device_alone_decides_where_launches_are_off_the_clock() -> None:
    sparing = way(samples(UNIT, 100, 100, 100))
    assert lean_units({"sparing": sparing, "lean": way(samples(UNIT, 100, 100, 68))}, [UNIT]) == {UNIT}
    assert lean_units({"sparing": sparing, "lean": way(samples(UNIT, 100, 100, 72))}, [UNIT]) == set()


def test_a_unit_that_waits_for_its_launches_is_lean() -> None:
    """The device takes longer the lean way, and the host is what counts."""
    sparing = way(samples(UNIT, 10, 10, 20), samples(UNIT, 100, 110, 90))
    lean = way(samples(UNIT, 10, 14, 20), samples(UNIT, 60, 100, 90))
    assert lean_units({"sparing": sparing, "lean": lean}, [UNIT]) == {UNIT}


def test_a_unit_that_keeps_the_device_busy_is_sparing() -> None:
    sparing = way(samples(UNIT, 1000, 800, 2000), samples(UNIT, 100, 110, 90))
    lean = way(samples(UNIT, 1000, 1000, 2000), samples(UNIT, 60, 100, 90))
    assert lean_units({"sparing": sparing, "lean": lean}, [UNIT]) == set()


def test_a_unit_that_was_not_measured_the_lean_way_is_not_chosen() -> None:
    quick = way(samples(UNIT, 1, 1, 1))
    assert lean_units({"sparing": way(samples(UNIT, 9, 9, 9)), "lean": quick}, []) == set()
    assert lean_units({"sparing": way(samples(UNIT, 9, 9, 9))}, [UNIT]) == set()


def test_samples_are_those_of_each_units_way() -> None:
    other = (1, 0)
    step: Key = (0, -1, -1, Kind.OPTIMIZER_STEP)
    sparing = samples(UNIT, 1, 2, 3) | samples(other, 4, 5, 6) | {step: [7]}
    lean = samples(UNIT, 11, 12, 13) | samples(other, 14, 15, 16) | {step: [17]}
    found = chosen({"sparing": sparing, "lean": lean}, {UNIT})
    assert found == samples(UNIT, 11, 12, 13) | samples(other, 4, 5, 6) | {step: [7, 17]}
