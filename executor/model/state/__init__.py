"""Knows what state a unit's modules hold and what a FORWARD changed of it; puts earlier values into place for a while.

RECOMPUTE runs a unit's layers a second time, on the values that this state had before FORWARD, and leaves no trace.
For that, tensors are swapped and never written: BatchNorm's FORWARD saves its running statistics for BACKWARD, and
autograd would notice if they were copied over. Containers and plain objects get other contents and stay the objects
they are, since others may know them. Random generators are set.

State is found by walking what the modules hold: registered buffers and parameters, and plain attributes with the
containers and plain objects in them. What is captured of a value is its image: the value itself where it cannot
change, else an object that can tell whether the value is still the same and can make it again.
"""

from __future__ import annotations

from loadahead.executor.model.state.before import Before
from loadahead.executor.model.state.module_state import ModuleState, Piece
from loadahead.executor.model.state.places import Slot

__all__ = ["Before", "ModuleState", "Piece", "Slot"]
