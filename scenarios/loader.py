"""Scenarios are read by a shipped name, from a path or from a dictionary, with overrides by key.

SageMaker's options stand for a scenario wherever one is given (scenarios/smp).

Every mistake is an InputError of one line that names file and key.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from loadahead.scenarios.catalogue.machines import allowed_machines, find_machine
from loadahead.scenarios.catalogue.transformers import TRANSFORMERS, allowed_models
from loadahead.scenarios.key_hints import key_hint, keys_at
from loadahead.scenarios.kinds.module import Module
from loadahead.scenarios.notes import Note, Notes
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.smp.conversion import Conversion, converted
from loadahead.scenarios.smp.options import Options, is_options, options_of
from loadahead.scenarios.smp.reading import is_options_file, read_options
from loadahead.scenarios.tables import CATALOGUED
from loadahead.scenarios.text_files import read_at_most, require_text
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.schema_errors import schema_error_line
from loadahead.sim.workload import IN_MEMORY

_MACHINE = "hardware.machine"
SHIPPED = Path(__file__).parent
SUFFIX = ".toml"
# A scenario can be given as a shipped name, a path, its tables as a dictionary, or itself; SageMaker's options as a
# path or as a dictionary.
ScenarioSource = str | Path | Mapping[str, Any] | Scenario
# Overrides hold new values by the full path of a key, e.g. ``{"offload.release_window": 2}``.
Overrides = Mapping[str, Any]
# A scenario is a page of text. A larger file is not a scenario, and would take long to parse.
LARGEST_FILE = 1_000_000
LARGEST_DEPTH = 50
NOTHING_KNOWN: Mapping[str, Any] = MappingProxyType({})


def shipped_names() -> list[str]:
    """Return the names of the scenarios that come with Loadahead."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFile:
    """Holds a scenario file, read once, to be loaded with many overrides.

    Attributes:
        content: the tables as they stand there.
        source: the name that errors begin with.
        folder: the folder of the file; None for a shipped scenario and one that is no file.
        objects: the model, data, loss and optimizer that were given in memory (the executor's ModelObjects), or None.
        notes: what is to be said of the scenario that was loaded from it before.
        options: SageMaker's, which the tables are then made from; ``content`` holds what is given beside them.
    """

    content: dict[str, Any]
    source: str
    folder: Path | None
    objects: Any = None
    notes: Notes = field(default=Notes())
    options: Options | None = None

    def scenario(self, overrides: Overrides | None = None, known: Mapping[str, Any] = NOTHING_KNOWN) -> Scenario:
        """Return the scenario with these overrides; raise InputError in one line where it holds a mistake.

        ``known`` holds tables of a scenario of this file: they are taken as they are, whatever is overridden in them.
        """
        if self.options is not None:
            # What options become follows from all that is given, known tables too.
            conversion = self.conversion(overrides)
            content, notes = conversion.tables, conversion.notes
        else:
            content = self._overridden(overrides, known)
            notes = self.notes.beside(overrides or ()).and_also(self._of_machine(overrides or {}))
        scenario = _scenario({**content, **known}, self.source, self.folder, known)
        if notes:
            scenario = scenario.with_notes(notes)
        return scenario if "model" in known else with_objects(scenario, self.objects)

    def conversion(self, overrides: Overrides | None = None) -> Conversion:
        """Return what the options of this file become, with overrides; InputError where it is a scenario's file."""
        if self.options is None:
            raise InputError(f"{self.source}: is a scenario; give a file of SageMaker's options")
        return converted(self.options, self._overridden(overrides), _uniform())

    def _overridden(self, overrides: Overrides | None, known: Mapping[str, Any] = NOTHING_KNOWN) -> dict[str, Any]:
        """Return the tables with these overrides, without those that are known."""
        content = {name: copy.deepcopy(table) for name, table in self.content.items() if name not in known}
        if not isinstance(overrides, Mapping | None):
            raise InputError(
                f"the overrides are of type {type(overrides).__name__}; give a dictionary, e.g. "
                '{"offload.release_window": 2}'
            )
        for path, value in (overrides or {}).items():
            keys = split_key(path)
            if keys[0] not in known:
                _set_key(content, path, keys, value)
        if self._replaces_preset(overrides or {}) and "hardware" not in known:
            content["hardware"].pop("preset")
        return content

    def _replaces_preset(self, overrides: Overrides) -> bool:
        """Return whether a machine is set beside the preset that the file has: the machine brings its own GPUs."""
        hardware = self.content.get("hardware")
        return (
            isinstance(hardware, dict)
            and "preset" in hardware
            and _MACHINE in overrides
            and "hardware.preset" not in overrides
        )

    def _of_machine(self, overrides: Overrides) -> list[Note]:
        """Return what is to be said where a machine is set beside a file's own figures."""
        hardware = self.content.get("hardware")
        if _MACHINE not in overrides or not isinstance(hardware, dict):
            return []
        out = []
        if self._replaces_preset(overrides):
            text = f"hardware.preset = {hardware['preset']} gives way to the GPUs of hardware.machine, which is set"
            out.append(Note(text, ("hardware.preset",)))
        stay = [f"hardware.{key}" for key in hardware if key in CATALOGUED and f"hardware.{key}" not in overrides]
        if stay:
            stand, stays = ("stands", "stays") if len(stay) == 1 else ("stand", "stay")
            text = f"{', '.join(stay)} {stand} in the scenario and {stays} as written beside hardware.machine, which is"
            out.append(Note(f"{text} set: only other figures are the machine's"))
        return out


