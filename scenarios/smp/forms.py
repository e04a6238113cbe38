"""The forms in which options are written: the parameters are found in any of them, with what stands around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.smp import launch, v1, v2
from loadahead.scenarios.smp.keys import Keys, require_allowed, require_known
from loadahead.scenarios.smp.values import NotKnown, shown
from loadahead.sim.errors import InputError

# What stands around the parameters, from the outermost.
OUTER = ("distribution", "smdistributed", "mpi", "torch_distributed", "smp_options", "mpi_options", *launch.INSTANCES)
_ENABLED = launch.ENABLED.name
_WRAPPED = (_ENABLED, "parameters")


@dataclass(slots=True)
class Forms:
    """Collects what options say, wherever they say it.

    Attributes:
        parameters: the library's parameters, by the place that has them.
        launch: what stands around them, each with the place that has it.
        started_by: what starts the processes.
    """

    source: str
    parameters: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    launch: dict[str, tuple[Any, str]] = field(default_factory=dict)
    started_by: set[str] = field(default_factory=set)

    def around(self) -> dict[str, Any]:
        """Return what stands around the parameters."""
        return {name: value for name, (value, _) in self.launch.items()}

    def the_parameters(self) -> Mapping[str, Any]:
        """Return the parameters; raise InputError where two places have different ones."""
        (first, found), *others = self.parameters.items()
        for place, other in others:
            for name in {**found, **other}:
                if name not in found or name not in other or found[name] != other[name]:
                    here, there = _said(found, name), _said(other, name)
                    raise InputError(
                        f"{self.source}: {name} is {here} in {first} and {there} in {place}; give one of the two"
                    )
        return found

    def take(self, content: Mapping[str, Any], keys: Keys, place: str) -> None:
        """Take those of the keys that are given, each value allowed."""
        given = {name: content[name] for name in keys if name in content}
        require_allowed(keys, given, self.source)
        for name, value in given.items():
            before, where = self.launch.setdefault(name, (value, place))
            if before != value:
                raise InputError(
                    f"{self.source}: {name} is {shown(before)}{_in(where)} and {shown(value)}{_in(place)}; give one of "
                    "the two"
                )

    def read(self, content: Mapping[str, Any], place: str) -> None:
        """Read a table of any form; ``place`` is empty for the outermost."""
        if "SMP" in content:  # the arguments of the SDK's class, as a Python file has them
            self.take(content, launch.INSTANCES, place)
            self.started_by.add("torch_distributed")
            self.parameters["SMP(...)"] = self._table(content["SMP"], "SMP(...)")
            return
        beside = {name: value for name, value in content.items() if name not in launch.INSTANCES}
        if not beside or any(name in OUTER for name in beside):
            self._read_outer(content, place)
        elif any(name in _WRAPPED for name in beside):
            require_known(beside, _WRAPPED, self.source, "the model parallel options")
            self.take(content, launch.INSTANCES, place)
            self._wrapped(beside, place)
        elif len(beside) == len(content) or any(_is_parameter(name) for name in beside):
            self.take(content, launch.INSTANCES, place)
            self.parameters[place or "the parameters"] = beside
        else:
            self._read_outer(content, place)

    def _read_outer(self, content: Mapping[str, Any], place: str) -> None:
        """Read a table that has the parameters' table among others."""
        require_known(content, OUTER, self.source, "the options")
        self.take(content, launch.INSTANCES, place)
        for name in ("mpi", "mpi_options"):
            if name in content:
                self.started_by.add("mpi")
                self._mpi(self._table(content[name], name), _inside(place, name))
        if "torch_distributed" in content:
            self.started_by.add("torch_distributed")
            started = self._table(content["torch_distributed"], "torch_distributed")
            require_known(started, (_ENABLED,), self.source, "torch_distributed")
            self._start(started, "torch_distributed", _inside(place, "torch_distributed"))
        library = self._table(content.get("smdistributed", {}), "smdistributed")
        has_library = "modelparallel" in library
        if "distribution" in content:
            inner = self._table(content["distribution"], "distribution")
            where = _inside(place, "distribution")
            if inner or not (has_library or "smp_options" in content):
                self.read(inner, where) if inner else self.parameters.setdefault(where, inner)
        if "smp_options" in content:
            self._inner(content["smp_options"], "smp_options", place)
        if has_library:
            require_known(library, ("modelparallel",), self.source, "smdistributed")
            self._inner(library["modelparallel"], "smdistributed.modelparallel", place)
        if not self.parameters:
            has = f"; it has {', '.join(map(str, library))}" if library else ""
            raise InputError(
                f"{self.source}: has no options of the model parallel library{has}; give them as smp_options, or as "
                "smdistributed.modelparallel"
            )

    def _inner(self, content: Any, name: str, place: str) -> None:
        """Read a table that has the parameters inside, or is them."""
        table = self._table(content, name)
        if any(key in table for key in _WRAPPED):
            require_known(table, _WRAPPED, self.source, name)
            self._wrapped(table, _inside(place, name))
        else:
            self.parameters[_inside(place, name)] = table

    def _wrapped(self, table: Mapping[str, Any], place: str) -> None:
        self.take(table, {_ENABLED: launch.ENABLED}, place)
        self.parameters[place or "the parameters"] = self._table(table.get("parameters", {}), "parameters")

    def _mpi(self, table: Mapping[str, Any], place: str) -> None:
        require_known(table, (_ENABLED, *launch.MPI), self.source, place.rpartition(".")[2])
        self._start(table, "mpi", place)
        self.take(table, launch.MPI, place)

    def _start(self, table: Mapping[str, Any], name: str, place: str) -> None:
        """Take what a table says of how processes are started."""
        if _ENABLED in table:
            self.take({launch.STARTED_BY[name]: table[_ENABLED]}, launch.STARTS, place)

    def _table(self, value: Any, name: str) -> Mapping[str, Any]:
        if isinstance(value, NotKnown):
            raise InputError(
                f"{self.source} line {value.line}: {name} is {shown(value)}, which only running the file would tell; "
                "write the dictionary"
            )
        if not isinstance(value, Mapping):
            raise InputError(f"{self.source}: {name} is {shown(value)}; it must be a table of keys")
        return value


def _is_parameter(name: str) -> bool:
    return name in v1.KEYS or name in v2.KEYS


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _in(place: str) -> str:
    return f" in {place}" if place else ""


def _said(table: Mapping[str, Any], name: str) -> str:
    return shown(table[name]) if name in table else "not given"
