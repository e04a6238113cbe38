"""A plan's JSON file (DESIGN, section 3) is written as its columns are walked, and read with every key checked.

Files of version 1 are read where their plans mean what those of version 2 do: where each SEND waits for the ACQUIRE of
the memory that it writes into.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import RECOMPUTE, Decisions, decisions_of, require_agreement
from loadahead.sim.ir.kinds import SEND_KINDS, Kind, KindName, Queue, Role, Space
from loadahead.sim.ir.plan import Buffers, Ints, Ops, Plan, Ragged
from loadahead.sim.ir.wellformed import Ids, positions, require_well_formed
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import schema_error_line

FORMAT, VERSION = "loadahead-plan", 2
_FIRST_VERSION = 1

_Id = Annotated[int, Field(ge=0, le=2**53)]
_Bytes = Annotated[int, Field(ge=0, le=2**53)]
_Rank = Annotated[int, Field(ge=0, lt=2**16)]
_Label = Annotated[int, Field(ge=-1, lt=2**31)]
_SpaceName = Literal["device", "host"]
_RoleName = Literal["boundary", "output", "gradient", "workspace"]
_QueueName = Literal["compute", "d2h", "h2d", "send", "recv"]
_FrozenUnits = Annotated[int, Field(ge=0, lt=2**31)]


def _known_version(value: object) -> object:
    """Return the value if it is one of the integers; pydantic's ``Literal`` would also take ``true`` and 1.0."""
    if type(value) is not int or value not in (_FIRST_VERSION, VERSION):
        raise PydanticCustomError("version", f"it must be {_FIRST_VERSION} or {VERSION}")
    return value


