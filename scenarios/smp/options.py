"""Options are found in any of the forms in which they are written, and it is decided of which version they are."""

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
_UNDECIDED = "no key is of one version alone"
_ENABLED = launch.ENABLED.name
_WRAPPED = (_ENABLED, "parameters")
VERSIONS: dict[str, Keys] = {v1.NAME: v1.KEYS, v2.NAME: v2.KEYS}
# The tables and keys of a scenario: a dictionary with any of them is one, or is meant to be.
_SCENARIO = ("name", "costs", "model", "hardware", "parallel", "checkpoint", "offload", "jitter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Holds the options as they were given, each value allowed.

    Attributes:
        source: what errors begin with.
        version: "v1" or "v2".
        why_version: what decided that, in words; ``undecided``: nothing did.
        parameters: the library's parameters.
        launch: what stands around them: ``enabled``, the keys of MPI, and the estimator's instances.
    """

    source: str
    version: str
    why_version: str
    parameters: Mapping[str, Any]
    launch: Mapping[str, Any] = field(default_factory=dict)
    undecided: bool = False

    @property
    def keys(self) -> Keys:
        """The keys of the version."""
        return VERSIONS[self.version]

    def value(self, name: str) -> Any:
        """Return a parameter's value as given, or else its default."""
        return self.parameters.get(name, self.keys[name].default)


def names_of_options() -> tuple[str, ...]:
    """Return every name by which options are recognized."""
    names = (*OUTER, "parameters", *v1.KEYS, *v2.KEYS)
    return tuple(dict.fromkeys(names))


def is_options(content: Any) -> bool:
    """Return whether a dictionary has SageMaker's options rather than a scenario.

    One with a table of a scenario is a scenario, whatever else it has.
    """
    if not isinstance(content, Mapping) or any(name in content for name in _SCENARIO):
        return False
    known = names_of_options()
    return any(name in known for name in content)


def options_of(content: Mapping[str, Any], source: str) -> Options:
    """Return the options that a dictionary has; raise InputError in one line for what is not allowed."""
    around: dict[str, Any] = {}
    try:
        parameters = _parameters(content, source, around)
    except RecursionError as error:
        raise InputError(f"{source}: is nested too deeply; give the options alone") from error
    version, why = _version(parameters, around, source)
    keys = VERSIONS[version]
    require_known(parameters, keys, source, f"SageMaker's model parallel library {version}")
    require_allowed(keys, parameters, source)
    asked = {name: value for name, value in around.items() if name not in ("mpi", "torch_distributed")}
    return Options(
        source=source,
        version=version,
        why_version=why,
        parameters=dict(parameters),
        launch=asked,
        undecided=why == _UNDECIDED,
    )


def _parameters(content: Mapping[str, Any], source: str, around: dict[str, Any]) -> Mapping[str, Any]:
    """Return the parameters inside, and put what stands around them into ``around``."""
    if "SMP" in content:  # the arguments of the SDK's class, as a Python file has them
        _take(content, launch.INSTANCES, source, around)
        around["torch_distributed"] = True
        return _table(content["SMP"], source, "SMP(...)")
    if not any(name in content for name in (*OUTER, "parameters")):
        return content
    if "parameters" in content or "enabled" in content:
        require_known(content, _WRAPPED, source, "the model parallel options")
        return _wrapped(content, source, around)
    require_known(content, OUTER, source, "the options")
    _take(content, launch.INSTANCES, source, around)
    if "distribution" in content:
        inner = _table(content["distribution"], source, "distribution")
        return _parameters(inner, source, around) if inner else inner
    for name in ("mpi", "mpi_options"):
        if name in content:
            around["mpi"] = True
            _mpi(_table(content[name], source, name), source, name, around)
    if "torch_distributed" in content:
        around["torch_distributed"] = True
        started = _table(content["torch_distributed"], source, "torch_distributed")
        require_known(started, (_ENABLED,), source, "torch_distributed")
        _start(started, "torch_distributed", source, around)
    if "smp_options" in content:
        return _inner(content["smp_options"], source, "smp_options", around)
    library = _table(content.get("smdistributed", {}), source, "smdistributed")
    if "modelparallel" in library:
        require_known(library, ("modelparallel",), source, "smdistributed")
        return _inner(library["modelparallel"], source, "smdistributed.modelparallel", around)
    has = f"; it has {', '.join(map(str, library))}" if library else ""
    raise InputError(
        f"{source}: has no options of the model parallel library{has}; give them as smp_options, or as "
        "smdistributed.modelparallel"
    )


def _inner(content: Any, source: str, name: str, around: dict[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a table that has them inside, or is them."""
    table = _table(content, source, name)
    if any(key in table for key in _WRAPPED):
        require_known(table, _WRAPPED, source, name)
        return _wrapped(table, source, around)
    return table


def _wrapped(table: Mapping[str, Any], source: str, around: dict[str, Any]) -> Mapping[str, Any]:
    _take(table, {launch.ENABLED.name: launch.ENABLED}, source, around)
    return _table(table.get("parameters", {}), source, "parameters")


def _mpi(table: Mapping[str, Any], source: str, name: str, around: dict[str, Any]) -> None:
    require_known(table, (_ENABLED, *launch.MPI), source, name)
    _start(table, "mpi", source, around)
    _take(table, launch.MPI, source, around)


def _start(table: Mapping[str, Any], name: str, source: str, around: dict[str, Any]) -> None:
    """Put what a table says of how processes are started into ``around``."""
    if _ENABLED in table:
        started = {launch.STARTED_BY[name]: table[_ENABLED]}
        require_allowed(launch.STARTS, started, source)
        around |= started


def _take(content: Mapping[str, Any], keys: Keys, source: str, around: dict[str, Any]) -> None:
    """Put those of the keys that are given into ``around``, each value allowed."""
    given = {name: content[name] for name in keys if name in content}
    require_allowed(keys, given, source)
    around |= given


def _table(value: Any, source: str, name: str) -> Mapping[str, Any]:
    if isinstance(value, NotKnown):
        raise InputError(
            f"{source} line {value.line}: {name} is {shown(value)}, which only running the file would tell; write the "
            "dictionary"
        )
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: {name} is {shown(value)}; it must be a table of keys")
    return value


def _version(parameters: Mapping[str, Any], around: Mapping[str, Any], source: str) -> tuple[str, str]:
    """Return the version and what decided it: keys that only one has, or else how processes are started."""
    old = [name for name in parameters if name in v1.KEYS and name not in v2.KEYS]
    new = [name for name in parameters if name in v2.KEYS and name not in v1.KEYS]
    if old and new:
        raise InputError(
            f"{source}: {old[0]} is a key of SageMaker's model parallel library v1 and {new[0]} of v2; give the keys "
            "of one of them"
        )
    if old or new:
        version = v1.NAME if old else v2.NAME
        return version, f"{(old or new)[0]} is a key of {version} alone"
    if "torch_distributed" in around and "mpi" not in around:
        return v2.NAME, "torch_distributed starts its processes"
    if "mpi" in around:
        return v1.NAME, "MPI starts its processes"
    return v1.NAME, _UNDECIDED
