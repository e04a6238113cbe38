"""Options become the tables of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.fields import LARGEST_COUNT
from loadahead.scenarios.notes import Note, Notes
from loadahead.scenarios.smp import v1, v2
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.processes import Degrees, degrees_of
from loadahead.scenarios.smp.remarks import remarks_on
from loadahead.scenarios.smp.rows import BY_DEFAULT, Row, rows_of
from loadahead.scenarios.smp.stand_ins import StandIns, stand_ins
from loadahead.scenarios.smp.wanted import OLDER_PIPELINE, PIPELINE, Tables, offload_of, parallel_of, shards_of
from loadahead.sim.errors import InputError

_ACTIVE = "active_microbatches"
# The keys that set how many processes there are, so that what is said of them is answered.
_PROCESSES = ("hardware.gpus_per_host", "parallel.data_parallel_degree")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Holds what options became.

    Attributes:
        tables: the scenario's, as its file would have them.
        rows: what became of each key that is given, then of those that are used by default.
        origins: where the scenario's keys come from, by their full paths.
        notes: what is to be said of it.
    """

    options: Options
    tables: Tables
    rows: tuple[Row, ...]
    origins: Mapping[str, str]
    degrees: Degrees
    notes: Notes


def converted(options: Options, given: Mapping[str, Any], uniform: Mapping[str, Any]) -> Conversion:
    """Return what options become beside the tables that are given by hand, whose keys count before theirs.

    ``uniform`` is the scenario whose model and numbers stand in where none are given. Raise InputError in one line
    where the options, or they and what is given, do not go together.
    """
    parallel, found = parallel_of(options), stand_ins(options, given, uniform)
    degrees = _degrees(options, found, parallel, _by_hand(given, "parallel"), _by_hand(given, "hardware"))
    parallel |= {"data_parallel_degree": degrees.data}
    by_default = set()
    if options.version == v2.NAME:  # it offloads between a step's layers: its one microbatch is nobody's slip
        by_default.add("parallel.microbatches")
    elif _ACTIVE not in options.parameters:
        parallel[_ACTIVE] = min(degrees.pipeline + v1.ACTIVE_ABOVE_PARTITIONS, LARGEST_COUNT)
        by_default.add(f"parallel.{_ACTIVE}")
    if found.hardware_stands_in:  # that no machine is given is said already
        by_default.add("hardware.gpus_per_host")
    tables = {
        **given,
        "model": found.model,
        "hardware": _hardware(options, found, given, degrees),
        "parallel": _beside(given, "parallel", parallel),
        "offload": _beside(given, "offload", offload_of(options)),
    }
    rows = rows_of(options, tables, found)
    by_hand = [f"{name}.{key}" for name, table in given.items() if isinstance(table, Mapping) for key in table]
    own = Notes(tuple(remarks_on(options, degrees, parallel)), frozenset(by_default)).beside(by_hand)
    divided = [Note(text, _PROCESSES) for text in degrees.said]
    return Conversion(
        options=options,
        tables=tables,
        rows=rows,
        origins={**found.origins, **_origins(rows)},
        degrees=degrees,
        notes=Notes((*found.notes, *own.said, *divided), own.by_default),
    )


def _by_hand(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the keys of a table that are given by hand; none where it is no table, which the schema will tell."""
    table = given.get(name, {})
    return table if isinstance(table, Mapping) else {}


def _beside(given: Mapping[str, Any], name: str, table: Tables) -> Any:
    """Return a table with what is given by hand of it."""
    own = given.get(name, {})
    if not isinstance(own, Mapping):
        return own
    older = OLDER_PIPELINE in own
    return {**{key: value for key, value in table.items() if not (older and key == PIPELINE)}, **own}


def _count(value: Any, otherwise: int) -> int:
    """Return a count that was given by hand where it is one; the schema tells of one that is not."""
    return value if type(value) is int and 1 <= value <= LARGEST_COUNT else otherwise


def _degrees(
    options: Options,
    found: StandIns,
    wanted: Mapping[str, Any],
    parallel: Mapping[str, Any],
    hardware: Mapping[str, Any],
) -> Degrees:
    """Return how the processes are divided; raise InputError where the degrees do not divide them."""
    started = {name: value for name, value in options.launch.items() if type(value) is int}
    per_host = _count(hardware.get("gpus_per_host"), 0)
    tensor = _count(parallel.get("tensor_parallel_degree"), wanted["tensor_parallel_degree"])
    name, shards = shards_of(options)
    # v1 shards over all data-parallel processes, of which tensor-parallel ones are a part; v2 over the others.
    together = tensor if options.version == v1.NAME else 1
    degrees = degrees_of(
        pipeline=_count(parallel.get(PIPELINE, parallel.get(OLDER_PIPELINE)), wanted[PIPELINE]),
        tensor=tensor,
        shards=shards,
        together=together,
        data=_count(parallel.get("data_parallel_degree"), 0) or None,
        launch={**started, "processes_per_host": per_host} if per_host else started,
        gpus=found.gpus_per_host,
        machine=found.machine,
        source=options.source,
    )
    among = degrees.data * together
    if among % shards:
        raise InputError(
            f"{options.source}: {name} is {shards} and there are {among} data-parallel processes, of "
            f"{degrees.processes} in all; it must divide them"
        )
    return degrees


def _hardware(options: Options, found: StandIns, given: Mapping[str, Any], degrees: Degrees) -> Any:
    """Return the hardware with the processes of a host, where the options say how many they are."""
    own, table = given.get("hardware", {}), found.hardware
    if not isinstance(own, Mapping) or "processes_per_host" not in options.launch:
        return table
    out = {**table, "gpus_per_host": degrees.per_host, **own}
    if found.gpus_per_switch is not None and degrees.per_host < found.gpus_per_switch:
        out.setdefault("gpus_per_switch", degrees.per_host)
    return out


def _origins(rows: tuple[Row, ...]) -> dict[str, str]:
    """Return which option each of the scenario's keys comes from."""
    return {row.becomes: f"{row.key}, {BY_DEFAULT}" if row.by_default else row.key for row in rows if row.becomes}
