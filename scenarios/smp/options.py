"""Options as they were given, of which it is decided of which version they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.smp import launch, v1, v2
from loadahead.scenarios.smp.forms import OUTER, Forms
from loadahead.scenarios.smp.keys import Keys, require_allowed, require_known, require_readable
from loadahead.sim.errors import InputError

_UNDECIDED = "no key is of one version alone"
_OF_V2 = "sm_activation_offloading"
VERSIONS: dict[str, Keys] = {v1.NAME: v1.KEYS, v2.NAME: v2.KEYS}
# The tables and keys of a scenario: a dictionary with any of them is one, or is meant to be.
SCENARIO_KEYS = ("name", "costs", "model", "hardware", "parallel", "checkpoint", "offload", "jitter")


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
    if not isinstance(content, Mapping) or any(name in content for name in SCENARIO_KEYS):
        return False
    known = names_of_options()
    return any(name in known for name in content)


def options_of(content: Mapping[str, Any], source: str) -> Options:
    """Return the options that a dictionary has; raise InputError in one line for what is not allowed."""
    forms = Forms(source)
    try:
        forms.read(content, "")
        parameters = forms.the_parameters()
    except RecursionError as error:
        raise InputError(f"{source}: is nested too deeply; give the options alone") from error
    version, why = _version(parameters, forms.started_by, source)
    around = forms.around()
    keys, undecided = VERSIONS[version], why == _UNDECIDED
    for name in parameters:
        if name in launch.MPI and name not in keys:
            raise InputError(f"{source}: {name} is among the parameters; it belongs to mpi_options, beside them")
    of_version = "library, v1 or v2" if undecided else f"library {version}"
    known = v1.KEYS | v2.KEYS if undecided else keys
    require_known(parameters, known, source, f"SageMaker's model parallel {of_version}")
    with v1_is_said(undecided):
        require_allowed(keys, parameters, source)
        read = {name: value for name, value in around.items() if name not in launch.INSTANCES}
        require_readable({**keys, **launch.AROUND}, {**parameters, **read}, source)
    return Options(
        source=source,
        version=version,
        why_version=why,
        parameters=dict(parameters),
        launch=around,
        undecided=undecided,
    )


@contextmanager
def v1_is_said(undecided: bool) -> Iterator[None]:
    """Let what is refused of options whose version nothing decided say that v1 was taken, and how v2 is asked for."""
    try:
        yield
    except InputError as error:
        if not undecided:
            raise
        raise InputError(
            f"{error} (no key is of one version alone, so that those of v1 were taken; for v2 give a key that it alone "
            f'has, e.g. "{_OF_V2}": true)',
            parameters=error.parameters,
        ) from error


def _version(parameters: Mapping[str, Any], started_by: Set[str], source: str) -> tuple[str, str]:
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
    if "torch_distributed" in started_by and "mpi" not in started_by:
        return v2.NAME, "torch_distributed starts its processes"
    if "mpi" in started_by:
        return v1.NAME, "MPI starts its processes"
    return v1.NAME, _UNDECIDED
