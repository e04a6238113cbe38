"""Options become the tables of a scenario, and it is told what became of each key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.fields import LARGEST_COUNT
from loadahead.scenarios.notes import Note, Notes
from loadahead.scenarios.smp import launch, v1, v2
from loadahead.scenarios.smp.keys import UNUSED, Key
from loadahead.scenarios.smp.options import Options
from loadahead.scenarios.smp.processes import Degrees, degrees_of
from loadahead.scenarios.smp.stand_ins import StandIns, stand_ins
from loadahead.scenarios.smp.values import NotKnown, shown
from loadahead.sim.errors import InputError

Tables = dict[str, Any]
BY_DEFAULT = "SageMaker's default"
_PIPELINE, _OLDER_PIPELINE = "pipeline_parallel_degree", "partitions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Says what became of one key: a key of the scenario with its value, or nothing; ``note`` says the rest."""

    key: str
    value: Any
    became: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        value = self.value.text if isinstance(self.value, NotKnown) else self.value
        return {"key": self.key, "value": value, "became": self.became, "note": self.note}


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
    parallel = _by_hand(given, "parallel")
    wanted = _parallel_v1(options) if options.version == v1.NAME else _parallel_v2(options)
    pipeline = _count(parallel.get(_PIPELINE, parallel.get(_OLDER_PIPELINE)), wanted[_PIPELINE])
    tensor = _count(parallel.get("tensor_parallel_degree"), wanted["tensor_parallel_degree"])
    found = stand_ins(options, given, uniform)
    degrees = _degrees(options, found, parallel, _by_hand(given, "hardware"), pipeline, tensor)
    if "active_microbatches" not in options.parameters and options.version == v1.NAME:
        wanted["active_microbatches"] = min(pipeline + v1.ACTIVE_ABOVE_PARTITIONS, LARGEST_COUNT)
    wanted["data_parallel_degree"] = degrees.data
    if _OLDER_PIPELINE in parallel:
        del wanted[_PIPELINE]
    offload = _offload(options)
    tables = {**given, "model": found.model, "hardware": _hardware(options, found, given, degrees)}
    for name, table in (("parallel", wanted), ("offload", offload)):
        by_hand_alone = given.get(name, {})
        tables[name] = table | by_hand_alone if isinstance(by_hand_alone, Mapping) else by_hand_alone
    by_default = {"parallel.active_microbatches"} if "active_microbatches" not in options.parameters else set()
    if options.version == v2.NAME:  # v2 offloads between a step's layers: its one microbatch is nobody's slip
        by_default.add("parallel.microbatches")
    by_hand = [f"{name}.{key}" for name, table in given.items() if isinstance(table, Mapping) for key in table]
    rows = _rows(options, tables, found, degrees)
    own = Notes(tuple(_notes(options, degrees, wanted)), frozenset(by_default)).beside(by_hand)
    divided = [Note(text, ("hardware.gpus_per_host", "parallel.data_parallel_degree")) for text in degrees.said]
    return Conversion(
        options=options,
        tables=tables,
        rows=rows,
        origins=_origins(rows, found),
        degrees=degrees,
        notes=Notes((*found.notes, *own.said, *divided), own.by_default),
    )


