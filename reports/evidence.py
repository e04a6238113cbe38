"""A validation's evidence: one JSON, and what is made of it - verdicts, tables, figures. The JSON alone is enough."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.evidence_figures import FIGURES
from reports.evidence_tables import page_of
from reports.plots.base import Drawing
from reports.verdicts import verdicts
from sim.errors import InputError

FORMAT, VERSION = "loadahead-evidence", 1
JSON, JOURNAL, PAGE = "evidence.json", "journal.jsonl", "README.md"

Record = dict[str, Any]
# Kinds of records, and the lists of the evidence that they go to.
_LISTS = {"model": "models", "configuration": "configurations", "gradients": "gradients", "peer": "peers"}


def assemble(records: Sequence[Record]) -> Record:
    """The evidence from a journal's records; what was predicted and not run is there too, as skipped."""
    evidence: Record = {"format": FORMAT, "version": VERSION, "seconds": None}
    evidence |= {name: [] for name in _LISTS.values()}
    predicted = {}
    for record in records:
        kind, content = record["kind"], {key: value for key, value in record.items() if key != "kind"}
        if kind in _LISTS:
            evidence[_LISTS[kind]].append(content)
        elif kind == "prediction":
            predicted[content["name"]] = content
        else:
            evidence |= content
    finished = {one["name"] for one in evidence["configurations"]}
    for name, content in predicted.items():
        if name not in finished:
            evidence["configurations"].append(content | {"status": "skipped", "reason": "the validation was stopped"})
    evidence["verdicts"] = [verdict.to_dict() for verdict in verdicts(evidence)]
    return evidence


def write_evidence(evidence: Record, directory: Path) -> list[Path]:
    """The JSON, a page of tables and the figures, into the directory; returns their paths."""
    path = directory / JSON
    path.write_text(json.dumps(evidence, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    drawings = {name: draw(evidence) for name, draw in FIGURES.items()}
    files = [path, directory / PAGE]
    for name, drawing in drawings.items():
        if isinstance(drawing, Drawing):
            drawing.save(directory / f"{name}.png")
            files.append(directory / f"{name}.png")
    (directory / PAGE).write_text(page_of(evidence, drawings), encoding="utf-8")
    return files


def has_evidence(directory: Path) -> bool:
    """Whether a validation was written there, finished or not."""
    return any((directory / name).is_file() for name in (JSON, JOURNAL))


def read_evidence(directory: Path) -> Record:
    """The evidence of a directory; from its journal where the validation did not finish. InputError in one line."""
    path = directory / JSON
    if path.is_file():
        found = _parsed(path, path.read_text(encoding="utf-8"))
        if found.get("format") != FORMAT or found.get("version") != VERSION:
            raise InputError(f'{path}: is no evidence; its format must be "{FORMAT}", version {VERSION}')
        return found
    path = directory / JOURNAL
    lines = path.read_text(encoding="utf-8").split("\n")
    # What stands after the last line's end was being written when the validation was killed.
    return assemble([_parsed(path, line) for line in lines[:-1]])


def _parsed(path: Path, text: str) -> Record:
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON; give a directory that `loadahead validate` wrote") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {text[:40]!r}; give a directory that `loadahead validate` wrote")
    return found
