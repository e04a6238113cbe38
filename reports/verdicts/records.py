"""The evidence's records as claims, tables and figures ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Case = tuple[str, int, str]

MEASURED, FAILED, NOT_RUN = "measured", "failed", "not run"
# Kinds of records, and the lists of the evidence that they go to.
LISTS = {"model": "models", "configuration": "configurations", "gradients": "gradients", "peer": "peers"}
# Stalls below this share of a step are none.
NO_STALL = 0.001
STALL_OF = {"d2h": "stall_release_ns", "h2d": "stall_prefetch_ns"}
# The peer that offloads nothing.
NONE = "none"


def measured(evidence: Record) -> list[Record]:
    """The configurations that were predicted and run."""
    return [one for one in evidence["configurations"] if one["status"] == MEASURED]


def everything(evidence: Record) -> list[Record]:
    """Every part of the validation, planned ones that were not run too."""
    return [one for name in LISTS.values() for one in evidence[name]]


def name_of(record: Record) -> str:
    """A configuration's name, a peer's with its case, or a model's."""
    if "peer" in record:
        return f"peer {record['peer']}, {case_name(case_of(record))}"
    return str(record.get("name", record["model"]))


def time_error(one: Record) -> float:
    """(predicted - measured) / measured step time."""
    return float(one["predicted"]["step_time_ns"] / one["measured"]["step_time_ns"] - 1)


def peak_error(one: Record) -> float:
    """(predicted - measured) / measured peak of device memory."""
    return float(one["predicted"]["peak_device_bytes"] / one["measured"]["peak_device_bytes"] - 1)


def step_times(series: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Predicted and measured."""
    return [one["predicted"]["step_time_ns"] for one in series], [one["measured"]["step_time_ns"] for one in series]


def case_of(record: Record) -> Case:
    """Records of one case train the same model on the same batch in the same order of passes."""
    return record["model"], record["microbatches"], record["pipeline"]


def case_name(case: Case) -> str:
    """As configurations are named."""
    return f"{case[0]}, {case[1]} microbatches, {case[2]}"


def short_name(case: Case) -> str:
    """Over a panel."""
    return f"{case[0]}, {case[1]} mb., {case[2]}"


def is_stall_free(one: Record) -> bool:
    """Whether something is offloaded and no wait for it is predicted."""
    predicted = one["predicted"]
    stalls = sum(predicted[name] for name in STALL_OF.values())
    return bool(one["offload"] and predicted["offloaded"] > 0 and stalls <= NO_STALL * predicted["step_time_ns"])


def horizon_series(evidence: Record) -> list[list[Record]]:
    """Measured configurations that differ in their horizon alone, two at least."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for one in measured(evidence):
        if one["offload"]:
            key = (*case_of(one), one["horizon_unit"], one["release_window"], one["copies"])
            found.setdefault(key, []).append(one)
    ordered = [sorted(series, key=lambda one: one["horizon"]) for series in found.values()]
    return [series for series in ordered if len(series) > 1]


def ours_beside(evidence: Record, case: Case) -> list[Record]:
    """Our measured plans of a case that offload, over links as they are."""
    return [one for one in measured(evidence) if case_of(one) == case and one["offload"] and one["copies"] == 1]


def plain_beside(evidence: Record, case: Case) -> list[Record]:
    """Our measured plan of a case without offload, where there is one."""
    return [one for one in measured(evidence) if case_of(one) == case and not one["offload"]]


def chosen_beside(evidence: Record, case: Case) -> Record | None:
    """The plan that stands for ours beside peers, measured or not; None where none was predicted.

    Predictions alone decide, so that the best of several measurements is not set against one of a peer: the smallest
    horizon in tasks without a predicted stall, and where none is free of them the plan that is predicted to be fastest.
    """
    ours: list[Record] = [
        one
        for one in evidence["configurations"]
        if case_of(one) == case
        and one.get("predicted")
        and one["offload"]
        and (one["copies"], one["horizon_unit"], one["release_window"]) == (1, "tasks", 1)
    ]
    free = [one for one in ours if is_stall_free(one)]
    if free:
        return min(free, key=lambda one: int(one["horizon"]))
    return min(ours, key=lambda one: int(one["predicted"]["step_time_ns"]), default=None)
