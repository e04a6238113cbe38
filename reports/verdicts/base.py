"""What a claim is, what was found about it, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from loadahead.reports.verdicts.records import Record
from loadahead.sim.units import counted

HOLDS, FAILS, NOT_MEASURED, NOT_CLAIMED = "holds", "does not hold", "not measured", "not claimed"
NOTHING = "–"
# Where the limits come from.
ISSUE = "issue “The CUDA executor”"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the records say. ``value`` is the figure that the limit is about; None where nothing was measured.

    Attributes:
        detail: in which cases it was found, or why it was not.
        peer: the peer it is about.
        partial: runs are missing, so that a good value shows nothing yet.
    """

    value: float | None
    detail: str
    peer: str = ""
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One claim's outcome; ``limit`` is None where the grid does not claim it."""

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
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that a validation is to show.

    Attributes:
        text: with ``{peer}`` where it is about each of the peers.
        bound: how the value must lie to the limit.
        limit: on a GPU; a grid may have another, or not claim it.
        reason: why this limit, and whose it is.
        find: the figures, one for each peer or just one.
        show: a value or a limit as text.
    """

    name: str
    text: str
    bound: Literal["at most", "at least", "below"]
    limit: float
    reason: str
    find: Callable[[Record], Sequence[Found]]
    show: Callable[[float], str]

    def judge(self, evidence: Record) -> list[Verdict]:
        """Whether it holds, by the limit that the evidence's grid has for it."""
        limit = evidence["claims"].get(self.name)
        return [self._verdict(found, limit, _claimant(evidence)) for found in self.find(evidence)]

    def _verdict(self, found: Found, limit: float | None, claimant: str) -> Verdict:
        threshold = f"not claimed {claimant}" if limit is None else f"{self.bound} {self.show(limit)}"
        reason = self.reason if limit in (None, self.limit) else f"{claimant}'s own; {self.reason}"
        return Verdict(
            name=self.name,
            claim=self.text.format(peer=found.peer),
            bound=self.bound,
            limit=limit,
            value=found.value,
            threshold=threshold,
            shown=NOTHING if found.value is None else self.show(found.value),
            outcome=self._outcome(found, limit),
            detail=found.detail,
            reason=reason,
        )

    def _outcome(self, found: Found, limit: float | None) -> str:
        if limit is None:
            return NOT_CLAIMED
        if found.value is None:
            return NOT_MEASURED
        good = {"at most": found.value <= limit, "at least": found.value >= limit, "below": found.value < limit}[
            self.bound
        ]
        if not good:
            return FAILS
        return NOT_MEASURED if found.partial else HOLDS


def _claimant(evidence: Record) -> str:
    return "on a CPU" if evidence["device"] == "cpu" else f"by the {evidence['grid']} grid"


def worst_of(
    cases: Mapping[str, float], worst: Callable[[Sequence[float]], float] = max, why_not: str = "", peer: str = ""
) -> Found:
    """The worst of several cases, which is named."""
    if not cases:
        return Found(value=None, detail=why_not or "nothing of the kind was measured", peer=peer)
    value = worst(list(cases.values()))
    name = next(name for name, other in cases.items() if other == value)
    return Found(value=value, detail=f"{counted(len(cases), 'case')}; the worst: {name}", peer=peer)


def percent(share: float) -> str:
    """``1.2 %``, ``0.05 %``."""
    value = 100 * share
    return f"{value:.0f} %" if value == round(value) else f"{value:{'.1f' if abs(value) >= 0.1 else '.1g'}} %"


def number(value: float) -> str:
    """``0``, ``0.95``, ``1e-08``."""
    return f"{value:.4g}"
