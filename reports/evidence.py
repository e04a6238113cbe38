"""Reads and writes a validation's evidence: one JSON, and what is made of it - verdicts, tables, figures.

The JSON alone is enough to make all of it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadahead.reports.evidence_figures import FIGURES
from loadahead.reports.evidence_schema import check_evidence, check_record
from loadahead.reports.evidence_tables import page_of
from loadahead.reports.plots.base import Drawing
from loadahead.reports.run_directory import EVIDENCE, EVIDENCE_PAGE, VALIDATION_JOURNAL
from loadahead.reports.verdicts import verdicts
from loadahead.reports.verdicts.outcome import coverage
from loadahead.reports.verdicts.records import LISTS, NOT_RUN
from loadahead.sim.errors import InputError

FORMAT, VERSION = "loadahead-evidence", 2
STOPPED = "the validation was stopped"
# The kind of a journal's record that says on which machine the validation went on; the first record has the first.
SESSION = "session"

Record = dict[str, Any]
Key = tuple[Any, ...]


def key_of(kind: str, record: Record) -> Key:
    """Return what tells a record from the others of its kind."""
    if kind == "peer":
        return record["peer"], record["model"], record["microbatches"], record["pipeline"]
    return (record["model"] if kind == "model" else record["name"],)


def sessions(records: Sequence[Record]) -> list[Any]:
    """Return the facts of each machine that a journal's records come from, in the order of its sessions."""
    return [record.get("machine") for record in records if record["kind"] in ("machine", SESSION)]


def assemble(records: Sequence[Record]) -> Record:
    """Return the evidence of a journal's records; what was planned and has no record is there too, as not run."""
    contents = [(record["kind"], {key: record[key] for key in record if key != "kind"}) for record in records]
    machines, session = sessions(records), 0
    by_kind: dict[str, dict[Key, Record]] = {kind: {} for kind in (*LISTS, "prediction")}
    evidence: Record = {"format": FORMAT, "version": VERSION}
    for kind, content in contents:
        session += kind in ("machine", SESSION)
        if kind in by_kind:
            own = {SESSION: session} if kind in LISTS and len(machines) > 1 else {}
            by_kind[kind][key_of(kind, content)] = content | own
        elif kind == "machine":
            evidence |= content
    # The validation reached its end if nothing was begun after its record of that.
    evidence["stopped"] = contents[-1][1]["stopped"] if contents[-1][0] == "end" else STOPPED
    evidence["seconds"] = round(sum(content.get("seconds", 0.0) for _, content in contents), 1)
    if len(machines) > 1:
        evidence["sessions"] = machines
    not_run = {"status": NOT_RUN, "reason": evidence["stopped"] or STOPPED}
    for kind, name in LISTS.items():
        planned = {key_of(kind, part): part for part in evidence["planned"].get(name, ())}
        evidence[name] = [
            by_kind["prediction"].get(key, {}) | planned.get(key, {}) | by_kind[kind].get(key, not_run)
            if kind == "configuration"
            else planned.get(key, {}) | by_kind[kind].get(key, not_run)
            for key in planned | by_kind[kind]
        ]
    return _with_verdicts(evidence)


def _with_verdicts(evidence: Record) -> Record:
    """Return the evidence with its verdicts, and with numbers that no claim is about."""
    own = {"verdicts": [verdict.to_dict() for verdict in verdicts(evidence)], "facts": coverage(evidence)}
    return evidence | own


def write_evidence(evidence: Record, directory: Path) -> list[Path]:
    """Write the JSON, a page of tables and the figures into the directory; return their paths."""
    remove_evidence(directory)
    path = directory / EVIDENCE
    path.write_text(json.dumps(evidence, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    drawings = {name: draw(evidence) for name, draw in FIGURES.items()}
    files = [path, directory / EVIDENCE_PAGE]
    for name, drawing in drawings.items():
        if isinstance(drawing, Drawing):
            drawing.save(directory / f"{name}.png")
            files.append(directory / f"{name}.png")
    (directory / EVIDENCE_PAGE).write_text(page_of(evidence, drawings), encoding="utf-8")
    return files


def remove_evidence(directory: Path) -> None:
    """Remove what was made of other records, so that it does not pass for these; the journal stays."""
    for name in (EVIDENCE, EVIDENCE_PAGE, *(f"{figure}.png" for figure in FIGURES)):
        (directory / name).unlink(missing_ok=True)


def has_evidence(directory: Path) -> bool:
    """Return whether a validation was written there, finished or not."""
    return any((directory / name).is_file() for name in (EVIDENCE, VALIDATION_JOURNAL))


def read_evidence(directory: Path) -> Record:
    """Return a directory's evidence: from its journal, which may know more, or else its JSON.

    Raises InputError in one line where neither can be read.
    """
    path, journal = directory / EVIDENCE, directory / VALIDATION_JOURNAL
    if journal.is_file():
        records = read_journal(journal, journal.read_bytes())
        if not records:
            raise InputError(f"{journal}: holds no record; run the validation again")
        return assemble(records)
    evidence = parsed(path.read_bytes(), str(path))
    if evidence.get("format") != FORMAT or evidence.get("version") != VERSION:
        raise InputError(f'{path}: is no evidence; its format must be "{FORMAT}", version {VERSION}')
    check_evidence(evidence, str(path))
    return _with_verdicts(evidence)


def read_journal(path: Path, content: bytes) -> list[Record]:
    """Return a journal's records; InputError where one is malformed.

    What stands after the last line's end was being written when the validation was killed, and is left out.
    """
    out = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        record = parsed(line, f"{path} line {number}")
        check_record(record, f"{path} line {number}")
        out.append(record)
    if out and out[0]["kind"] != "machine":
        raise InputError(f"{path} line 1: is a {out[0]['kind']}; a journal begins with the machine")
    return out


def parsed(content: bytes, where: str) -> Record:
    """Return a JSON object; InputError in one line that begins with ``where``."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON; give a directory that a validation wrote") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: holds {str(value)[:40]!r}; give a directory that a validation wrote")
    return value
