"""Every claim comes out both ways, and as not measured, on records written by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from loadahead.reports.evidence import assemble
from loadahead.reports.statistics import rank_agreement
from loadahead.reports.verdicts import verdicts
from loadahead.reports.verdicts.base import FAILS, HOLDS, NOT_CLAIMED, NOT_MEASURED, percent
from loadahead.reports.verdicts.outcome import outcome_text, require_all
from loadahead.reports.verdicts.records import chosen_beside
from loadahead.sim.errors import CheckFailed
from tests.support.evidence import COUNT, MIB, records

Record = dict[str, Any]

SAYS = {
    "ran": "no run fails",
    "gradients": "largest difference of a gradient",
    "median": "median error of the predicted step time",
    "largest": "largest error of the predicted step time",
    "peak": "largest error of the predicted peak memory",
    "ranking": "horizons ranked",
    "overhead": "overhead where no stall is predicted and the host issues quickly",
    "bandwidth": "share of the copy bandwidth used where the link is the limit, copies from 16 MiB on",
    "faster": "step time of our plan over peer save_on_cpu's",
    "faster trl": "step time of our plan over peer trl's",
    "faster deepspeed": "step time of our plan over peer deepspeed's",
    "overhead over none": "overhead of our plan over peer none",
    "peak of none": "peak memory of our plan over peer none's",
    "peak of trl": "peak memory of our plan over peer trl's",
}


def verdict(evidence: Record, claim: str) -> Record:
    (found,) = [v for v in evidence["verdicts"] if v["claim"].startswith(SAYS[claim])]
    return dict(found)


def test_a_good_validation_holds() -> None:
    evidence = assemble(records())
    outcomes = {claim: verdict(evidence, claim)["outcome"] for claim in SAYS}
    assert outcomes.pop("faster deepspeed") == NOT_MEASURED
    assert set(outcomes.values()) == {HOLDS}
    assert verdict(evidence, "faster deepspeed")["detail"] == "deepspeed is not installed"
    assert verdict(evidence, "median")["value"] == pytest.approx(1 / 0.98 - 1)
    require_all(evidence)


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
    last["measured"]["peak_device_bytes"] = last["predicted"]["peak_device_bytes"] + 1


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
        ("faster trl", trl_is_faster),
        ("peak of trl", trl_needs_little),
        ("peak of none", none_needs_little),
        ("overhead over none", none_is_much_faster),
    ],
)
def test_each_claim_can_fail(claim: str, change: Callable[[list[Record]], None]) -> None:
    found = records()
    change(found)
    evidence = assemble(found)
    assert verdict(evidence, claim)["outcome"] == FAILS
    assert verdict(evidence, claim)["detail"]
    failed = [v for v in evidence["verdicts"] if v["outcome"] == FAILS]
    says = f"{len(failed)} of 16 claims {'does' if len(failed) == 1 else 'do'} not hold"
    with pytest.raises(CheckFailed, match=f"^{says}$"):
        require_all(evidence)


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("largest", half_are_slower),
        ("median", one_is_slower),
        ("faster", trl_is_faster),
        ("peak of trl", trl_is_faster),
    ],
)
def test_one_claim_fails_without_the_other(claim: str, change: Callable[[list[Record]], None]) -> None:
    found = records()
    change(found)
    assert verdict(assemble(found), claim)["outcome"] == HOLDS


def test_what_no_record_bears_on_is_not_measured() -> None:
    evidence = assemble([record for record in records() if record["kind"] == "machine"])
    assert {v["outcome"] for v in evidence["verdicts"] if v["limit"] is not None} == {NOT_MEASURED}
    assert {v["shown"] for v in evidence["verdicts"]} == {"–"}
    assert evidence["facts"] == {"configurations": {"measured": 0, "planned": COUNT}, "copy_to_compute": None}
    with pytest.raises(CheckFailed, match=r"^nothing was measured: the validation was stopped$"):
        require_all(evidence)


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


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("configuration", f"{COUNT - 1} of {COUNT} configurations"),
        ("gradients", f"{COUNT} of {COUNT}"),
        ("peer", f"{COUNT} of {COUNT}"),
    ],
)
def test_what_was_planned_and_not_run_is_no_success(kind: str, says: str) -> None:
    found = records()
    found.remove(of(kind, found)[-1])
    found[-1]["stopped"] = "the time limit was reached"
    evidence = assemble(found)
    told = verdict(evidence, "ran")
    assert told["outcome"] == NOT_MEASURED
    assert told["detail"] == "1 planned part not run: the time limit was reached"
    with pytest.raises(CheckFailed, match=f"1 planned part not run: the time limit was reached; {says}"):
        require_all(evidence)


def test_a_failure_is_one_though_not_everything_was_run() -> None:
    found = records()
    one_failed(found)
    del found[-8:]
    assert verdict(assemble(found), "ran")["outcome"] == FAILS


def shown(evidence: Record, name: str) -> Record:
    (found,) = [v for v in evidence["verdicts"] if v["name"] == name]
    return dict(found)


def test_a_model_that_waits_for_its_host_is_shown_apart() -> None:
    """Told by its own calibration: the host's time to issue, against the device's to run."""
    found = records()
    for record in of("configuration", found):
        if record["offload"] and record["copies"] == 1 and record["model"] == "launch-bound":
            record["measured"]["step_time_ns"] = round(record["measured"]["step_time_ns"] * 1.1)
    evidence = assemble(found)
    assert verdict(evidence, "overhead")["outcome"] == HOLDS
    apart = shown(evidence, "launch_bound_overhead")
    assert (apart["outcome"], apart["shown"]) == (NOT_CLAIMED, "10.0 %") and "launch-bound" in apart["detail"]
    assert "10.0 % (not claimed by the gpu grid)" in outcome_text(evidence)
    for model in of("model", found):
        model["issue_ns"] = model["device_ns"]  # quick enough
    evidence = assemble(found)
    assert verdict(evidence, "overhead")["outcome"] == FAILS
    assert shown(evidence, "launch_bound_overhead")["value"] is None
    for model in of("model", found):
        del model["issue_ns"], model["device_ns"]  # records that do not tell
    assert verdict(assemble(found), "overhead")["outcome"] == FAILS


@pytest.mark.parametrize(("nbytes", "outcome"), [(16 * MIB, FAILS), (16 * MIB - 1, HOLDS)])
def test_a_link_is_held_to_its_bandwidth_from_16_mib_on(nbytes: int, outcome: str) -> None:
    found = records()
    slow = next(r for r in of("configuration", found) if r["copies"] > 10 and r["offload"])
    link = slow["measured"]["links"]["h2d"]
    link |= {"span_ns": link["span_ns"] * 2, "transfers": 3, "bytes": 3 * nbytes}
    evidence = assemble(found)
    assert verdict(evidence, "bandwidth")["outcome"] == outcome
    apart = shown(evidence, "small_bandwidth")
    assert apart["outcome"] == NOT_CLAIMED
    assert (apart["value"] < 0.5) is (outcome == HOLDS)


def test_verdicts_are_figures_too() -> None:
    found = verdict(assemble(records()), "overhead")
    assert (found["name"], found["bound"], found["limit"]) == ("overhead", "at most", 0.02)
    assert found["value"] == 0.0 and "hide behind compute" in found["reason"]


def test_what_the_grid_does_not_claim_cannot_fail() -> None:
    found = records("cpu")
    for record in of("configuration", found):
        record["measured"]["step_time_ns"] = round(record["predicted"]["step_time_ns"] / 1.08)
    evidence = assemble(found)
    assert verdict(evidence, "median")["outcome"] == HOLDS  # by the grid's own limit
    assert verdict(evidence, "median")["limit"] == 0.1
    largest = verdict(evidence, "largest")
    assert (largest["outcome"], largest["threshold"]) == (NOT_CLAIMED, "not claimed on a CPU")
    assert largest["value"] == pytest.approx(0.08) and largest["limit"] is None
    require_all(evidence)
    evidence["claims"]["largest_time"] = 0.06
    assert next(v for v in verdicts(evidence) if v.name == "largest_time").outcome == FAILS


def test_our_plan_beside_peers_is_chosen_by_predictions_alone() -> None:
    found = records()
    case = ("middle", 8, "simple")
    assert chosen(found, case)["horizon"] == 1  # the smallest without a predicted stall
    for record in of("configuration", found):
        if record["horizon"] < 4:
            record["predicted"]["stall_prefetch_ns"] = record["predicted"]["step_time_ns"] // 10
        if record["horizon"] == 8:
            record["measured"]["step_time_ns"] //= 2  # a lucky measurement changes nothing
    assert chosen(found, case)["horizon"] == 4
    for record in of("configuration", found):
        record["predicted"]["stall_release_ns"] = record["predicted"]["step_time_ns"] // 10
        record["predicted"]["step_time_ns"] -= record["horizon"] == 2
    assert chosen(found, case)["horizon"] == 2  # none is free of stalls: the fastest predicted
    assert chosen_beside(assemble(found), ("middle", 7, "simple")) is None


def chosen(found: list[Record], case: tuple[str, int, str]) -> Record:
    one = chosen_beside(assemble(found), case)
    assert one is not None
    return dict(one)


def test_a_chosen_plan_that_failed_is_not_replaced_by_another() -> None:
    found = records()
    for record in of("configuration", found):
        if record["model"] == "launch-bound" and record["horizon"] == 1:
            del record["predicted"], record["measured"]
            record |= {"status": "failed", "reason": "RuntimeError: broken"}
    found = [one for one in found if one["kind"] != "peer" or one["model"] == "launch-bound"]
    found[0]["planned"]["peers"] = []
    told = verdict(assemble(found), "faster")
    assert (told["outcome"], told["detail"]) == (NOT_MEASURED, "our plan was not measured beside it")


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.02, "2 %"), (0.0123, "1.2 %"), (0.0005, "0.05 %"), (-0.031, "-3.1 %")]
)
def test_shares_in_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_line_for_each_claim() -> None:
    found = records()
    offload_costs(found)
    evidence = assemble(found)
    text = outcome_text(evidence)
    assert (
        "does not hold: overhead where no stall is predicted and the host issues quickly enough: 2.1 % (at most 2 %)"
        in text
    )
    assert text.splitlines()[-1].endswith(f"{COUNT} of {COUNT} configurations measured")
    assert not re.search(r"\b1 (pairs|cases|configurations|tasks)\b", text)


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
