"""A plan's text form has a header, the buffers, then one row per rank and queue; it can be read back and diffed.

An operation is a word such as ``7:F0.1.3@4,5<2>3+3-2#100``: position in the list, kind, stage.unit.microbatch, then
``@`` edges, ``<`` reads, ``>`` writes, ``+`` allocs, ``-`` frees and ``#`` bytes moved; empty lists and 0 bytes are
left out. A position is the operation's id unless an ``op-ids`` row lists other ids. The decisions of the plan's file
follow from the operations and are left out too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import FORMAT, VERSION, plan_from_json, plan_to_json
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Plan

SHORT: dict[Kind, str] = {
    Kind.FORWARD: "F",
    Kind.RECOMPUTE: "R",
    Kind.BACKWARD: "B",
    Kind.BACKWARD_INPUT: "BI",
    Kind.BACKWARD_WEIGHT: "BW",
    Kind.OFFLOAD: "OFF",
    Kind.RELEASE: "REL",
    Kind.ACQUIRE: "ACQ",
    Kind.PREFETCH: "PRE",
    Kind.SEND_ACTIVATION: "SA",
    Kind.RECV_ACTIVATION: "RA",
    Kind.SEND_GRADIENT: "SG",
    Kind.RECV_GRADIENT: "RG",
    Kind.OPTIMIZER_STEP: "OPT",
}
_LONG = {short: kind for kind, short in SHORT.items()}
_MARKS = (("@", "after"), ("<", "reads"), (">", "writes"), ("+", "allocs"), ("-", "frees"))
_WORD = re.compile(
    r"(?P<position>\d+):(?P<kind>[A-Z]+)(?P<key>-?\d+\.-?\d+\.-?\d+)?"
    r"(@(?P<after>[\d,]+))?(<(?P<reads>[\d,]+))?(>(?P<writes>[\d,]+))?(\+(?P<allocs>[\d,]+))?"
    r"(-(?P<frees>[\d,]+))?(#(?P<bytes>\d+))?"
)
_ROW = re.compile(r"rank (\d+) (\w+): *(.*)")
_BUFFER = re.compile(r"buffer (\d+) (-?\d+\.-?\d+\.-?\d+) rank (\d+) (\w+) (\w+) (\d+)")
_NO_KEY = (-1, -1, -1)


def _word(row: dict[str, Any], position: dict[int, int]) -> str:
    key = (row["stage"], row["unit"], row["microbatch"])
    text = f"{position[row['id']]}:{SHORT[Kind[row['kind']]]}" + ("" if key == _NO_KEY else "{}.{}.{}".format(*key))
    for mark, name in _MARKS:
        if row[name]:
            text += mark + ",".join(map(str, row[name]))
    return text + (f"#{row['bytes']}" if row["bytes"] else "")


def _lines(plan: Plan) -> Iterator[str]:
    file = plan_to_json(plan)
    frozen = f" frozen-units {plan.frozen_units}" if plan.frozen_units else ""
    yield f"{FORMAT} {VERSION} {json.dumps(plan.name)} ranks {plan.ranks} microbatches {plan.microbatches}{frozen}"
    yield f"policy {json.dumps(plan.policy)}"
    for b in file["buffers"]:
        key = f"{b['stage']}.{b['unit']}.{b['microbatch']}"
        yield f"buffer {b['id']} {key} rank {b['rank']} {b['space']} {b['role']} {b['bytes']}"
    if plan.op_ids is not None:
        yield "op-ids " + " ".join(map(str, plan.op_ids.tolist()))
    position = {row["id"]: index for index, row in enumerate(file["ops"])}
    for rank in range(plan.ranks):
        for queue in Queue:
            words = [_word(file["ops"][i], position) for i in plan.queue_ops(rank, queue).tolist()]
            yield f"rank {rank} {queue.label}: {' '.join(words)}".rstrip()


def plan_to_text(plan: Plan) -> str:
    """Return the plan's text form, which :func:`plan_from_text` reads back to an equal plan."""
    return "\n".join(_lines(plan)) + "\n"