@cache
def _uniform() -> dict[str, Any]:
    """Return the scenario whose model and numbers stand in where SageMaker's options come without any."""
    return _read(SHIPPED / f"uniform{SUFFIX}")


def with_objects(scenario: Scenario, objects: Any) -> Scenario:
    """Return the scenario with what was given in memory; raise InputError where its model is not a module."""
    if objects is None:
        return scenario
    if not isinstance(scenario.model, Module):
        raise InputError(
            f"scenario {scenario.name!r}: model.kind is {scenario.model.kind!r}; a model, data, loss or optimizer "
            'given in memory needs kind = "module"'
        )
    if getattr(objects, "layers", None) is not None and scenario.model.python != IN_MEMORY:
        raise InputError(
            f"scenario {scenario.name!r}: model.python is {scenario.model.python!r} and a model is given in memory; "
            "give one of the two"
        )
    return scenario.model_copy(update={"model": scenario.model.with_objects(objects)})


def scenario_file(source: ScenarioSource) -> ScenarioFile:
    """Return what a scenario is made from, whatever it is given as; raise InputError in one line where it is none."""
    if isinstance(source, Scenario):
        objects = source.model.objects if isinstance(source.model, Module) else None
        content = scenario_to_dict(source)
        # A caution of the tables is said where they are used: to load them shows none.
        content["hardware"].update(source.hardware.bare())
        return ScenarioFile(content=content, source=source.name, folder=None, objects=objects, notes=source.notes)
    if isinstance(source, Mapping) and is_options(source):
        return options_file(source)
    if isinstance(source, Mapping):
        content = copy.deepcopy(dict(source))
        name = content.setdefault("name", "scenario")
        return ScenarioFile(content=content, source=str(name)[:200], folder=None)
    if isinstance(source, str | Path):
        return read_scenario(str(source))
    raise InputError(
        f"the scenario is of type {type(source).__name__}; it must be a shipped scenario's name, a path, a dictionary "
        "of tables or a loaded scenario"
    )


def read_scenario(argument: str) -> ScenarioFile:
    """Read a scenario's file by shipped name or path; raise InputError in one line where there is none."""
    path = _find(argument)
    shipped = path.parent == SHIPPED
    if not shipped and path.suffix != SUFFIX and is_options_file(path):
        return options_file(path)
    content = _read(path)
    content.setdefault("name", path.stem[:200] or "scenario")
    return ScenarioFile(
        content=content, source=path.stem if shipped else str(path), folder=None if shipped else path.parent
    )


def options_file(
    source: Path | Mapping[str, Any], model: str | None = None, machine: str | None = None
) -> ScenarioFile:
    """Return the scenario file that SageMaker's options stand for; raise InputError in one line where they are none.

    Args:
        source: a JSON or a Python file, which is read and not run, or the options as a dictionary.
        model: a transformer's name in the catalogue, or a scenario whose model is taken.
        machine: a machine's name in the catalogue, or an instance type.
    """
    where, name = (str(source), source.stem[:200]) if isinstance(source, Path) else ("scenario", "smp")
    options = options_of(read_options(source) if isinstance(source, Path) else source, where)
    content: dict[str, Any] = {"name": name or "smp"}
    if model is not None:
        content["model"] = _model_named(model)
    if machine is not None:
        content["hardware"] = {"machine": _machine_named(machine)}
    folder = source.parent if isinstance(source, Path) else None
    return ScenarioFile(content=content, source=where, folder=folder, options=options)


def _machine_named(name: str) -> str:
    """Return a machine's name in the catalogue; raise InputError where there is none of it."""
    found = find_machine(name)
    if found is not None:
        return found
    raise InputError(f"machine is {name!r:.60}; {allowed_machines(name)}", parameters=("machine",))


def _model_named(name: str) -> dict[str, Any]:
    """Return the table of a transformer in the catalogue, or of a scenario; raise InputError where there is neither."""
    if name in TRANSFORMERS:
        return {"kind": "transformer", "preset": name}
    try:
        file = read_scenario(name)
    except InputError as error:
        raise InputError(f"{error}; {allowed_models(name)}, or a scenario's", parameters=("model",)) from error
    table = file.content.get("model") if file.options is None else None
    if not isinstance(table, dict):
        raise InputError(f"{name:.80}: has no table [model] to be taken", parameters=("model",))
    if file.folder is not None and table.get("kind") == "module":
        own = table.get("search_path")
        table["search_path"] = str((file.folder / own if isinstance(own, str) else file.folder).resolve())
    return table


