"""Defines what a claim is, the value that the records give it, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from loadahead.reports.verdicts.records import Record
from loadahead.sim.units import counted

HOLDS, FAILS, NOT_MEASURED, NOT_CLAIMED = "holds", "does not hold", "not measured", "not claimed"
NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimValue:
    """Holds what the records say about a claim.

    Attributes:
        value: the number that the limit is about; None where nothing was measured.
        detail: the cases that it was measured in, or why it was not.
        peer: the peer that it is about.
        partial: whether runs are missing, so that a good value shows nothing yet.
    """

    value: float | None
    detail: str
    peer: str = ""
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Holds one claim's outcome; ``limit`` is None where the grid does not claim it."""

    name: str
    claim: str
    bound: str
    limit: float | None
    value: float | None
    threshold: str
    shown: str
    outcome: str
    detail: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON holds them."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Describes something that a validation is to show.

    Attributes:
        text: the claim in words, with ``{peer}`` where it is about each of the peers.
        bound: how the value must lie to the limit.
        limit: on a GPU; a grid may have another, or not claim it. None: it is shown, and no GPU's grid claims it.
        reason: why it has this limit.
        evaluate: returns the values, one for each peer or just one.
        format_value: returns a value or a limit as text.
    """

    name: str
    text: str
    bound: Literal["at most", "at least", "below"]
    limit: float | None
    reason: str
    evaluate: Callable[[Record], Sequence[ClaimValue]]
    format_value: Callable[[float], str]

    def judge(self, evidence: Record) -> list[Verdict]:
        """Return whether the claim holds, by the limit that the evidence's grid has for it."""
        limit = evidence["claims"].get(self.name)
        return [self._verdict(claim_value, limit, _claimant(evidence)) for claim_value in self.evaluate(evidence)]

    def _verdict(self, claim_value: ClaimValue, limit: float | None, claimant: str) -> Verdict:
        threshold = f"not claimed {claimant}" if limit is None else f"{self.bound} {self.format_value(limit)}"
        reason = self.reason if limit in (None, self.limit) else f"{claimant}'s own; {self.reason}"
        return Verdict(
            name=self.name,
            claim=self.text.format(peer=claim_value.peer),
            bound=self.bound,
            limit=limit,
            value=claim_value.value,
            threshold=threshold,
            shown=NOTHING if claim_value.value is None else self.format_value(claim_value.value),
            outcome=self._outcome(claim_value, limit),
            detail=claim_value.detail,
            reason=reason,
        )

    def _outcome(self, claim_value: ClaimValue, limit: float | None) -> str:
        if limit is None:
            return NOT_CLAIMED
        if claim_value.value is None:
            return NOT_MEASURED
        value = claim_value.value
        within = {"at most": value <= limit, "at least": value >= limit, "below": value < limit}[self.bound]
        if not within:
            return FAILS
        return NOT_MEASURED if claim_value.partial else HOLDS


def _claimant(evidence: Record) -> str:
    return "on a CPU" if evidence["device"] == "cpu" else f"by the {evidence['grid']} grid"


def worst_of(
    cases: Mapping[str, float], worst: Callable[[Sequence[float]], float] = max, why_not: str = "", peer: str = ""
) -> ClaimValue:
    """Return the worst of several cases, and name it."""
    if not cases:
        return ClaimValue(value=None, detail=why_not or "nothing of the kind was measured", peer=peer)
    value = worst(list(cases.values()))
    name = next(name for name, other in cases.items() if other == value)
    return ClaimValue(value=value, detail=f"{counted(len(cases), 'case')}; the worst: {name}", peer=peer)


def percent(share: float) -> str:
    """Return a share in percent, such as ``1.2 %`` or ``0.05 %``."""
    value = 100 * share
    return f"{value:.0f} %" if value == round(value) else f"{value:{'.1f' if abs(value) >= 0.1 else '.1g'}} %"


def number(value: float) -> str:
    """Return a number as text, such as ``0``, ``0.95`` or ``1e-08``."""
    return f"{value:.4g}"