def _numbers(text: str | None) -> list[int]:
    return [int(part) for part in text.split(",") if part] if text else []


def _key(text: str | None) -> dict[str, int]:
    stage, unit, microbatch = map(int, text.split(".")) if text else _NO_KEY
    return {"stage": stage, "unit": unit, "microbatch": microbatch}


def _op(word: str, rank: int, queue: str, where: str) -> tuple[int, dict[str, Any]]:
    match = _WORD.fullmatch(word)
    if match is None or match["kind"] not in _LONG:
        raise InputError(
            f"{where}: {word!r:.60} is not an operation; write e.g. 7:F0.1.3@4,5<2>3+3-2#100 with a kind of "
            f"{', '.join(_LONG)}"
        )
    row: dict[str, Any] = {"rank": rank, "queue": queue, "kind": _LONG[match["kind"]].name} | _key(match["key"])
    row |= {name: _numbers(match[name]) for _, name in _MARKS}
    return int(match["position"]), row | {"bytes": int(match["bytes"] or 0)}


def _header(line: str) -> dict[str, Any]:
    match = re.fullmatch(rf'{FORMAT} ([12]) (".*") ranks (\d+) microbatches (\d+)(?: frozen-units (\d+))?', line)
    try:
        if match is None:
            raise ValueError
        name = json.loads(match[2])
    except ValueError as error:
        raise InputError(
            f"plan text line 1: {line[:60]!r}; it must be '{FORMAT} {VERSION} \"name\" ranks N microbatches M', "
            "and may end in ' frozen-units K'"
        ) from error
    head = {"version": int(match[1]), "name": name, "ranks": int(match[3]), "microbatches": int(match[4])}
    return head | {"policy": {}, "frozen_units": int(match[5] or 0)}


def plan_from_text(text: str) -> Plan:
    """Return the plan of a text form; raise InputError with one line when it is malformed."""
    try:
        return _plan(text)
    except InputError:
        raise
    except ValueError as error:  # int() takes no number of thousands of digits
        raise InputError("plan text: a number has too many digits; ids and bytes have at most 16") from error


def _plan(text: str) -> Plan:
    lines = text.splitlines() or [""]
    file: dict[str, Any] = {"format": FORMAT} | _header(lines[0])
    buffers: list[dict[str, Any]] = []
    ops: dict[int, dict[str, Any]] = {}
    op_ids: list[int] | None = None
    for number, line in enumerate(lines[1:], 2):
        where = f"plan text line {number}"
        if match := _ROW.fullmatch(line):
            for word in match[3].split():
                position, row = _op(word, int(match[1]), match[2], where)
                if position in ops:
                    raise InputError(f"{where}: position {position} is given twice; each operation has its own")
                ops[position] = row
        elif match := _BUFFER.fullmatch(line):
            row = {"id": int(match[1]), "rank": int(match[3]), "space": match[4], "bytes": int(match[6])}
            buffers.append(row | {"role": match[5]} | _key(match[2]))
        elif line.startswith("policy "):
            file["policy"] = _json(line.removeprefix("policy "), where)
        elif line.startswith("op-ids "):
            op_ids = [int(part) if part.isdecimal() else -1 for part in line.split()[1:]]
        elif line.strip():
            raise InputError(f"{where}: {line[:60]!r}; a row starts with policy, buffer, op-ids or 'rank N queue:'")
    if sorted(ops) != list(range(len(ops))) or len(op_ids or ops) != len(ops):
        raise InputError(f"plan text: {len(ops)} operations; their positions must be 0 to {len(ops) - 1}, none missing")
    ids = op_ids or range(len(ops))
    rows = [{"id": number} | ops[position] for position, number in enumerate(ids)]
    return plan_from_json(file | {"buffers": buffers, "ops": rows}, "plan text")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where}: {text[:40]!r}; policy must be a JSON object") from error
