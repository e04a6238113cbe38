"""Every claim comes out both ways, and as not measured, on records written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reports.evidence import assemble
from reports.statistics import rank_agreement
from reports.verdicts import FAILS, HOLDS, NOT_MEASURED, require_all
from sim.errors import CheckFailed
from tests.support.evidence import MIB, records

Record = dict[str, Any]

CLAIMS = {
    "ran": "no run fails",
    "gradients": "gradients equal",
    "median": "median error of the predicted step time",
    "largest": "largest error of the predicted step time",
    "peak": "largest error of the predicted peak memory",
    "ranking": "horizons ranked",
    "overhead": "where no stall is predicted",
    "bandwidth": "where the link is the limit",
    "ratios": "copy to compute",
    "faster": "faster than save_on_cpu",
    "faster trl": "faster than trl",
    "faster deepspeed": "faster than deepspeed",
    "peak of none": "less memory than no offload",
    "peak of trl": "less memory than trl",
}


def verdict(evidence: Record, claim: str) -> Record:
    (found,) = [v for v in evidence["verdicts"] if v["claim"].startswith(CLAIMS[claim])]
    return dict(found)


def test_a_good_validation_holds() -> None:
    evidence = assemble(records())
    outcomes = {claim: verdict(evidence, claim)["outcome"] for claim in CLAIMS}
    assert outcomes.pop("faster deepspeed") == NOT_MEASURED
    assert set(outcomes.values()) == {HOLDS}
    assert verdict(evidence, "faster deepspeed")["detail"] == "deepspeed is not installed"
    assert verdict(evidence, "median")["value"] == pytest.approx(1 / 0.98 - 1)
    require_all(evidence["verdicts"])


def of(kind: str, found: list[Record]) -> list[Record]:
    return [record for record in found if record["kind"] == kind]


def one_failed(found: list[Record]) -> None:
    record = of("configuration", found)[3]
    record |= {"status": "failed", "reason": "RuntimeError: broken"}


def a_gradient_differs(found: list[Record]) -> None:
    of("gradients", found)[1]["max_grad_error"] = 1e-8


def half_are_slower(found: list[Record]) -> None:
    """By 4 %: the median leaves its band, no error the wider one."""
    for record in of("configuration", found):
        record["measured"]["step_time_ns"] = round(record["predicted"]["step_time_ns"] / 1.04)


def one_is_slower(found: list[Record]) -> None:
    last = of("configuration", found)[0]
    last["measured"]["step_time_ns"] = round(last["predicted"]["step_time_ns"] / 1.07)


def one_needs_more(found: list[Record]) -> None:
    last = of("configuration", found)[-1]
    last["measured"]["peak_device_bytes"] = round(last["predicted"]["peak_device_bytes"] * 1.006)


def horizons_turned_round(found: list[Record]) -> None:
    for record in of("configuration", found):
        if record["copies"] > 10:
            record["measured"]["step_time_ns"] = 10**12 - record["predicted"]["step_time_ns"]


def offload_costs(found: list[Record]) -> None:
    for record in of("configuration", found):
        if record["offload"] and record["copies"] == 1 and record["model"] == "middle":
            record["measured"]["step_time_ns"] = round(record["measured"]["step_time_ns"] * 1.021)


def links_have_gaps(found: list[Record]) -> None:
    of("configuration", found)[9]["measured"]["links"]["h2d"]["span_ns"] *= 2


def only_fast_links(found: list[Record]) -> None:
    for record in of("configuration", found):
        record["predicted"]["copy_to_compute"] = min(record["predicted"]["copy_to_compute"], 1.9)


def trl_is_faster(found: list[Record]) -> None:
    for record in of("peer", found):
        if record["peer"] == "trl" and record["model"] == "middle":
            record["step_time_ns"] = round(record["step_time_ns"] * 0.85)


def trl_needs_little(found: list[Record]) -> None:
    for record in of("peer", found):
        if record["peer"] == "trl":
            record["peak_device_bytes"] = 200 * MIB


def none_needs_little(found: list[Record]) -> None:
    for record in of("peer", found):
        if record["peer"] == "none":
            record["peak_device_bytes"] = 200 * MIB


def none_is_much_faster(found: list[Record]) -> None:
    for record in of("peer", found):
        if record["peer"] == "none":
            record["step_time_ns"] = round(record["step_time_ns"] * 0.97)


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("ran", one_failed),
        ("gradients", a_gradient_differs),
        ("median", half_are_slower),
        ("largest", one_is_slower),
        ("peak", one_needs_more),
        ("ranking", horizons_turned_round),
        ("overhead", offload_costs),
        ("bandwidth", links_have_gaps),
        ("ratios", only_fast_links),
        ("faster trl", trl_is_faster),
        ("peak of trl", trl_needs_little),
        ("peak of trl", trl_is_faster),
        ("peak of none", none_needs_little),
        ("peak of none", none_is_much_faster),
    ],
)
def test_each_claim_can_fail(claim: str, change: Callable[[list[Record]], None]) -> None:
    found = records()
    change(found)
    evidence = assemble(found)
    assert verdict(evidence, claim)["outcome"] == FAILS
    assert verdict(evidence, claim)["detail"]
    with pytest.raises(CheckFailed, match=CLAIMS[claim]):
        require_all(evidence["verdicts"])


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("largest", half_are_slower),
        ("median", one_is_slower),
        ("faster", trl_is_faster),
        ("peak of trl", offload_costs),
    ],
)
def test_one_claim_fails_without_the_other(claim: str, change: Callable[[list[Record]], None]) -> None:
    found = records()
    change(found)
    assert verdict(assemble(found), claim)["outcome"] == HOLDS


def test_what_no_record_bears_on_is_not_measured() -> None:
    evidence = assemble([record for record in records() if record["kind"] == "machine"])
    assert {v["outcome"] for v in evidence["verdicts"]} == {NOT_MEASURED}
    require_all(evidence["verdicts"])


def test_an_unknown_peak_is_not_compared() -> None:
    found = records()
    for record in of("peer", found):
        if record["peer"] == "trl":
            record["peak_device_bytes"] = None
    assert verdict(assemble(found), "peak of trl")["outcome"] == NOT_MEASURED


def test_links_that_rest_by_plan_are_not_the_limit() -> None:
    found = records()
    for record in of("configuration", found):
        for link in record["predicted"]["links"].values():
            link["busy_ns"] = link["span_ns"] // 2
    assert verdict(assemble(found), "bandwidth")["outcome"] == NOT_MEASURED


def test_skipped_configurations_are_counted_and_named() -> None:
    found = records()
    of("configuration", found)[-1] |= {"status": "skipped", "reason": "the time limit was reached"}
    told = verdict(assemble(found), "ran")
    assert told["outcome"] == HOLDS
    assert "56 of 57 configurations measured" in told["shown"]
    assert told["detail"] == "1 configurations skipped: the time limit was reached"


@pytest.mark.parametrize(
    ("predicted", "measured", "expected"),
    [
        ([100, 110, 120], [1, 2, 3], (3, 3)),
        ([100, 110, 120], [3, 2, 1], (-3, 3)),
        ([100, 100.5, 120], [2, 1, 3], (2, 2)),  # the first two claim no order
        ([100, 110], [5, 5], (0, 1)),  # neither order
        ([100], [1], (0, 0)),
    ],
)
def test_rank_agreement_by_hand(predicted: list[float], measured: list[float], expected: tuple[int, int]) -> None:
    assert rank_agreement(predicted, measured, 0.01) == expected
