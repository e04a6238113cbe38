"""A published figure stands beside the scenario of the run that it was measured in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import loadahead as la

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Holds a published figure and what was predicted.

    ``note`` says how they compare where that needs words; ``theirs`` is by how much the publisher's own prediction is
    larger, as a fraction.
    """

    name: str
    published: float
    predicted: float
    unit: str
    note: str = ""
    theirs: float = 0.0

    @property
    def error(self) -> float:
        """Return by how much the prediction is larger, as a fraction."""
        return self.predicted / self.published - 1

    def line(self) -> str:
        """Return both figures and the error, for people."""
        figures = f"{self.published:10.2f} {self.predicted:10.2f} {self.unit:3} {100 * self.error:+6.1f} %"
        theirs = f"   theirs {100 * self.theirs:+.1f} %" if self.theirs else ""
        return f"{self.name:48} {figures}{f'   {self.note}' if self.note else ''}{theirs}"


def mean_error(rows: list[Beside]) -> float:
    """Return the mean of the errors' sizes."""
    return sum(abs(row.error) for row in rows) / len(rows)


def predicted(model: Mapping[str, Any], machine: str, **tables: Mapping[str, Any]) -> la.Timeline:
    """Return the step that is predicted for a transformer on a machine; without offloading unless a table says it."""
    given: dict[str, Any] = {
        "model": {"kind": "transformer", **model},
        "hardware": {"machine": machine, **tables.pop("hardware", {})},
        "offload": {"offload_activations": False},
        **tables,
    }
    return la.simulate(la.load(given))


def with_ends(blocks: int, stages: int) -> list[int]:
    """Return the layers of each stage where all have as many blocks, the embedding comes first and the head last."""
    partition = [blocks // stages] * stages
    partition[0] += 1
    partition[-1] += 1
    return partition
