"""The identity of a validation: records stand beside each other only where all of this is the same.

Of the machine that is what its times follow from: a GPU's name, or a CPU's name and cores, and torch's, CUDA's and
Python's versions. All else may differ from session to session, and the journal tells where it does.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from loadahead.executor.peers import PEERS
from loadahead.executor.peers.run import device_facts
from loadahead.sweeps.grid import digest
from loadahead.validation.grid import Grid
from loadahead.version import __version__

# Packages beside our own whose versions matter: the peers', and what they stand on.
PACKAGES = ("trl", "deepspeed", "transformers", "accelerate")
# What may differ between two runs of one validation.
_FREE = {"kind", "limit_s", "machine"}
# What has to be the same of two machines, by the names of their facts; of these versions major and minor alone.
_OF_GPU, _OF_CPU, _VERSIONS = (
    ("gpu", "torch", "cuda", "python"),
    ("processor", "cores", "torch", "python"),
    ("cuda", "python"),
)


def header(name: str, grid: Grid, device: str, limit_s: float) -> dict[str, Any]:
    """Return what a journal's header says of the validation: versions, machine, and what is planned."""
    return {
        "loadahead": __version__,
        "code": code_digest(),
        "device": device,
        "grid": name,
        "contents": digest(asdict(grid)),
        "limit_s": limit_s,
        "claims": dict(grid.claims),
        "planned": planned(grid),
        "machine": device_facts(device),
        "packages": {package: _version(package) for package in PACKAGES},
    }


def planned(grid: Grid) -> dict[str, list[dict[str, Any]]]:
    """Return everything that is to be run, by the evidence's lists."""
    return {
        "configurations": [configuration.to_dict() for configuration in grid.configurations],
        "gradients": [configuration.to_dict() for configuration in grid.gradients],
        "peers": [{"peer": name} | case.to_dict() for case in grid.peers for name in PEERS],
    }


def differing(header: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the keys in which two headers differ so that they are not of one validation."""
    keys = [key for key in dict.fromkeys([*header, *other]) if key not in _FREE and header.get(key) != other.get(key)]
    return keys + _differing_machines(header.get("machine"), other.get("machine"))


def _differing_machines(machine: Any, other: Any) -> list[str]:
    """Return the facts in which two machines are not of one kind."""
    if not isinstance(machine, dict) or not isinstance(other, dict):
        return [] if machine == other else ["machine"]
    facts = _OF_GPU if "gpu" in machine or "gpu" in other else _OF_CPU
    return [fact for fact in facts if _comparable(fact, machine.get(fact)) != _comparable(fact, other.get(fact))]


def _comparable(fact: str, value: Any) -> Any:
    return value.split(".")[:2] if fact in _VERSIONS and isinstance(value, str) else value


def code_digest() -> str:
    """Return a digest of our own source files: a version number does not change with every edit."""
    root = Path(__file__).parents[1]
    whole = hashlib.sha256()
    for package in ("", *(link.name for link in sorted(root.iterdir()) if link.is_dir())):
        paths = (root / package).glob("*.py") if not package else (root / package).rglob("*.py")
        for path in sorted(paths):
            whole.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
