"""Looks at what a FORWARD draws and changes beside what its unit is known to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from loadahead.executor.model.context import UnitContext
from loadahead.executor.model.state import Before, ModuleState
from loadahead.executor.tensors.randomness import DrawFromState, Draws, drawing_mark, global_states


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Says what a unit does at some time that its traced microbatch does not show.

    Attributes:
        paths: of pieces of its modules' state that its FORWARD changes.
        draws: random numbers that it draws.
    """

    paths: frozenset[str] = frozenset()
    draws: Draws = field(default_factory=lambda: Draws(torch=False))

    def __or__(self, other: Foreseen) -> Foreseen:
        return Foreseen(self.paths | other.paths, self.draws | other.draws)


class Unforeseen(Exception):
    """Says that a unit did what was not foreseen, so that the run has to begin anew."""

    def __init__(self, unit: str, what: Foreseen) -> None:
        super().__init__(unit, what)
        self.unit, self.what = unit, what


class Look:
    """Looks at one FORWARD: make it before, and call :meth:`require_foreseen` after.

    Where no other thread draws, torch's generators are looked at in every unit that was not known to draw: its numbers
    do not come from its seed, and RECOMPUTE would draw others. Of a watched unit all is looked at; its state matters
    where there is a RECOMPUTE.
    """

    __slots__ = ("_device", "_everything", "_mark", "_random", "_watched")

    def __init__(
        self, state: ModuleState, device: torch.device, context: UnitContext, watched: bool, checkpointed: bool
    ) -> None:
        self._device, self._watched = device, watched
        self._mark = None if context.shared or context.draws.torch else drawing_mark(device)
        self._random: tuple[Any, ...] = ()
        self._everything: Before | None = None
        if watched:
            self._random = global_states()
            with _disable_current_modes():  # a meter need not see the copies
                self._everything = state.everything(trained=False) if checkpointed else None

    def require_foreseen(self, name: str, state: ModuleState, draws: Draws, drawing: DrawFromState | None) -> None:
        """Raise Unforeseen where the unit of this name drew, or changed of its state, what it was not known to.

        ``drawing`` drew for the thread. Raise InputError for a change that cannot be put back.
        """
        moved = self._mark is not None and drawing_mark(self._device) != self._mark
        if not self._watched:
            if moved:
                raise Unforeseen(name, Foreseen(draws=Draws()))
            return
        python, numpy = (one != other for one, other in zip(self._random, global_states(), strict=True))
        drew = Draws(moved or (drawing is not None and drawing.drew), python, numpy)
        paths = frozenset() if self._everything is None else _unknown_changes(state, self._everything)
        if paths or (drew | draws) != draws:
            raise Unforeseen(name, Foreseen(paths, drew))


def _unknown_changes(state: ModuleState, before: Before) -> frozenset[str]:
    """Return the paths of what was changed and is not known to be; InputError where one cannot be put back."""
    with _disable_current_modes():
        changed = state.changed_since(before, written=True)
    known = {slot.key for slot in state.watched}
    for slot in changed:
        if not slot.restorable:
            raise state.refusal(slot)
    return frozenset(slot.path for slot in changed if slot.key not in known)
