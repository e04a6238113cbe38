"""What outlives an operation beside boundaries and gradients has limits like every other size."""

from __future__ import annotations

import pytest

from loadahead.sim.errors import InputError
from loadahead.sim.workload import PassThrough, UnitShape, Workload

UNIT = UnitShape(boundary_bytes=1, gradient_bytes=1)


@pytest.mark.parametrize("nbytes", [-1, 2**53 + 1, 2**63, 10**30])
def test_a_size_that_none_has_is_refused(nbytes: int) -> None:
    with pytest.raises(InputError, match="must be at least 0 and at most 9007199254740992"):
        PassThrough(nbytes=nbytes, readers=(0,))
    with pytest.raises(InputError, match="state_bytes is"):
        UnitShape(boundary_bytes=1, gradient_bytes=1, state_bytes=nbytes)


@pytest.mark.parametrize("readers", [(), (1, 0), (0, 0), (-1, 2)])
def test_readers_are_units_in_rising_order(readers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="in rising order"):
        PassThrough(nbytes=1, readers=readers)


def test_only_units_of_the_model_read_and_some_unit_is_trained() -> None:
    with pytest.raises(InputError, match="names unit 2; the model has units 0 to 1"):
        Workload(stages=((UNIT, UNIT),), passed=(PassThrough(nbytes=1, readers=(0, 2)),))
    with pytest.raises(InputError, match="frozen_units is 2; of 2 units 0 to 1 may be frozen"):
        Workload(stages=((UNIT, UNIT),), frozen_units=2)
