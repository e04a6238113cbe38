"""What a validation's records say about the claims: for each its threshold, what was found, and whether it holds.

Pure functions of the evidence (:mod:`reports.evidence`). A claim without a record that bears on it is not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.statistics import rank_agreement
from reports.tables import Grid
from sim.errors import CheckFailed

Record = Mapping[str, Any]

HOLDS, FAILS, NOT_MEASURED = "holds", "does not hold", "not measured"

MEDIAN_TIME_ERROR, LARGEST_TIME_ERROR = 0.03, 0.06
PEAK_ERROR = 0.005
LEAST_TAU = 0.9
# Closer predictions claim no order: steps of one plan differ as much.
SAME_TIME = 0.01
MOST_OVERHEAD = 0.02
LEAST_BANDWIDTH = 0.95
# Stalls below this share of a step are none.
NO_STALL = 0.001
# A link is the limit where it is predicted to be busy all the time from its first copy to its last, and waited for.
BUSY, WAITED_FOR = 0.99, 0.01
LOWEST_RATIO, HIGHEST_RATIO = 0.1, 2.0
STALL_OF = {"d2h": "stall_release_ns", "h2d": "stall_prefetch_ns"}
# The peer that offloads nothing: none can be faster, so that it is matched within the overhead allowed.
NO_OFFLOAD = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One claim. ``value`` is the figure that the threshold is about; None where nothing was measured."""

    claim: str
    threshold: str
    value: float | None
    shown: str
    outcome: str
    detail: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verdicts(evidence: Record) -> list[Verdict]:
    """Every claim, in the order in which they are shown."""
    found = [
        _all_ran(evidence), _gradients(evidence), _median_time(evidence), _largest_time(evidence), _peak(evidence),
        _ranking(evidence), _overhead(evidence), _bandwidth(evidence), _ratios(evidence),
    ]  # fmt: skip
    names = dict.fromkeys(peer["peer"] for peer in evidence["peers"])
    faster = [_faster(evidence, name) for name in names if name != NO_OFFLOAD]
    return [*found, *faster, *(_lower_peak(evidence, name) for name in names)]


def require_all(found: Sequence[Record]) -> None:
    """CheckFailed when a claim does not hold; what was not measured is no failure."""
    failed = [verdict["claim"] for verdict in found if verdict["outcome"] == FAILS]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(found)} claims do not hold: {'; '.join(failed)}")


def verdicts_grid(found: Sequence[Record]) -> Grid:
    """A row for each claim."""
    rows = [(v["outcome"], v["claim"], v["threshold"], v["shown"], v["detail"]) for v in found]
    return Grid(headers=("", "claim", "threshold", "found", "in"), rows=tuple(rows), text_columns=frozenset({0, 1, 4}))


def verdicts_text(found: Sequence[Record]) -> str:
    """Two lines for each claim."""
    lines = []
    for v in found:
        lines.append(f"{v['outcome']:>13}: {v['claim']}: {v['shown']} ({v['threshold']})")
        if v["detail"]:
            lines.append(f"{'':15}{v['detail']}")
    return "\n".join(lines)


# ---- the records ----


def measured(evidence: Record) -> list[Record]:
    """The configurations that were predicted and run."""
    return [one for one in evidence["configurations"] if one["status"] == "measured"]


def time_error(one: Record) -> float:
    """(predicted - measured) / measured step time."""
    return float(one["predicted"]["step_time_ns"] / one["measured"]["step_time_ns"] - 1)


def peak_error(one: Record) -> float:
    """(predicted - measured) / measured peak of device memory."""
    return float(one["predicted"]["peak_device_bytes"] / one["measured"]["peak_device_bytes"] - 1)


def case_of(record: Record) -> tuple[str, int, str]:
    """Records of one case train the same model on the same batch in the same order of passes."""
    return record["model"], record["microbatches"], record["pipeline"]


def horizon_series(evidence: Record) -> dict[str, list[Record]]:
    """Measured configurations that differ in their horizon alone, two at least, by what they share."""
    found: dict[str, list[Record]] = {}
    for one in measured(evidence):
        if one["offload"]:
            name = f"{one['model']}, {one['microbatches']} microbatches, {one['pipeline']}, {one['horizon_unit']}"
            window = f", window {one['release_window']}" if one["release_window"] != 1 else ""
            copies = f", copied {one['copies']} times" if one["copies"] != 1 else ""
            found.setdefault(f"{name}{window}{copies}", []).append(one)
    ordered = {name: sorted(series, key=lambda one: one["horizon"]) for name, series in found.items()}
    return {name: series for name, series in ordered.items() if len(series) > 1}


def ours_beside(evidence: Record, case: tuple[str, int, str]) -> list[Record]:
    """Our plans of a case that offload, over links as they are."""
    return [one for one in measured(evidence) if case_of(one) == case and one["offload"] and one["copies"] == 1]


# ---- the claims ----