def load_scenario(source: ScenarioSource, overrides: Overrides | None = None) -> Scenario:
    """Return a scenario, whatever it is given as, with overrides; raise InputError in one line."""
    return scenario_file(source).scenario(overrides)


def scenario_to_dict(scenario: Scenario) -> dict[str, Any]:
    """Return what was written, as plain data; :func:`scenario_from_dict` makes an equal scenario of it."""
    return scenario.model_dump(mode="json", exclude_unset=True)


def scenario_from_dict(content: dict[str, Any], source: str) -> Scenario:
    """Return the scenario of plain data, e.g. a plan's policy; raise InputError, whose line starts with ``source``."""
    scenario = _scenario(content, source, None)
    return scenario.model_copy(update={"hardware": scenario.hardware.without_cautions()})


def _find(argument: str) -> Path:
    path = Path(argument)
    names = shipped_names()
    try:
        is_path = path.suffix == SUFFIX or len(path.parts) > 1 or path.is_file()
    except (OSError, ValueError):  # too long, or with a character that no path has
        is_path = False
    if is_path and "\0" not in argument:
        return path
    if argument in names:
        return SHIPPED / f"{argument}{SUFFIX}"
    close = difflib.get_close_matches(argument, names, n=1)
    hint = f" did you mean {close[0]}?" if close else ""
    raise InputError(
        f"{argument:.80}: is neither a scenario file nor one that comes with Loadahead;{hint} "
        f"Shipped are {', '.join(names)}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_at_most(path, LARGEST_FILE)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a scenario ({error.strerror}); give a TOML file") from error
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: has {size} bytes; a scenario is a TOML file of at most {LARGEST_FILE}")
    require_text(path, data, "a scenario is a TOML file with tables such as [model]")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; a scenario is a TOML file in UTF-8") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what it lets through, e.g. numbers too long
        reason = one_line(str(error).partition(";")[0], 120)
        raise InputError(f'{path}: is not TOML ({reason}); write keys as in `[model]` kind = "uniform"') from error


def split_key(path: str) -> list[str]:
    """Return the parts of a key's full path, e.g. ``offload.release_window``; InputError where it is none."""
    keys = [key.strip() for key in str(path).split(".")]
    if not all(keys) or len(keys) > LARGEST_DEPTH:
        raise InputError(f"{path!r:.80} is not a key's full path; write e.g. offload.release_window")
    return keys


def _set_key(content: dict[str, Any], path: str, keys: list[str], value: Any) -> None:
    """Put a value into the tables, under its key's full path, whose parts are ``keys``."""
    table = content
    for depth, key in enumerate(keys[:-1], 1):
        found = table.setdefault(key, {})
        if not isinstance(found, dict):
            raise InputError(f"{path:.80}: {'.'.join(keys[:depth])} holds {found!r:.40} and no keys")
        table = found
    if keys == ["parallel", "partitions"]:  # either name replaces what the file says under the other
        table.pop("pipeline_parallel_degree", None)
    if keys == ["parallel", "pipeline_parallel_degree"]:
        table.pop("partitions", None)
    table[keys[-1]] = copy.deepcopy(value)


def toml_value(text: str) -> Any:
    """Return the TOML value that the text is, or else the text itself."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if list(found) == ["value"] else text


def _scenario(
    content: dict[str, Any], source: str, folder: Path | None, known: Mapping[str, Any] = NOTHING_KNOWN
) -> Scenario:
    try:
        scenario = Scenario.model_validate(content)
    except ValidationError as error:
        line = schema_error_line(error, "a scenario", partial(keys_at, content), partial(key_hint, content))
        raise InputError(f"{source}: {line}") from error
    except RecursionError as error:
        raise InputError(f"{source}: is nested too deeply; a scenario has tables of keys and no more") from error
    if "hardware" not in known:
        try:
            scenario.hardware.links()
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    if folder is not None and "model" not in known:
        scenario = _with_search_path(scenario, folder)
    return scenario if folder is None or "costs" in known else _with_costs(scenario, folder)


def _with_costs(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with its costs file's full path, so that it is found wherever the scenario is used."""
    if scenario.costs is None or scenario.is_estimated:
        return scenario
    return scenario.with_costs(str((folder / scenario.costs).resolve()))


def _with_search_path(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with its module folder's full path, so that it is found wherever the scenario is run."""
    if not scenario.model.needs_shapes:
        return scenario
    own = getattr(scenario.model, "search_path", None)
    found = str((folder / own if own else folder).resolve())
    return scenario.model_copy(update={"model": scenario.model.model_copy(update={"search_path": found})})
