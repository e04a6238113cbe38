"""A validation from its first record to its last. What fails is recorded and does not stop the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from cli import __version__
from cli.output import note, one_line
from cli.validation.grid import Configuration, Grid, ModelSize, PeerCase
from cli.validation.journal import Journal, Record
from cli.validation.subject import Subject
from executor.peers import PEERS
from executor.peers.run import clear_device, device_facts
from sim.units import format_bytes, format_duration

# Packages beside our own whose versions matter: the peers', and what they stand on.
PACKAGES = ("trl", "deepspeed", "transformers", "accelerate")
OUT_OF_TIME = "the time limit was reached"


@dataclass(frozen=True, slots=True)
class Absent:
    """A model that there are no costs of, and what becomes of everything that needs them."""

    status: str
    reason: str


@dataclass(slots=True)
class Validation:
    """One grid on one device; ``limit_s`` is the time after which nothing new is begun."""

    name: str
    grid: Grid
    device: str
    limit_s: float
    journal: Journal
    _began: float = field(default_factory=time.monotonic)
    _done: int = 0

    def run(self) -> list[Record]:
        """All of it; returns the records."""
        self.journal.append("machine", self._machine())
        for size in self.grid.sizes:
            subject = self._calibrate(size)
            for one in self.grid.of(size):
                self._configuration(subject, one)
            for one in self.grid.gradients:
                if one.model == size.name:
                    self._gradients(subject, one)
            for case in self.grid.peers:
                if case.model == size.name:
                    self._peers(subject, case)
        self.journal.append("end", {"seconds": round(self._elapsed(), 1)})
        return self.journal.records

    def _machine(self) -> Record:
        return {
            "loadahead": __version__, "device": self.device, "grid": self.name, "limit_s": self.limit_s,
            "planned": [one.name for one in self.grid.configurations],
            "machine": device_facts(self.device), "packages": {name: _version(name) for name in PACKAGES},
        }  # fmt: skip

    def _calibrate(self, size: ModelSize) -> Subject | Absent:
        """The subject, or why there is none."""
        self._say(f"calibrating {size.name}")
        made: list[Subject] = []

        def work() -> Record:
            made.append(Subject.of(size, self.grid.of(size)[0], self.device))
            return made[0].to_dict()

        record = self._attempt(work)
        self.journal.append("model", {"model": size.name} | record)
        return made[0] if made else Absent(record["status"], f"{size.name} was not calibrated: {record['reason']}")

    def _configuration(self, subject: Subject | Absent, one: Configuration) -> None:
        self._done += 1

        def work() -> Record:
            assert isinstance(subject, Subject)
            job, predicted = subject.predict(one)
            # Written down before it is run: nothing of the prediction can come from the measurement.
            self.journal.append("prediction", one.to_dict() | {"predicted": predicted})
            return {"predicted": predicted, "measured": subject.run(one, job)}

        record = self._attempt(work, subject)
        self.journal.append("configuration", one.to_dict() | record)
        self._say(f"{self._done}/{len(self.grid.configurations)} {one.name}: {_outcome(record)}")

    def _gradients(self, subject: Subject | Absent, one: Configuration) -> None:
        record = self._attempt(lambda: _subject(subject).check_gradients(one), subject)
        self.journal.append("gradients", one.to_dict() | record)
        found = f"largest difference {record['max_grad_error']}" if record["status"] == "measured" else record["reason"]
        self._say(f"gradients, {one.name}: {found}")

    def _peers(self, subject: Subject | Absent, case: PeerCase) -> None:
        for name in PEERS:
            record = self._attempt(lambda: _subject(subject).run_peer(name, case.plain, self.grid.peer_steps), subject)  # noqa: B023
            own = {"peer": name, "model": case.model, "microbatches": case.microbatches, "pipeline": case.pipeline}
            self.journal.append("peer", own | record)
            self._say(f"peer {name}, {case.model}, {case.microbatches} microbatches, {case.pipeline}: {_peer(record)}")

    def _attempt(self, work: Callable[[], Record], subject: Subject | Absent | None = None) -> Record:
        """The work's record with its status; one line about what went wrong, or why it was not tried."""
        if isinstance(subject, Absent):
            return {"status": subject.status, "reason": subject.reason}
        if self._elapsed() > self.limit_s:
            return {"status": "skipped", "reason": OUT_OF_TIME}
        began = time.monotonic()
        try:
            record: Record = _finite({"status": "measured"} | work())
        except Exception as error:  # whatever it is, the other configurations can still be measured
            record = {"status": "failed", "reason": f"{type(error).__name__}: {one_line(str(error))[:300]}"}
        clear_device(self.device)
        return record | {"seconds": round(time.monotonic() - began, 2)}

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(self._elapsed()), 60)
        note(f"[{minutes}:{seconds:02}] {text}")


def _subject(subject: Subject | Absent) -> Subject:
    assert isinstance(subject, Subject)
    return subject


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _finite(record: Any) -> Any:
    """The record with None where a number is not finite, which JSON cannot hold."""
    if isinstance(record, dict):
        return {key: _finite(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_finite(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record


def _outcome(record: Record) -> str:
    if record["status"] != "measured":
        return f"{record['status']}: {record['reason']}"
    ours, theirs = record["predicted"]["step_time_ns"], record["measured"]["step_time_ns"]
    return f"{format_duration(ours)} predicted, {format_duration(theirs)} measured ({(ours - theirs) / theirs:+.1%})"


def _peer(record: Record) -> str:
    if record["status"] != "measured":
        return f"{record['status']}: {record['reason']}"
    peak = record["peak_device_bytes"]
    return f"{format_duration(record['step_time_ns'])}, peak {'not known' if peak is None else format_bytes(peak)}"
