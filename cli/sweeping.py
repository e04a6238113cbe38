"""A sweep over a scenario's policy: every combination is planned, proven and simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import compose
from cli.progress import progress
from sim.sweep import Point, evaluate_point, grid

if TYPE_CHECKING:
    from scenarios.prepare import Prepared
    from sim.costs import Costs
    from sim.workload import Workload


@dataclass(slots=True)
class Sweep:
    """One scenario to sweep.

    Attributes:
        argument, overrides, costs_file: as on the command line.
        costs: by workload, so that a module is calibrated once for each size of microbatch; more may be put in.
    """

    argument: str
    overrides: Sequence[str] = ()
    costs_file: Path | None = None
    costs: dict[Workload, Costs] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def prepared(self, microbatches: int | None = None) -> Prepared:
        """The scenario with that number of microbatches, which may change a module's shapes."""
        more = [] if microbatches is None else [f"parallel.microbatches={microbatches}"]
        prepared = compose.prepared_of(self.argument, [*self.overrides, *more], self.costs_file)
        self.warnings += [text for text in prepared.warnings if text not in self.warnings]
        return prepared

    def costs_of(self, prepared: Prepared) -> Costs:
        """The prepared scenario's costs; calibrated where it has none, once per workload."""
        if prepared.workload not in self.costs:
            job = compose.job_of_prepared(prepared)
            self.costs[prepared.workload] = compose.with_costs(job)[1]
        return self.costs[prepared.workload]

    def points(self, axes: Mapping[str, Sequence[Any]]) -> list[Point]:
        """Every combination of the axes' values; ``microbatches`` changes slowest where it is an axis."""
        rest = {name: values for name, values in axes.items() if name != "microbatches"}
        out: list[Point] = []
        for microbatches in axes.get("microbatches", (None,)):
            prepared = self.prepared(microbatches)
            out += grid(prepared.workload, self.costs_of(prepared), prepared.policy, rest)
        return out


def evaluate(points: Sequence[Point], engine: str) -> list[dict[str, Any]]:
    """Each point's row, with progress on stderr."""
    rows = []
    with progress(f"simulating {len(points)} plans", len(points)) as done:
        for point in points:
            rows.append(evaluate_point(point, engine))
            done()
    return rows