_Version = Annotated[Literal[1, 2], BeforeValidator(_known_version)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(_STRICT)
class _DecisionRow(TypedDict):
    stage: _Label
    unit: _Label
    microbatch: _Label
    mode: Literal["recompute", "keep"]
    release: _Label
    acquire: _Label


@with_config(_STRICT)
class _BufferRow(TypedDict):
    id: _Id
    rank: _Rank
    space: _SpaceName
    bytes: _Bytes
    role: _RoleName
    stage: _Label
    unit: _Label
    microbatch: _Label


@with_config(_STRICT)
class _OpRow(TypedDict):
    id: _Id
    rank: _Rank
    queue: _QueueName
    kind: KindName
    stage: _Label
    unit: _Label
    microbatch: _Label
    after: list[_Id]
    reads: list[_Id]
    writes: list[_Id]
    allocs: list[_Id]
    frees: list[_Id]
    bytes: _Bytes


@with_config(_STRICT)
class _PlanFile(TypedDict):
    format: Literal["loadahead-plan"]
    version: _Version
    name: str
    ranks: Annotated[int, Field(ge=1, le=2**16)]
    microbatches: Annotated[int, Field(ge=1, lt=2**31)]
    policy: dict[str, Any]
    frozen_units: NotRequired[_FrozenUnits]
    decisions: NotRequired[list[_DecisionRow]]
    buffers: list[_BufferRow]
    ops: list[_OpRow]


_FILE = TypeAdapter(_PlanFile)
_LISTS = ("after", "reads", "writes", "allocs", "frees")


def _ids(kept: Ints | None, count: int) -> Ints:
    return np.arange(count, dtype=np.int64) if kept is None else kept


def _buffer_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    b = plan.buffers
    spaces, roles = [s.label for s in Space], [r.label for r in Role]
    numbers = (_ids(plan.buffer_ids, len(b)), b.rank, b.space, b.nbytes, b.role, b.stage, b.unit, b.microbatch)
    for number, rank, space, nbytes, role, stage, unit, microbatch in zip(*(c.tolist() for c in numbers), strict=True):
        yield {
            "id": number,
            "rank": rank,
            "space": spaces[space],
            "bytes": nbytes,
            "role": roles[role],
            "stage": stage,
            "unit": unit,
            "microbatch": microbatch,
        }


def _op_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    o = plan.ops
    queues, kinds = [q.label for q in Queue], [k.name for k in Kind]
    op_ids, buffer_ids = _ids(plan.op_ids, len(o)), _ids(plan.buffer_ids, len(plan.buffers))
    numbers = (op_ids, o.rank, o.queue, o.kind, o.stage, o.unit, o.microbatch, o.nbytes)
    lists = [
        Ragged(column.starts, ids[column.values]).to_lists()
        for column, ids in ((getattr(o, name), op_ids if name == "after" else buffer_ids) for name in _LISTS)
    ]
    for row, entries in zip(zip(*(c.tolist() for c in numbers), strict=True), zip(*lists, strict=True), strict=True):
        number, rank, queue, kind, stage, unit, microbatch, nbytes = row
        head = {
            "id": number,
            "rank": rank,
            "queue": queues[queue],
            "kind": kinds[kind],
            "stage": stage,
            "unit": unit,
            "microbatch": microbatch,
        }
        yield head | dict(zip(_LISTS, entries, strict=True)) | {"bytes": nbytes}


def _decision_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    return decisions_of(plan).rows()


# The lists of a plan file, in their order.
_ROWS = (("decisions", _decision_rows), ("buffers", _buffer_rows), ("ops", _op_rows))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as one JSON object (DESIGN, section 3)."""
    return _head(plan) | {key: list(rows(plan)) for key, rows in _ROWS}


def _head(plan: Plan) -> dict[str, Any]:
    head = {"format": FORMAT, "version": VERSION, "name": plan.name, "ranks": plan.ranks}
    return head | {"microbatches": plan.microbatches, "policy": plan.policy, "frozen_units": plan.frozen_units}


def _chunks(plan: Plan) -> Iterator[str]:
    """Yield the file's text, a row of its lists a line so that plans can be diffed, never whole in memory."""
    yield json.dumps(_head(plan))[:-1]
    for key, rows in _ROWS:
        yield f',\n "{key}": ['
        for number, row in enumerate(rows(plan)):
            yield (",\n  " if number else "\n  ") + json.dumps(row)
        yield "\n ]"
    yield "\n}\n"


def dumps_plan(plan: Plan) -> str:
    """Return the plan file's text; equal plans give equal text."""
    return "".join(_chunks(plan))


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write the plan to a file."""
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(_chunks(plan))


def _keys(path: KeyPath) -> list[str]:
    """Return the keys that the object at a path of the file may have."""
    rows = {"ops": _OpRow, "buffers": _BufferRow, "decisions": _DecisionRow}
    return list((rows.get(str(path[0]), _PlanFile) if path else _PlanFile).__annotations__)


def _error_line(error: ValidationError) -> str:
    line = schema_error_line(error, "a plan file", _keys)
    return f"{line}; give a plan file" if "JSON object" in line else line


def _column(rows: list[Any], key: str, dtype: Any) -> Any:
    return np.asarray([row[key] for row in rows], dtype=dtype)


def _codes(rows: list[Any], key: str, names: list[str]) -> Any:
    code = {name: index for index, name in enumerate(names)}
    return np.asarray([code[row[key]] for row in rows], dtype=np.int8)


def _labels(rows: list[Any]) -> dict[str, Any]:
    return {key: _column(rows, key, np.int32) for key in ("rank", "stage", "unit", "microbatch")}


def _decisions(rows: list[_DecisionRow]) -> Decisions:
    stage, unit, microbatch, release, acquire = (
        _column(rows, key, np.int64) for key in ("stage", "unit", "microbatch", "release", "acquire")
    )
    recompute = np.asarray([row["mode"] == RECOMPUTE for row in rows], dtype=np.bool_)
    return Decisions(stage, unit, microbatch, recompute, release, acquire)


class OutdatedPlan(InputError):
    """A file of an earlier version is of a plan that does not say what plans say now."""


def _require_up_to_date(plan: Plan, source: str) -> None:
    """Raise OutdatedPlan unless a plan of version 1 says what one of version 2 does; the verifier looks closer.

    Each SEND waits for an ACQUIRE, and each BACKWARD has a RECOMPUTE or reads what its FORWARD kept.
    """
    ops = plan.ops
    sends = np.isin(ops.kind, sorted(SEND_KINDS))
    waiting = np.zeros(len(plan), dtype=np.bool_)
    waiting[ops.after.rows()[ops.kind[ops.after.values] == Kind.ACQUIRE]] = True
    if (sends & ~waiting).any():
        raise OutdatedPlan(
            f"{source}: is of version {_FIRST_VERSION}, whose SENDs do not wait for the memory they write into; plan "
            "it again"
        )
    reads = ops.reads
    keeping = np.zeros(len(plan), dtype=np.bool_)
    keeping[reads.rows()[plan.buffers.role[reads.values] == Role.WORKSPACE]] = True
    if not (ops.kind == Kind.RECOMPUTE).any() and ((ops.kind == Kind.BACKWARD) & ~keeping).any():
        raise OutdatedPlan(
            f"{source}: is of version {_FIRST_VERSION}, which does not say what stays from FORWARD to BACKWARD without "
            "checkpointing; plan it again"
        )


def _from_file(file: _PlanFile, source: str) -> Plan:
    op_rows, buffer_rows = file["ops"], file["buffers"]
    op_ids = Ids.of(_column(op_rows, "id", np.int64), f"{source}: ops")
    buffer_ids = Ids.of(_column(buffer_rows, "id", np.int64), f"{source}: buffers")
    lists = {
        name: positions(
            Ragged.from_ids([row[name] for row in op_rows]),  # type: ignore[literal-required]
            op_ids if name == "after" else buffer_ids,
            f"{source}: ops",
            name,
            op_ids,
        )
        for name in _LISTS
    }
    ops = Ops(
        queue=_codes(op_rows, "queue", [q.label for q in Queue]),
        kind=_codes(op_rows, "kind", [k.name for k in Kind]),
        nbytes=_column(op_rows, "bytes", np.int64),
        after=lists["after"],
        reads=lists["reads"],
        writes=lists["writes"],
        allocs=lists["allocs"],
        frees=lists["frees"],
        **_labels(op_rows),
    )
    buffers = Buffers(
        space=_codes(buffer_rows, "space", [s.label for s in Space]),
        role=_codes(buffer_rows, "role", [r.label for r in Role]),
        nbytes=_column(buffer_rows, "bytes", np.int64),
        **_labels(buffer_rows),
    )
    plan = Plan(
        file["name"],
        file["ranks"],
        file["microbatches"],
        ops,
        buffers,
        file["policy"],
        op_ids.unless_positions(),
        buffer_ids.unless_positions(),
        file.get("frozen_units", 0),
    )
    require_well_formed(plan, source)
    if file["version"] == _FIRST_VERSION:
        _require_up_to_date(plan, source)
    if "decisions" in file:
        require_agreement(_decisions(file["decisions"]), plan, f"{source}: decisions")
    return plan


def plan_from_json(obj: object, source: str = "plan") -> Plan:
    """Return the plan of a JSON object; raise InputError, whose line starts with ``source``, when it is malformed."""
    try:
        return _from_file(_FILE.validate_python(obj), source)
    except ValidationError as error:
        raise InputError(f"{source}: {_error_line(error)}") from error


def load_plan(path: str | Path) -> Plan:
    """Read a plan file; raise InputError with one line when it is malformed."""
    try:
        data = Path(path).read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a plan file ({error.strerror})") from error
    try:
        return _from_file(_FILE.validate_json(data), str(path))
    except ValidationError as error:
        raise InputError(f"{path}: {_error_line(error)}") from error