def _verdict(
    claim: str, threshold: str, cases: Mapping[str, float], good: Callable[[float], bool],
    worst: Callable[[Sequence[float]], float], show: Callable[[float], str],
) -> Verdict:  # fmt: skip
    """A claim about the worst of several cases, which is named."""
    if not cases:
        return _not_measured(claim, threshold, "nothing of the kind was measured")
    value = worst(list(cases.values()))
    name = next(name for name, other in cases.items() if other == value)
    count = f"{len(cases)} case{'s' if len(cases) != 1 else ''}; the worst: {name}"
    return Verdict(
        claim=claim, threshold=threshold, value=value, shown=show(value), detail=count,
        outcome=HOLDS if good(value) else FAILS,
    )  # fmt: skip


def _not_measured(claim: str, threshold: str, why: str) -> Verdict:
    return Verdict(claim=claim, threshold=threshold, value=None, shown="–", outcome=NOT_MEASURED, detail=why)


def _all_ran(evidence: Record) -> Verdict:
    parts = [*evidence["models"], *evidence["configurations"], *evidence["gradients"], *evidence["peers"]]
    failed = [one for one in parts if one["status"] == "failed"]
    skipped = [one for one in evidence["configurations"] if one["status"] == "skipped"]
    detail = [f"{len(skipped)} configurations skipped: {skipped[0]['reason']}"] if skipped else []
    if failed:
        detail.append(f"the first that failed: {_name(failed[0])}: {failed[0]['reason']}")
    ran, planned = len(measured(evidence)), len(evidence["configurations"])
    return Verdict(
        claim="no run fails", threshold="none", value=float(len(failed)),
        shown=f"{len(failed)} failed, {ran} of {planned} configurations measured", detail="; ".join(detail),
        outcome=FAILS if failed else HOLDS if ran else NOT_MEASURED,
    )  # fmt: skip


def _name(record: Record) -> str:
    return str(record.get("name") or record.get("peer") or record["model"])


def _gradients(evidence: Record) -> Verdict:
    cases = {_name(one): float(one["max_grad_error"]) for one in evidence["gradients"] if one["status"] == "measured"}
    claim = "gradients equal plain training's, bit for bit"
    return _verdict(claim, "0", cases, lambda error: error == 0, max, lambda error: f"{error:g}")


def _percent(value: float) -> str:
    return f"{value:.2%}".replace("%", " %")


def _time_errors(evidence: Record) -> dict[str, float]:
    return {one["name"]: abs(time_error(one)) for one in measured(evidence)}


def _median_time(evidence: Record) -> Verdict:
    errors, claim = _time_errors(evidence), "median error of the predicted step time"
    threshold = f"at most {_percent(MEDIAN_TIME_ERROR)}"
    if not errors:
        return _not_measured(claim, threshold, "nothing was measured")
    value = statistics.median(errors.values())
    return Verdict(
        claim=claim, threshold=threshold, value=value, shown=_percent(value), detail=f"{len(errors)} configurations",
        outcome=HOLDS if value <= MEDIAN_TIME_ERROR else FAILS,
    )  # fmt: skip


def _largest_time(evidence: Record) -> Verdict:
    threshold = f"at most {_percent(LARGEST_TIME_ERROR)}"
    cases = _time_errors(evidence)
    claim = "largest error of the predicted step time"
    return _verdict(claim, threshold, cases, lambda error: error <= LARGEST_TIME_ERROR, max, _percent)


def _peak(evidence: Record) -> Verdict:
    cases = {one["name"]: abs(peak_error(one)) for one in measured(evidence)}
    threshold = f"at most {_percent(PEAK_ERROR)}"
    claim = "largest error of the predicted peak memory"
    return _verdict(claim, threshold, cases, lambda error: error <= PEAK_ERROR, max, _percent)


def _ranking(evidence: Record) -> Verdict:
    agreed = pairs = 0
    for series in horizon_series(evidence).values():
        one, of = rank_agreement(*step_times(series), margin=SAME_TIME)
        agreed, pairs = agreed + one, pairs + of
    claim, threshold = "horizons ranked as measured, Kendall's tau", f"at least {LEAST_TAU}"
    if not pairs:
        return _not_measured(claim, threshold, f"no two horizons are predicted more than {SAME_TIME:.0%} apart")
    tau = agreed / pairs
    return Verdict(
        claim=claim, threshold=threshold, value=tau, shown=f"{tau:.3f}", outcome=HOLDS if tau >= LEAST_TAU else FAILS,
        detail=f"{pairs} pairs of horizons of one series; pairs predicted within {SAME_TIME:.0%} claim no order",
    )  # fmt: skip


