"""Selects the evidence's records as claims, tables and figures ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadahead.reports.recorded_steps import measured_step, predicted_step

Record = Mapping[str, Any]
Case = tuple[str, int, str]

MEASURED, FAILED, NOT_RUN = "measured", "failed", "not run"
# This maps each kind of record to the list of the evidence that it goes to.
LISTS = {"model": "models", "configuration": "configurations", "gradients": "gradients", "peer": "peers"}
# Stalls below this share of a step count as none.
NO_STALL = 0.001
# The stall in which compute waits for a link's copies.
STALL_OF = {"d2h": "release", "h2d": "prefetch"}
# This peer offloads nothing.
NONE = "none"


def measured(evidence: Record) -> list[Record]:
    """Return the configurations that were predicted and run."""
    return [record for record in evidence["configurations"] if record["status"] == MEASURED]


def everything(evidence: Record) -> list[Record]:
    """Return every part of the validation, planned ones that were not run too."""
    return [record for name in LISTS.values() for record in evidence[name]]


def name_of(record: Record) -> str:
    """Return a configuration's name, a peer's with its case, or a model's."""
    if "peer" in record:
        return f"peer {record['peer']}, {case_name(case_of(record))}"
    return str(record.get("name", record["model"]))


def time_error(record: Record) -> float:
    """Return (predicted - measured) / measured step time."""
    return predicted_step(record).step_time_ns / measured_step(record).step_time_ns - 1


def peak_error(record: Record) -> float:
    """Return (predicted - measured) / measured peak of device memory."""
    return predicted_step(record).peak_device_bytes / measured_step(record).peak_device_bytes - 1


def step_times(series: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Return predicted and measured step times in ns."""
    predicted = [predicted_step(record).step_time_ns for record in series]
    return predicted, [measured_step(record).step_time_ns for record in series]


def case_of(record: Record) -> Case:
    """Return the record's case: records of one case train the same model on the same batch in the same order."""
    return record["model"], record["microbatches"], record["pipeline"]


def case_name(case: Case) -> str:
    """Return the case as configurations are named."""
    return f"{case[0]}, {case[1]} microbatches, {case[2]}"


def short_name(case: Case) -> str:
    """Return the case as a panel's title."""
    return f"{case[0]}, {case[1]} mb., {case[2]}"


def is_stall_free(record: Record) -> bool:
    """Return whether something is offloaded and no wait for it is predicted."""
    predicted = predicted_step(record)
    stalls = sum(predicted.stall_ns(stall) for stall in STALL_OF.values())
    return bool(record["offload"] and predicted.offloaded > 0 and stalls <= NO_STALL * predicted.step_time_ns)


def launch_bound_models(evidence: Record) -> set[str]:
    """Return the models whose operations, with offloading, the host takes longer to issue than the device to run."""
    return {
        model["model"]
        for model in evidence["models"]
        if model["status"] == MEASURED and (model.get("issue_ns") or 0) > (model.get("device_ns") or 0)
    }


def horizon_series(evidence: Record) -> list[list[Record]]:
    """Return lists of measured configurations, two at least, that differ in their horizon alone."""
    by_key: dict[tuple[Any, ...], list[Record]] = {}
    for record in measured(evidence):
        if record["offload"]:
            key = (*case_of(record), record["horizon_unit"], record["release_window"], record["copies"])
            by_key.setdefault(key, []).append(record)
    ordered = [sorted(series, key=lambda record: record["horizon"]) for series in by_key.values()]
    return [series for series in ordered if len(series) > 1]


def ours_beside(evidence: Record, case: Case) -> list[Record]:
    """Return our measured plans of a case that offload, over links as they are."""
    return [
        record
        for record in measured(evidence)
        if case_of(record) == case and record["offload"] and record["copies"] == 1
    ]


def plain_beside(evidence: Record, case: Case) -> list[Record]:
    """Return our measured plan of a case without offload, where there is one."""
    return [record for record in measured(evidence) if case_of(record) == case and not record["offload"]]


def chosen_beside(evidence: Record, case: Case) -> Record | None:
    """Return the plan that stands for ours beside peers, measured or not; None where none was predicted.

    Predictions alone decide, so that the best of several measurements is not set against one of a peer: the smallest
    horizon in tasks without a predicted stall, and where none is free of them the plan that is predicted to be fastest.
    """
    ours: list[Record] = [
        record
        for record in evidence["configurations"]
        if case_of(record) == case
        and record.get("predicted")
        and record["offload"]
        and (record["copies"], record["horizon_unit"], record["release_window"]) == (1, "tasks", 1)
    ]
    free = [record for record in ours if is_stall_free(record)]
    if free:
        return min(free, key=lambda record: int(record["horizon"]))
    return min(ours, key=lambda record: predicted_step(record).step_time_ns, default=None)
