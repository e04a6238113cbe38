"""A workload's bytes in arrays, one entry per unit of the model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loadahead.sim.ir.plan import Ints
from loadahead.sim.workload import Workload


class Shapes(NamedTuple):
    """Bytes of each unit's boundary, gradient and saved activations; shape (units,).

    ``size_class`` is equal for units whose boundaries have equal bytes: their host slots can serve each other.
    """

    boundary: Ints
    gradient: Ints
    saved: Ints
    size_class: Ints


def shapes_of(workload: Workload) -> Shapes:
    """The workload's bytes."""
    units = [unit for stage in workload.stages for unit in stage]
    boundary = np.asarray([unit.boundary_bytes for unit in units], dtype=np.int64)
    return Shapes(
        boundary=boundary,
        gradient=np.asarray([unit.gradient_bytes for unit in units], dtype=np.int64),
        saved=np.asarray([unit.saved_bytes for unit in units], dtype=np.int64),
        size_class=np.unique(boundary, return_inverse=True)[1].astype(np.int64),
    )
