"""A validation from its first record to its last. What fails is recorded and does not stop the rest."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from loadahead.compiling import compile_first
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.run import clear_device
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports.recorded_steps import measured_step, peer_step, predicted_step
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.schema_errors import schema_error_line
from loadahead.sim.units import format_bytes, format_duration
from loadahead.validation.grid import Configuration, Grid, ModelSize, PeerCase
from loadahead.validation.journal import Journal, Record
from loadahead.validation.subject import Subject

OUT_OF_TIME = "the time limit was reached"


class _OutOfTime(Exception):
    """Raised when the time limit is reached, after which nothing new is begun."""


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """A model without costs, and the reason that is recorded for everything that needs them."""

    reason: str


@dataclass(slots=True)
class Validation:
    """One grid on one device; ``limit_s`` is the time after which nothing new is begun.

    What the journal has a record of is not run again.
    """

    grid: Grid
    device: str
    limit_s: float
    journal: Journal
    progress: ProgressCallback = silent
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> list[Record]:
        """Run all of it and return the records."""
        compile_first(self.progress)
        stopped = None
        try:
            for size in self.grid.sizes:
                self._model(size)
        except _OutOfTime:
            stopped = OUT_OF_TIME
            self._say(stopped)
        self.journal.append("end", {"stopped": stopped})
        return self.journal.records

    def _model(self, size: ModelSize) -> None:
        """Run everything of one model that has no record yet."""
        find = self.journal.find
        configurations = [c for c in self.grid.of(size) if find("configuration", c.to_dict()) is None]
        gradients = [
            check
            for check in self.grid.gradients
            if check.model == size.name and find("gradients", check.to_dict()) is None
        ]
        peers = [
            (case, name)
            for case in self.grid.peers
            for name in PEERS
            if case.model == size.name and find("peer", {"peer": name} | case.to_dict()) is None
        ]
        if not (configurations or gradients or peers):
            return
        subject = self._subject(size)
        for configuration in configurations:
            self._configuration(subject, configuration)
        for configuration in gradients:
            self._gradients(subject, configuration)
        for case, name in peers:
            self._peer(subject, case, name)

    def _subject(self, size: ModelSize) -> Subject | Uncalibrated:
        """Return the model calibrated now, or with the costs of the journal; or why it cannot be had."""
        before = self.journal.find("model", {"model": size.name})
        if before is None:
            self._say(f"calibrating {size.name}")
        elif before["status"] != "measured":
            return Uncalibrated(f"{size.name} was not calibrated")
        costs = None if before is None else _costs_of(before)
        made: list[Subject] = []

        def work() -> Record:
            made.append(Subject.of(size, self.grid.of(size)[0], self.device, costs))
            return made[0].to_dict()

        record = self._attempt(work)
        if before is None:
            self.journal.append("model", {"model": size.name} | record)
        if made:
            return made[0]
        self._say(f"{size.name} was not calibrated, and nothing of it is run: {record['reason']}")
        return Uncalibrated(f"{size.name} was not calibrated")

    def _configuration(self, subject: Subject | Uncalibrated, configuration: Configuration) -> None:
        def work() -> Record:
            assert isinstance(subject, Subject)
            job, predicted = subject.predict(configuration)
            # Written down before it is run: nothing of the prediction can come from the measurement.
            self.journal.append("prediction", configuration.to_dict() | {"predicted": predicted})
            return {"predicted": predicted, "measured": subject.run(configuration, job)}

        number = f"{self.grid.configurations.index(configuration) + 1}/{len(self.grid.configurations)}"
        self._part("configuration", configuration.to_dict(), subject, work, f"{number} {configuration.name}", _outcome)

    def _gradients(self, subject: Subject | Uncalibrated, configuration: Configuration) -> None:
        self._part(
            "gradients",
            configuration.to_dict(),
            subject,
            lambda: _present(subject).check_gradients(configuration),
            f"gradients, {configuration.name}",
            lambda record: f"largest difference {record['max_grad_error']:g}",
        )

    def _peer(self, subject: Subject | Uncalibrated, case: PeerCase, name: str) -> None:
        steps = self.grid.peer_steps
        self._part(
            "peer",
            {"peer": name} | case.to_dict(),
            subject,
            lambda: _present(subject).run_peer(name, case.plain, steps),
            f"peer {name}, {case.model}, {case.microbatches} microbatches, {case.pipeline}",
            _peer_outcome,
        )

    def _part(
        self,
        kind: str,
        own: Record,
        subject: Subject | Uncalibrated,
        work: Callable[[], Record],
        name: str,
        outcome: Callable[[Record], str],
    ) -> None:
        """Do one part's work and record it. Of a model without costs the reason has been told."""
        if isinstance(subject, Uncalibrated):
            self.journal.append(kind, own | {"status": "failed", "reason": subject.reason})
            return
        record = self._attempt(work)
        self.journal.append(kind, own | record)
        measured = record["status"] == "measured"
        self._say(f"{name}: {outcome(record) if measured else '{status}: {reason}'.format(**record)}")

    def _attempt(self, work: Callable[[], Record]) -> Record:
        """Do the work and return its record with its status, and one line about what went wrong."""
        if self._elapsed() > self.limit_s:
            raise _OutOfTime
        began = time.monotonic()
        try:
            record: Record = _finite({"status": "measured"} | work())
        except Exception as error:  # whatever it is, the other configurations can still be measured
            record = {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error, 300)}"}
        with suppress(RuntimeError):  # of a device that is lost: what was measured before is kept
            clear_device(self.device)
        return record | {"seconds": round(time.monotonic() - began, 2)}

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(self._elapsed()), 60)
        self.progress(Progress(f"[{minutes}:{seconds:02}] {text}"))


def _costs_of(model: Record) -> Costs:
    """Return the costs of an earlier calibration; InputError where the journal's are damaged."""
    try:
        return Costs.model_validate_json(json.dumps(model.get("costs")))
    except ValidationError as error:
        reason = schema_error_line(error, "costs")
        raise InputError(
            f"the journal's costs of {model['model']}: {reason}; start the validation afresh",
            parameters=("fresh",),
        ) from error


def _present(subject: Subject | Uncalibrated) -> Subject:
    assert isinstance(subject, Subject)
    return subject


def _finite(record: Any) -> Any:
    """Return the record with None where a number is not finite, which JSON cannot hold."""
    if isinstance(record, dict):
        return {key: _finite(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_finite(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record


def _outcome(record: Record) -> str:
    predicted, measured = predicted_step(record).step_time_ns, measured_step(record).step_time_ns
    error = (predicted - measured) / measured
    return f"{format_duration(predicted)} predicted, {format_duration(measured)} measured ({error:+.1%})"


def _peer_outcome(record: Record) -> str:
    step = peer_step(record)
    peak = step.peak_device_bytes
    return f"{format_duration(step.step_time_ns)}, peak {'not known' if peak is None else format_bytes(peak)}"
