"""The validations by name. To add one: write its file, add its line here."""

from __future__ import annotations

from loadahead.sim.errors import InputError
from loadahead.validation.grid import Grid
from loadahead.validation.grids.cpu import CPU
from loadahead.validation.grids.gpu import GPU

GRIDS: dict[str, Grid] = {"gpu": GPU, "cpu": CPU}


def find_grid(name: str | None, device: str) -> tuple[str, Grid]:
    """Return name and grid; None means the device's own. InputError when there is none that the device can run."""
    chosen = ("cpu" if device == "cpu" else "gpu") if name is None else name
    if chosen not in GRIDS:
        raise InputError(f"grid is {chosen!r}; it must be one of {', '.join(GRIDS)}", parameters=("grid",))
    if chosen == "gpu" and device == "cpu":
        raise InputError(
            "grid gpu needs device cuda; on a CPU it would take days, use grid cpu", parameters=("grid", "device")
        )
    return chosen, GRIDS[chosen]


__all__ = ["GRIDS", "find_grid"]
