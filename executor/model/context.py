"""Sets the random and the autocast state under which a unit runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from loadahead.executor.tensors.randomness import DrawFromState, Draws, drawing_from


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Return an autocast context; ``None`` switches autocast off."""
    kind = "cpu" if device.type == "meta" else device.type
    return torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@dataclass(frozen=True, slots=True)
class UnitContext:
    """Holds the seed and the autocast type under which a unit runs; outside of it autocast is off."""

    seed: int
    autocast: torch.dtype | None
    device: torch.device
    shared: bool
    draws: Draws
    turns: bool = False

    def active(self) -> AbstractContextManager[DrawFromState | None]:
        """Return a context, to be entered at once, in which all is so."""
        drawing = self.drawing()
        # Entering autocast, even to leave it off, takes some microseconds.
        return drawing if self.autocast is None else self._casting(drawing)

    def drawing(self) -> AbstractContextManager[DrawFromState | None]:
        """Return the context without autocast, in which a backward pass runs."""
        return drawing_from(self.seed, self.device, self.shared, self.draws, self.turns)

    @contextmanager
    def _casting(self, drawing: AbstractContextManager[DrawFromState | None]) -> Iterator[DrawFromState | None]:
        with drawing as drawn, autocast(self.device, self.autocast):
            try:
                yield drawn
            finally:
                # Torch keeps cast weights until the outermost autocast is left, which may be the caller's, around a
                # whole step: they would take memory, and those cast without a graph would be used with one.
                torch.clear_autocast_cache()
