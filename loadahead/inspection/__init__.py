"""What was understood of a scenario, before anything is run: units, places, resources, copies and what fits."""

from __future__ import annotations

from loadahead.inspection.inspection import Inspection, inspect_prepared

__all__ = ["Inspection", "inspect_prepared"]
