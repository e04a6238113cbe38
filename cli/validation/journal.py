"""A validation's journal: every record is appended as soon as it is there, so that a killed run keeps what it had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reports.evidence import JOURNAL

Record = dict[str, Any]


class Journal:
    """The file of one validation, begun anew; ``records`` are those written so far."""

    def __init__(self, directory: Path) -> None:
        self.records: list[Record] = []
        self._file = (directory / JOURNAL).open("w", encoding="utf-8")

    def append(self, kind: str, record: Record) -> Record:
        """Write one record, to the disk."""
        whole = {"kind": kind} | record
        self.records.append(whole)
        self._file.write(json.dumps(whole, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return whole

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