def _by_hand(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the keys of a table that are given by hand; none where it is no table, which the schema will tell."""
    table = given.get(name, {})
    return table if isinstance(table, Mapping) else {}


def _count(value: Any, otherwise: int) -> int:
    """Return a count that was given by hand where it is one; the schema tells of one that is not."""
    return value if type(value) is int and 1 <= value <= LARGEST_COUNT else otherwise


def _parallel_v1(options: Options) -> Tables:
    given, source = options.parameters, options.source
    if _PIPELINE in given and _OLDER_PIPELINE in given and given[_PIPELINE] != given[_OLDER_PIPELINE]:
        raise InputError(
            f"{source}: pipeline_parallel_degree is {given[_PIPELINE]} and partitions is {given[_OLDER_PIPELINE]}; they "
            "are one setting under two names, give one of them"
        )
    pipeline = given.get(_PIPELINE, given.get(_OLDER_PIPELINE, options.value(_PIPELINE)))
    tensor, ddp = options.value("tensor_parallel_degree"), options.value("ddp")
    if tensor > 1 and not ddp:
        raise InputError(
            f"{source}: tensor_parallel_degree is {tensor} and ddp is not true; more than 1 needs ddp = true"
        )
    if ddp and given.get("horovod") is True:
        raise InputError(f"{source}: ddp and horovod are both true; at most one of them can be")
    if given.get("auto_partition") is False and "default_partition" not in given:
        raise InputError(f"{source}: auto_partition is false and default_partition is not given; it is needed then")
    first = given.get("default_partition", 0)
    if type(first) is int and first >= pipeline:
        raise InputError(
            f"{source}: default_partition is {first}; it must be below the number of partitions, {pipeline}"
        )
    return {
        "microbatches": options.value("microbatches"),
        _PIPELINE: pipeline,
        "tensor_parallel_degree": tensor,
        "data_parallel_degree": 1,
        "ddp": ddp,
        "placement_strategy": options.value("placement_strategy"),
        "pipeline": options.value("pipeline"),
        "active_microbatches": given.get("active_microbatches"),
    }


def _parallel_v2(options: Options) -> Tables:
    tensor = options.value("tensor_parallel_degree")
    return {"microbatches": 1, _PIPELINE: 1, "tensor_parallel_degree": tensor, "data_parallel_degree": 1}


def _offload(options: Options) -> Tables:
    """Return the table of offloading; where it is off, a horizon is only there if one is given."""
    old = options.version == v1.NAME
    on = options.value("offload_activations" if old else "sm_activation_offloading")
    table: Tables = {"offload_activations": on}
    if on or "activation_loading_horizon" in options.parameters:
        table["activation_loading_horizon"] = options.value("activation_loading_horizon")
        table |= {} if old else {"horizon_unit": "layers"}
    return table


def _shards(options: Options) -> int:
    """Return over how many data-parallel processes state is sharded, whose number is a multiple of it."""
    name = "sharded_data_parallel_degree" if options.version == v1.NAME else "hybrid_shard_degree"
    value = options.value(name)
    return value if type(value) is int else 1


def _degrees(
    options: Options,
    found: StandIns,
    parallel: Mapping[str, Any],
    hardware: Mapping[str, Any],
    pipeline: int,
    tensor: int,
) -> Degrees:
    """Return how the processes are divided; raise InputError where the degrees do not divide them."""
    started = {name: value for name, value in options.launch.items() if type(value) is int}
    per_host = hardware.get("gpus_per_host")
    if _count(per_host, 0):
        started["processes_per_host"] = per_host
    by_hand = _count(parallel.get("data_parallel_degree"), 0)
    shards = max(_shards(options), 1)
    degrees = degrees_of(
        pipeline=pipeline,
        tensor=tensor,
        # v1 shards over all data-parallel processes, of which tensor-parallel ones are a part; v2 over the others.
        together=tensor if options.version == v1.NAME else 1,
        shards=shards,
        data=by_hand or None,
        launch=started,
        gpus=found.gpus_per_host,
        machine=found.machine,
        source=options.source,
    )
    name = "sharded_data_parallel_degree" if options.version == v1.NAME else "hybrid_shard_degree"
    among = degrees.data * (tensor if options.version == v1.NAME else 1)
    if among % shards:
        raise InputError(
            f"{options.source}: {name} is {shards}, which does not divide the {among} data-parallel processes "
            f"({degrees.processes} in all); it must divide them"
        )
    return degrees


def _hardware(options: Options, found: StandIns, given: Mapping[str, Any], degrees: Degrees) -> Any:
    """Return the hardware with the processes of a host, where the options say how many they are."""
    own = given.get("hardware", {})
    table = found.hardware
    if not isinstance(own, Mapping) or not isinstance(table, dict) or "processes_per_host" not in options.launch:
        return table
    out = {**table, "gpus_per_host": degrees.per_host} | own
    if found.gpus_per_switch is not None and degrees.per_host < found.gpus_per_switch:
        out.setdefault("gpus_per_switch", degrees.per_host)
    return out


def _notes(options: Options, degrees: Degrees, parallel: Mapping[str, Any]) -> list[Note]:
    """Return what is to be said of the options themselves."""
    given, out = options.parameters, []
    if options.launch.get("enabled") is False:
        out.append(Note("enabled is false: SageMaker would leave the library off; predicted is what it would do if on"))
    out.append(
        Note(
            "activation checkpointing is taken as on: it is set in the training script, which the options do not show",
            ("checkpoint.enabled",),
        )
    )
    if options.why_version.startswith("no key"):
        out.append(Note(f"the options are taken as those of SageMaker's model parallel library v1: {_undecided()}"))
    offload = ("offload.offload_activations",)
    if options.version == v1.NAME:
        out += _notes_v1(options, degrees, parallel)
        if not options.value("offload_activations") and "activation_loading_horizon" in given:
            out.append(Note("activation_loading_horizon has no effect: offload_activations is not true", offload))
    elif not options.value("sm_activation_offloading"):
        out.append(
            Note(
                "sm_activation_offloading is false: offloading is off here, as PyTorch's own, which the training script "
                "may turn on, looks no layer ahead and is not modelled",
                offload,
            )
        )
    return out + _not_modelled(options)


def _undecided() -> str:
    return "no key is of one version alone"


def _notes_v1(options: Options, degrees: Degrees, parallel: Mapping[str, Any]) -> list[Note]:
    out = []
    if parallel["pipeline"] == "interleaved" and degrees.pipeline > 1:
        out.append(
            Note(
                "pipeline = interleaved is plain 1F1B here, backward first, as SageMaker has it; elsewhere the word "
                "means virtual stages, several on a GPU, which these are not",
                ("parallel.pipeline",),
            )
        )
    if degrees.data > 1 and not parallel["ddp"] and options.parameters.get("horovod") is not True:
        out.append(
            Note(
                f"{degrees.processes} processes make {degrees.data} replicas and ddp is not true: SageMaker's "
                "documentation asks for ddp = true with data parallelism",
                ("parallel.ddp",),
            )
        )
    return out


def _not_modelled(options: Options) -> list[Note]:
    """Return a note for each key that would change the memory or the time in truth, and is set to do so."""
    asked = {
        "shard_optimizer_state": lambda value: value is True,
        "sharded_data_parallel_degree": lambda value: value > 1,
        "hybrid_shard_degree": lambda value: value != 1,
        "expert_parallel_degree": lambda value: value > 1,
        "context_parallel_degree": lambda value: value > 1,
    }
    out = []
    for name, is_asked in asked.items():
        key = options.keys.get(name)
        if key is None:
            continue
        value = options.value(name)
        if not isinstance(value, NotKnown) and is_asked(value):
            how = "" if name in options.parameters else " by default"
            out.append(Note(f"{name} = {shown(value)}{how} does not change this prediction: {key.why}"))
    return out


def _rows(options: Options, tables: Mapping[str, Any], found: StandIns, degrees: Degrees) -> tuple[Row, ...]:
    """Return what became of each key: first of those that are given, then of those that are used by default."""
    around = {launch.ENABLED.name: launch.ENABLED} | launch.MPI | launch.INSTANCES
    rows = [_row(options.keys[name], value, tables) for name, value in options.parameters.items()]
    for name, value in options.launch.items():
        rows.append(_row_of_launch(around[name], value, tables, found, degrees))
    pipeline_given = _OLDER_PIPELINE in options.parameters
    for name, key in options.keys.items():
        has_default = key.default is not None or key.default_text
        if name in options.parameters or not key.becomes or not has_default or (name == _PIPELINE and pipeline_given):
            continue
        value = key.default if key.default is not None else _at(tables, key.becomes)
        if _at(tables, key.becomes) is not None:
            rows.append(_row(key, value, tables, BY_DEFAULT))
    return tuple(rows)


def _row(key: Key, value: Any, tables: Mapping[str, Any], note: str = "") -> Row:
    if not key.becomes:
        return Row(key=key.name, value=value, note=f"{UNUSED}: {key.why}")
    became = f"{key.becomes} = {shown(_at(tables, key.becomes))}"
    return Row(key=key.name, value=value, became=became, note="; ".join(part for part in (note, key.why) if part))


def _row_of_launch(key: Key, value: Any, tables: Mapping[str, Any], found: StandIns, degrees: Degrees) -> Row:
    if key.name == "instance_type" and (found.machine is None or not found.machine_is_instance):
        why = found.instance_unknown or "another machine, or other hardware, is given"
        return Row(key=key.name, value=value, note=f"{UNUSED}: {why}")
    if key.name == "instance_count":
        became = f"{key.becomes} = {degrees.data}"
        return Row(key=key.name, value=value, became=became, note=key.why)
    return _row(key, value, tables)


def _at(tables: Mapping[str, Any], path: str) -> Any:
    """Return the value at a key's full path; None where there is none."""
    name, _, key = path.partition(".")
    table = tables.get(name)
    if not isinstance(table, Mapping):
        return None
    if key == _PIPELINE and key not in table:
        key = _OLDER_PIPELINE
    return table.get(key)


def _origins(rows: tuple[Row, ...], found: StandIns) -> dict[str, str]:
    """Return where the scenario's keys come from, for those that rows tell of and for what stands in."""
    out = {}
    for row in rows:
        if row.became is not None:
            path = row.became.partition(" = ")[0]
            out[path] = row.key if not row.note.startswith(BY_DEFAULT) else f"{row.key}, {BY_DEFAULT}"
    return found.origins | out
