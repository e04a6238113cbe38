"""Options become the tables of a scenario."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.fields import LARGEST_COUNT
from loadahead.scenarios.notes import Note, Notes
from loadahead.scenarios.smp import launch, v1, v2
from loadahead.scenarios.smp.keys import require_readable
from loadahead.scenarios.smp.options import Options, v1_is_said
from loadahead.scenarios.smp.processes import Degrees, degrees_of
from loadahead.scenarios.smp.remarks import remarks_on
from loadahead.scenarios.smp.rows import BY_DEFAULT, Row, rows_of
from loadahead.scenarios.smp.stand_ins import WHICH, StandIns, stand_ins
from loadahead.scenarios.smp.values import NotKnown, shown
from loadahead.scenarios.smp.wanted import OLDER_PIPELINE, PIPELINE, Tables, divisors_of, offload_of, parallel_of
from loadahead.sim.errors import InputError
from loadahead.sim.units import counted

_ACTIVE, _INSTANCES = "active_microbatches", "instance_count"
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
    with v1_is_said(options.undecided):
        return _converted(options, given, uniform)


def _converted(options: Options, given: Mapping[str, Any], uniform: Mapping[str, Any]) -> Conversion:
    unread = _unread(options, _by_hand(given, "parallel"), _by_hand(given, "hardware"))
    parallel, found = parallel_of(options), stand_ins(options, given, uniform)
    degrees = _degrees(options, found, parallel, _by_hand(given, "parallel"), _by_hand(given, "hardware"))
    parallel |= {"data_parallel_degree": degrees.data}
    by_default = set()
    if options.version == v2.NAME:  # it offloads between a step's layers: its one microbatch is nobody's slip
        by_default.add("parallel.microbatches")
        if "hybrid_shard_degree" not in options.parameters:
            by_default.add("parallel.zero_stage")
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
    divided = [Note(text, _PROCESSES) for text in (*unread, *degrees.said)]
    return Conversion(
        options=options,
        tables=tables,
        rows=rows,
        origins={**found.origins, **_origins(options, rows, by_hand)},
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
    divisors = divisors_of(options)
    degrees = degrees_of(
        pipeline=_count(parallel.get(PIPELINE, parallel.get(OLDER_PIPELINE)), wanted[PIPELINE]),
        tensor=tensor,
        multiple=math.lcm(*[_count(parallel.get(key), value) for key, (_, value) in divisors.items()]),
        data=_count(parallel.get("data_parallel_degree"), 0) or None,
        launch={**started, "processes_per_host": per_host} if per_host else started,
        gpus=found.gpus_per_host,
        machine=found.machine,
        source=options.source,
    )
    for key, (name, value) in divisors.items():
        if key not in parallel and degrees.data % value:
            raise InputError(
                f"{options.source}: {name} is {value} and there are {counted(degrees.data, 'replica')} on "
                f"{counted(degrees.processes, 'GPU')}; it must divide the number of replicas"
            )
    return degrees


def _unread(options: Options, parallel: Mapping[str, Any], hardware: Mapping[str, Any]) -> list[str]:
    """Return a sentence where it cannot be read how many instances there are; raise InputError where that matters.

    It does not where the hardware, or the number of replicas, is given by hand.
    """
    instances = {name: value for name, value in options.launch.items() if name in launch.INSTANCES}
    if "data_parallel_degree" in parallel:
        instances.pop(_INSTANCES, None)
    if not any(hardware.get(key) is not None for key in WHICH):
        require_readable(launch.INSTANCES, instances, options.source)
    count = instances.get(_INSTANCES)
    if not isinstance(count, NotKnown):
        return []
    return [
        f"{_INSTANCES} is {shown(count)}, which only running the file would tell: hosts are counted as if it were not "
        "given"
    ]


def _hardware(options: Options, found: StandIns, given: Mapping[str, Any], degrees: Degrees) -> Any:
    """Return the hardware with the processes of a host, where they are not all of a machine's or all there are."""
    own, table = given.get("hardware", {}), found.hardware
    is_chosen = found.machine is None and degrees.hosts > 1
    if not isinstance(own, Mapping) or not ("processes_per_host" in options.launch or is_chosen):
        return table
    return {**table, "gpus_per_host": degrees.per_host, **own}


def _origins(options: Options, rows: tuple[Row, ...], by_hand: Collection[str]) -> dict[str, str]:
    """Return where the scenario's keys that are not given by hand come from: an option, or what follows from some."""
    out = {row.becomes: f"{row.key}, {BY_DEFAULT}" if row.by_default else row.key for row in rows if row.becomes}
    followed = {
        "hardware.gpus_per_host": "as the degrees need",
        "parallel.data_parallel_degree": "the processes divided by the other degrees: change it where they change",
        f"parallel.{_ACTIVE}": f"{BY_DEFAULT}, partitions + {v1.ACTIVE_ABOVE_PARTITIONS}: change it with the degree",
    }
    if _ACTIVE in options.parameters:
        del followed[f"parallel.{_ACTIVE}"]
    if "processes_per_host" in options.launch:
        del followed["hardware.gpus_per_host"]
    return {**out, **{path: text for path, text in followed.items() if path not in by_hand}}