def step_times(series: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Predicted and measured."""
    return [one["predicted"]["step_time_ns"] for one in series], [one["measured"]["step_time_ns"] for one in series]


def overheads(evidence: Record) -> dict[str, float]:
    """How much longer than without offload a step takes, of each configuration in which no stall is predicted."""
    plain = {case_of(one): one["measured"]["step_time_ns"] for one in measured(evidence) if not one["offload"]}
    out = {}
    for one in measured(evidence):
        stalls = sum(one["predicted"][name] for name in STALL_OF.values())
        copied = one["offload"] and one["predicted"]["offloaded"] > 0
        if copied and case_of(one) in plain and stalls <= NO_STALL * one["predicted"]["step_time_ns"]:
            out[one["name"]] = one["measured"]["step_time_ns"] / plain[case_of(one)] - 1
    return out


def _overhead(evidence: Record) -> Verdict:
    claim = "where no stall is predicted, longer than without offload by"
    threshold = f"at most {_percent(MOST_OVERHEAD)}"
    return _verdict(claim, threshold, overheads(evidence), lambda more: more <= MOST_OVERHEAD, max, _percent)


def bandwidths(evidence: Record) -> dict[str, float]:
    """Share of the calibrated bandwidth that is used from a link's first copy to its last, where it is the limit."""
    out = {}
    for one in measured(evidence):
        for link, stall in STALL_OF.items():
            ours, theirs = one["predicted"]["links"][link], one["measured"]["links"][link]
            waited = one["predicted"][stall] > WAITED_FOR * one["predicted"]["step_time_ns"]
            if waited and ours["span_ns"] and ours["busy_ns"] >= BUSY * ours["span_ns"] and theirs["span_ns"]:
                out[f"{one['name']}, {link}"] = theirs["expected_ns"] / theirs["span_ns"]
    return out


def _bandwidth(evidence: Record) -> Verdict:
    claim = "where the link is the limit, the measured bandwidth is used by"
    threshold = f"at least {_percent(LEAST_BANDWIDTH)}"
    cases = bandwidths(evidence)
    return _verdict(claim, threshold, cases, lambda share: share >= LEAST_BANDWIDTH, min, _percent)


def _ratios(evidence: Record) -> Verdict:
    """How far the validation reaches, rather than how well it went."""
    ratios = [one["predicted"]["copy_to_compute"] for one in measured(evidence) if one["offload"]]
    claim, threshold = "copy to compute, from and to", f"from {LOWEST_RATIO} to {HIGHEST_RATIO:g}"
    if not ratios:
        return _not_measured(claim, threshold, "nothing was offloaded")
    low, high = min(ratios), max(ratios)
    return Verdict(
        claim=claim, threshold=threshold, value=high, shown=f"{low:.2f} to {high:.2f}",
        detail=f"{len(ratios)} configurations; time of the busier link's copies over all compute",
        outcome=HOLDS if low <= LOWEST_RATIO and high >= HIGHEST_RATIO else FAILS,
    )  # fmt: skip


def peers_of(evidence: Record, name: str) -> list[Record]:
    """A peer's cases that were measured, and beside which a plan of ours was."""
    found = [peer for peer in evidence["peers"] if peer["peer"] == name and peer["status"] == "measured"]
    return [peer for peer in found if ours_beside(evidence, case_of(peer))]


def _why_not(evidence: Record, name: str) -> str:
    reasons = [peer["reason"] for peer in evidence["peers"] if peer["peer"] == name and peer["status"] != "measured"]
    return reasons[0] if reasons else "none of our plans was measured beside it"


def _case_name(peer: Record) -> str:
    return f"{peer['model']}, {peer['microbatches']} microbatches, {peer['pipeline']}"


def _faster(evidence: Record, name: str) -> Verdict:
    """Our fastest plan against the peer."""
    claim, threshold = f"faster than {name}: step time over its", "below 1"
    cases = {
        _case_name(peer): min(one["measured"]["step_time_ns"] for one in ours_beside(evidence, case_of(peer)))
        / peer["step_time_ns"]
        for peer in peers_of(evidence, name)
    }
    if not cases:
        return _not_measured(claim, threshold, _why_not(evidence, name))
    return _verdict(claim, threshold, cases, lambda ratio: ratio < 1, max, lambda ratio: f"{ratio:.3f}")


def _lower_peak(evidence: Record, name: str) -> Verdict:
    """Of our plans that are as fast as the peer, the one that needs least memory against it."""
    allowed = 1 + (MOST_OVERHEAD if name == NO_OFFLOAD else 0.0)
    shown = "no offload" if name == NO_OFFLOAD else name
    speed = f"within {_percent(MOST_OVERHEAD)} of its speed" if name == NO_OFFLOAD else "at least as fast"
    claim, threshold = f"less memory than {shown}: peak over its, of our plans {speed}", "below 1"
    cases, slower = {}, []
    for peer in peers_of(evidence, name):
        if peer["peak_device_bytes"] is None:
            continue
        most = peer["step_time_ns"] * allowed
        fast = [one for one in ours_beside(evidence, case_of(peer)) if one["measured"]["step_time_ns"] <= most]
        peaks = [one["measured"]["peak_device_bytes"] for one in fast]
        if peaks:
            cases[_case_name(peer)] = min(peaks) / peer["peak_device_bytes"]
        else:
            slower.append(_case_name(peer))
    if slower:
        return Verdict(
            claim=claim, threshold=threshold, value=None, shown="no plan is as fast", outcome=FAILS, detail=slower[0]
        )
    if not cases:
        unknown = "its peak memory cannot be told on this device" if peers_of(evidence, name) else None
        return _not_measured(claim, threshold, unknown or _why_not(evidence, name))
    return _verdict(claim, threshold, cases, lambda ratio: ratio < 1, max, lambda ratio: f"{ratio:.3f}")

