"""Tells people which commands make a run directory's files again, and what else can be made of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.reports.answer import NextStep, Words, plain_words
from loadahead.reports.page.commands import PageCommands
from loadahead.reports.page.point_command import PointCommand
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import COSTS, MEASURED, PLAN, PREDICTED, SCENARIO

if TYPE_CHECKING:
    from loadahead.sim.ir.plan import Plan


def page_commands(data: RunData) -> PageCommands:
    """Return the command lines that a run's page shows, to be given in its directory."""
    return PageCommands(
        again=tuple(reproduction_commands(data)),
        traces=("loadahead export . --to perfetto -o trace.pftrace",),
        next_words=_words_of(data),
        point=point_command(data),
    )


def _words_of(data: RunData) -> Words:
    """Return what says a next step as the command line that made the run, with other settings.

    Without one, or where it named no scenario, settings are told without a command. Of a tuned plan the next step is
    that very plan's: its scenario would be tuned anew, or decided by a horizon.
    """
    command = next(iter(data.made_by), ())
    if data.tuning is not None and data.plan is not None and data.costs is not None:
        return _words_of_plan
    if len(command) < 3 or command[2].startswith("-"):
        return plain_words
    options = {"--set": list[str](), "--costs": list[str]()}
    for word, following in zip(command[3:], [*command[4:], ""], strict=True):
        name, joined, value = word.partition("=")
        if name in options:
            options[name].append(value if joined else following)
    costs = next(iter(options["--costs"]), None)
    return next_words(command[2], options["--set"], costs, command[1] == "demo" and is_by_horizon(data.plan))


def _words_of_plan(step: NextStep) -> str:
    """Return a next step with the directory's own plan and costs."""
    return f"Next, in this folder: loadahead {'execute' if step.measure else 'simulate'} {PLAN} --costs {COSTS}"


def is_by_horizon(plan: Plan | None) -> bool:
    """Return whether a plan's scenario states that a horizon decides, as the demo makes one say that says otherwise."""
    scenario = {} if plan is None else plan.policy.get("scenario")
    offload = scenario.get("offload") if isinstance(scenario, dict) else None
    return isinstance(offload, dict) and offload.get("decisions") == "horizon"


def reproduction_commands(data: RunData) -> list[str]:
    """Return the command lines that make the run's files again, to be given in its directory."""
    assert data.directory is not None
    names = {path.name for path in data.directory.iterdir()}
    costs = f" --costs {COSTS}" if COSTS in names else ""
    lines = []
    if SCENARIO in names:
        lines.append(f"loadahead plan {SCENARIO} -o {PLAN}")
    if PLAN in names:
        lines += [f"loadahead verify {PLAN}", f"loadahead simulate {PLAN}{costs}"]
        if data.measured is not None:
            lines.append(f"loadahead execute {PLAN} --device {data.measured.source}{costs} -o again")
    if data.predicted is not None and data.measured is not None:
        lines.append(f"loadahead compare {PREDICTED} {MEASURED}")
    lines.append("loadahead report .")
    return lines


def next_words(
    argument: str, overrides: Sequence[str] | None = None, costs: Path | str | None = None, by_horizon: bool = False
) -> Words:
    """Return what says a next step as a command; ``argument`` is the scenario or the plan that was given.

    A plan's settings are made, so that they are told as options of the commands that plan its scenario anew.
    ``by_horizon``: a horizon is to decide, whatever the scenario and the overrides say of that.
    """
    from loadahead.plan_files import is_plan_file
    from loadahead.scenarios.tables import GOAL_KEYS
    from loadahead.sweeps.axes import KEY_OF_COLUMN

    def words(step: NextStep) -> str:
        keys = {KEY_OF_COLUMN.get(name, name): value for name, value in step.settings.items()}
        taken = {*keys}
        if by_horizon:
            keys = {"offload.decisions": "horizon", **keys}
            taken |= {"offload.decisions", *(f"offload.{key}" for key in GOAL_KEYS)}
        settings = [f"--set {shlex.quote(f'{key}={_toml(value)}')}" for key, value in keys.items()]
        if is_plan_file(argument) and settings:
            return f"Next: plan its scenario anew with {' '.join(settings)}."
        kept = [f"--set {shlex.quote(text)}" for text in overrides or () if text.partition("=")[0] not in taken]
        of_costs = [f"--costs {shlex.quote(str(costs))}"] if costs is not None else []
        command = "execute" if step.measure else "simulate"
        return f"Next: {' '.join(['loadahead', command, shlex.quote(argument), *kept, *settings, *of_costs])}"

    return words


def _toml(value: Any) -> str:
    """Return a value as an override has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def point_command(data: RunData) -> PointCommand | None:
    """Return the command line that makes a point of the sweep, to be given in its directory.

    None comes back where the scenario is not known by a name or a path, or a value cannot be written in a line.
    """
    if data.points is None or data.points.source is None or data.facts is None or data.directory is None:
        return None
    from loadahead.sweeps.axes import POLICY_COLUMNS

    words = ["loadahead", "simulate", data.points.source]
    for key, value in data.points.overrides.items():
        text = _as_set(value)
        if text is None:
            return None
        words += ["--set", f"{key}={text}"]
    for key, values in data.facts.axes.items():
        if len(values) == 1:
            words += ["--set", f"{key}={_as_set(values[0])}"]
    costs, note = _costs_of_points(data)
    words += costs
    keys = {column: key for key, column in POLICY_COLUMNS.items()}

    def setting(column: str, value: Any) -> str:
        return shlex.join(["--set", f"{keys.get(column, column)}={_as_set(value)}"])

    return PointCommand(
        before=shlex.join(words), setting=setting, after="-o point && loadahead report point", note=note
    )


def _costs_of_points(data: RunData) -> tuple[list[str], str]:
    """Return the option that gives a sweep's costs again, and what else to know of them.

    Costs in the directory are taken where they are the sweep's; a run beside it may have others.
    """
    from loadahead.sweeps.grid import facts_of

    assert data.facts is not None
    digests = {costs.digest for costs in data.facts.costs} - {None}
    if not digests:
        return [], ""
    if data.costs is not None and digests == {facts_of(data.costs).digest}:
        return ["--costs", COSTS], ""
    if any(costs.digest is not None and costs.microbatches is None for costs in data.facts.costs):
        return ["--costs", "COSTS"], "COSTS stands for the file of costs that the sweep was given."
    return (
        [],
        "The sweep's costs were calibrated for it: this calibrates anew, and its times come out a little different.",
    )


def _as_set(value: Any) -> str | None:
    """Return a value as ``--set`` takes it; None where it is none that can be written in a line."""
    from loadahead.scenarios.loader import toml_value

    text = value if isinstance(value, str) else json.dumps(value, default=str)
    for found in (text, json.dumps(value, default=str)):
        if toml_value(found) == value:
            return found
    return None
