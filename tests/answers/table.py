"""Answers as a table of plain numbers, in ns and bytes: docs/answers.csv, which the page is made of."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from tests.answers.answer import Answer, Taken
from tests.answers.splits import Split

FOLDER = Path(__file__).parents[2] / "docs"
TABLE, PAGE = FOLDER / "answers.csv", FOLDER / "answers.md"

# What was found by model and machine; None where eight hosts do not hold the model.
Answers = Mapping[tuple[str, str], Answer | None]

_PLANS = ("keep_all", "four", "advised")
_TAKEN = ("step_time_ns", "peak_device_bytes", "host_bytes")
COLUMNS = (
    *("model", "machine", "hosts", "tensor", "pipeline", "capacity_bytes", "host_capacity_bytes", "another_keeps_all"),
    *(f"{plan}_{figure}" for plan in _PLANS for figure in _TAKEN),
    *("four_horizon", "advised_horizon", "as_quick", "warnings"),
)


def written(answers: Answers) -> str:
    """The table's text; a row has nothing behind the names where eight hosts do not hold the model."""
    out = io.StringIO()
    rows = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for (model, machine), answer in answers.items():
        rows.writerow({"model": model, "machine": machine} | ({} if answer is None else _cells(answer)))
    return out.getvalue()


def read(text: str) -> Answers:
    """The answers of a table's text, in its order."""
    rows = csv.DictReader(io.StringIO(text))
    return {(row["model"], row["machine"]): _answer(row) if row["hosts"] else None for row in rows}


def _cells(answer: Answer) -> dict[str, int | str | None]:
    cells: dict[str, int | str | None] = {
        "hosts": answer.split.hosts,
        "tensor": answer.split.tensor,
        "pipeline": answer.split.pipeline,
        "capacity_bytes": answer.capacity_bytes,
        "host_capacity_bytes": answer.host_capacity_bytes,
        "another_keeps_all": int(answer.another_keeps_all),
        "four_horizon": answer.four.horizon,
        "advised_horizon": None if answer.advised is None else answer.advised.horizon,
        "as_quick": int(answer.as_quick),
        "warnings": json.dumps(answer.warnings),
    }
    for plan in _PLANS:
        taken: Taken | None = getattr(answer, plan)
        cells |= {f"{plan}_{figure}": None if taken is None else getattr(taken, figure) for figure in _TAKEN}
    return cells


def _answer(row: Mapping[str, str]) -> Answer:
    def taken(plan: str, horizon: str | None) -> Taken:
        return Taken(
            horizon=None if horizon is None else int(row[horizon]),
            **{figure: int(row[f"{plan}_{figure}"]) for figure in _TAKEN},
        )

    return Answer(
        split=Split(hosts=int(row["hosts"]), tensor=int(row["tensor"]), pipeline=int(row["pipeline"])),
        capacity_bytes=int(row["capacity_bytes"]),
        host_capacity_bytes=int(row["host_capacity_bytes"]) if row["host_capacity_bytes"] else None,
        keep_all=taken("keep_all", None),
        four=taken("four", "four_horizon"),
        advised=taken("advised", "advised_horizon") if row["advised_horizon"] else None,
        as_quick=row["as_quick"] == "1",
        another_keeps_all=row["another_keeps_all"] == "1",
        warnings=tuple(json.loads(row["warnings"])),
    )
