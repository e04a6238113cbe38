"""From SageMaker's options to all that can be said of them: scenario, rank map, plan and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.jobs import job_of, named, with_costs
from loadahead.prediction import Prediction, predict, prediction_of, write_advice, write_prediction
from loadahead.progress import ProgressCallback, silent

if TYPE_CHECKING:
    from loadahead.reports.smp_options import SmpOptions
    from loadahead.scenarios.schema import Scenario
    from loadahead.scenarios.smp.conversion import Conversion
    from loadahead.sim.costs import Costs
    from loadahead.sim.placement import Placement, RankMap

TOML_SUFFIX = ".toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedOptions:
    """Holds what options became.

    Attributes:
        ranks: where each process stands, and what it works on.
        placement: on what hosts they stand, and in what order.
        costs: what the plan was predicted with.
    """

    conversion: Conversion
    scenario: Scenario
    placement: Placement
    ranks: RankMap
    prediction: Prediction
    costs: Costs

    @property
    def warnings(self) -> list[str]:
        """What is to be said of the scenario and of its step."""
        found: list[str] = self.prediction.step.header["warnings"]
        return found

    def toml(self) -> str:
        """Return the scenario's file, with comments that say where each line comes from."""
        from loadahead.scenarios.smp.toml_text import scenario_toml

        return scenario_toml(self.conversion)

    def options(self) -> SmpOptions:
        """Return what became of the options, as a run directory keeps it."""
        from loadahead.reports.smp_options import SmpKey, SmpOptions
        from loadahead.scenarios.smp.values import shown

        options = self.conversion.options
        return SmpOptions(
            scenario=self.scenario.name,
            version=f"{options.version} ({options.why_version})",
            source=str(options.source),
            keys=tuple(SmpKey(key=row.key, value=shown(row.value), where=row.where()) for row in self.conversion.rows),
            placement=self.placement,
            pipeline=self.scenario.parallel.pipeline_parallel_degree,
            gpus_per_switch=self.scenario.hardware.value_of("gpus_per_switch"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        conversion = self.conversion
        return {
            "version": conversion.options.version,
            "scenario": conversion.tables,
            "keys": [row.to_dict() for row in conversion.rows],
            "degrees": conversion.degrees.to_dict(),
            "ranks": self.ranks.rows(),
            "prediction": self.prediction.to_dict(),
            "warnings": self.warnings,
        }


def import_options(
    path: Path, model: str | None = None, machine: str | None = None, progress: ProgressCallback = silent
) -> ImportedOptions:
    """Return what the options of a JSON or a Python file become, and the predicted step.

    ``model`` and ``machine`` are those of :func:`loadahead.scenarios.loader.options_file`.
    """
    from loadahead.scenarios.loader import options_file
    from loadahead.scenarios.placement import placement_of

    file = options_file(path, model, machine)
    with named(str(path)):
        conversion, scenario = file.conversion(), file.scenario()
        placement = placement_of(scenario.parallel, scenario.hardware)
        switch = scenario.hardware.value_of("gpus_per_switch")
        ranks = placement.table(scenario.parallel.pipeline_parallel_degree, switch)
    job, costs = with_costs(job_of(scenario), progress=progress)
    step = predict(job, costs)
    prediction = prediction_of(job, costs, step, None, None, progress)
    return ImportedOptions(
        conversion=conversion,
        scenario=scenario,
        placement=placement,
        ranks=ranks,
        prediction=prediction,
        costs=costs,
    )


def write_imported(imported: ImportedOptions, directory: Path, command: Sequence[str] = ()) -> None:
    """Write scenario, plan, costs, predicted timeline and advice into a run directory, which is made if need be.

    The timeline keeps what became of the options, and ``command``, the command line that made it, where one did.
    """
    from loadahead.reports import run_directory
    from loadahead.reports.smp_options import SMP

    prediction, step = imported.prediction, imported.prediction.step
    step = replace(step, header={**step.header, SMP: imported.options().model_dump(mode="json")})
    write_prediction(prediction.job, step, imported.costs, directory, command)
    write_advice(prediction.advice, directory)
    write_scenario(imported, directory / run_directory.SCENARIO)


def write_scenario(imported: ImportedOptions, path: Path) -> None:
    """Write the scenario's file."""
    path.write_text(imported.toml(), encoding="utf-8")


def is_imported(path: Path) -> bool:
    """Return whether a scenario's file may be replaced without a word: it is one of those, or is not there."""
    from loadahead.scenarios.smp.toml_text import MADE_OF
    from loadahead.scenarios.text_files import read_at_most

    try:
        start = read_at_most(path, len(MADE_OF) + 1)
    except OSError:  # it is not there, or to write it will tell
        return True
    return MADE_OF.encode() in start
