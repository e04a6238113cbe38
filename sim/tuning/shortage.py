"""Says in one line what is missing where no plan that was found keeps the budget, and which budget one keeps."""

from __future__ import annotations

from loadahead.sim.tuning.answer import Tuning
from loadahead.sim.units import bytes_apart, format_duration


def shortage(tuning: Tuning) -> str:
    """Return what the nearest plan needs and lacks, and which changes would meet it; empty for a plan that fits.

    The changes are budgets that the nearest plan keeps, so that they are known to do.
    """
    if tuning.fits:
        return ""
    missing, limits, row = tuning.missing, tuning.limits, tuning.chosen.row
    own = "the device's memory less a reserve" if limits.reserve_bytes else ""
    of_each = [
        ("memory", "device memory", row.peak_device_bytes, missing.device_bytes, limits.device_bytes, own),
        (
            "boundary_memory",
            "boundaries",
            row.peak_boundary_bytes,
            missing.boundary_bytes,
            limits.boundary_bytes,
            "",
        ),
        ("host_memory", "host memory", row.host_bytes, missing.host_bytes, limits.host_bytes, ""),
    ]
    lacks, changes = [], []
    for name, what, needs, lack, limit, of_limit in of_each:
        if lack and limit is not None:
            needed, allowed, short = bytes_apart(needs, limit, lack)
            beside = f" ({of_limit})" if of_limit else ""
            lacks.append(f"{needed} of {what} where {allowed}{beside} may be taken, {short} too much")
            changes.append(f"{name} = {needs} B")
    if lacks:
        return (
            f"no plan that was found keeps the budget: the nearest needs {' and '.join(lacks)}; it would fit with "
            f"{' and '.join(changes)}"
        )
    assert tuning.limit_ns is not None, "a plan that keeps the budget and does not fit is too slow"
    took, allowed = format_duration(row.step_time_ns), format_duration(tuning.limit_ns)
    return f"no plan that was found keeps the step within {allowed}: the nearest takes {took}; allow a longer step"
