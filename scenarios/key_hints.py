"""Says where a key of a scenario lives: an unknown one is often another table's, or known by another name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from loadahead.scenarios.fields import Table
from loadahead.scenarios.kinds import KINDS
from loadahead.scenarios.schema import Scenario
from loadahead.sim.schema_errors import Path

# Names that people use for a key, beside those that are spelled much like it, with the key's full path.
ALIASES = {
    "horizon": "offload.activation_loading_horizon",
    "window": "offload.release_window",
    "pp": "parallel.pipeline_parallel_degree",
    "ranks": "parallel.pipeline_parallel_degree",
    "stages": "parallel.pipeline_parallel_degree",
    "partitions": "parallel.partitions",
    "tp": "parallel.tensor_parallel_degree",
    "dp": "parallel.data_parallel_degree",
    "ep": "parallel.expert_parallel_degree",
    "zero": "parallel.zero_stage",
    "hybrid_shard_degree": "parallel.sharded_data_parallel_degree",
}


def keys_at(content: Mapping[str, Any], path: Path) -> list[str]:
    """Return the keys that the table at a path may have in a scenario that holds this."""
    table = _tables(content).get(str(path[0])) if path else Scenario
    return list(table.model_fields) if table is not None else []


def key_hint(content: Mapping[str, Any], path: Path) -> str | None:
    """Return what was probably meant by the unknown key at a path, in a sentence; None where its own table may tell."""
    key, own = str(path[-1]), [str(part) for part in path[:-1]]
    found = full_keys(key, content)
    if found:
        return _did_you_mean(found, own, content)
    if difflib.get_close_matches(key, keys_at(content, path[:-1]), n=1):
        return None
    kind = _kind_with(key) if own == ["model"] else None
    if kind is not None:
        return f'it is one of kind = "{kind}"; allowed: {", ".join(keys_at(content, path[:-1]))}'
    return _did_you_mean(_alike(key, content), own, content)


def full_keys(key: str, content: Mapping[str, Any] | None = None) -> list[str]:
    """Return the full paths of all keys of this name, which may be one of :data:`ALIASES`.

    ``content`` says of which kind the model is; None: of any.
    """
    if key in ALIASES:
        return [ALIASES[key]]
    top = [key] if key in Scenario.model_fields else []
    return top + [path for path in _paths(content) if path.rpartition(".")[2] == key]


def _alike(key: str, content: Mapping[str, Any]) -> list[str]:
    """Return the full path of the key of any table that is spelled most like this one."""
    by_name = {path.rpartition(".")[2]: path for path in _paths(content)}
    return [by_name[name] for name in difflib.get_close_matches(key, by_name, n=1, cutoff=0.8)]


def _did_you_mean(found: list[str], own: list[str], content: Mapping[str, Any]) -> str | None:
    if not found:
        return None
    asked = f"did you mean {' or '.join(found)}?"
    here = [path for path in found if path.split(".")[:-1] == own]
    return f"{asked} Allowed: {', '.join(keys_at(content, tuple(own)))}" if here else asked


def _paths(content: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the full path of every key of every table, each once."""
    yield from dict.fromkeys(f"{name}.{key}" for name, table in _tables(content).items() for key in table.model_fields)
    if content is None:
        yield from dict.fromkeys(f"model.{key}" for kind in KINDS.values() for key in kind.model_fields)


def _tables(content: Mapping[str, Any] | None) -> dict[str, type[Table]]:
    """Return the tables by name; the model's is that of the kind that the content says, and else missing."""
    tables = {
        name: info.annotation
        for name, info in Scenario.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Table)
    }
    model = (content or {}).get("model")
    kind = model.get("kind") if isinstance(model, Mapping) else None
    tables.pop("model", None)
    return tables | ({"model": KINDS[kind]} if isinstance(kind, str) and kind in KINDS else {})


def _kind_with(key: str) -> str | None:
    """Return the kind of model that has such a key; None where there is none."""
    return next((name for name, table in KINDS.items() if key in table.model_fields), None)
