"""What a stage's ratios and the times of its rank's copies mean, in sentences made of these numbers."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.inspection.hiding import Counts, Free, Horizon
from loadahead.inspection.ratios import Ratios
from loadahead.sim.planner import Policy
from loadahead.sim.units import bytes_apart, counted, format_duration, format_ratio

NOT_CHECKPOINTED = "No unit is recomputed from its boundary, so that none leaves the GPU and there is no k."
NOT_CALIBRATED = "k is not known: calibrate, and give the costs."
_STEADY = "a steady state of one forward and one backward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Says what holds while one forward and one backward take turns.

    Attributes:
        steady: from where on no copy is waited for; None where there is none.
        own_in_time: whether that is so with the scenario's horizon and release window.
    """

    steady: Horizon | None
    own_in_time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """Holds what is known of a stage's copies.

    Attributes:
        counts: the boundaries of its rank.
        free: from where on no copy of the rank is waited for in this very order; None where there is none.
        own_in_time: whether the scenario's horizon and release window make it wait for no more copies than those.
        turns: None where the rank's passes do not take turns.
    """

    ratios: Ratios
    counts: Counts
    free: Free | None
    own_in_time: bool
    turns: Turns | None


def meaning(found: Understood, policy: Policy, apart: str) -> str:
    """Return what the ratios mean, in a sentence or more; ``apart`` ends one that leaves something out."""
    ratios, free, turns = found.ratios, found.free, found.turns
    if ratios.k is None or ratios.busier_direction is None:
        return "The units take no time, so that no copy hides behind them."
    k = f"k = {format_ratio(ratios.k)}"
    if not found.counts.can_leave:
        return f"{k}: {_none_leaves(found.counts, policy)}"
    own = "" if found.own_in_time or not policy.offload or policy.is_tuned else _own(policy, free)
    if free is not None and free.leaving == free.can_leave:
        return f"{k}: {_is_free(free, apart)}{own}"
    if turns is None:
        return f"{k}: {_in_this_order(ratios, free, apart, own)}"
    if ratios.busier_direction > 1:
        share, counts = 1 / ratios.busier_direction, found.counts
        then = "more of them make the step wait"
        if counts.can_leave <= share * counts.boundaries:
            then = f"{counts.can_leave} of {counts.boundaries} can leave"
        return f"{k}: in {_STEADY} the link has the time for {_share(share)} of the boundaries; {then}."
    return f"{k}: {_in_turns(ratios, free, turns, policy, apart, own)}"


def _none_leaves(counts: Counts, policy: Policy) -> str:
    if not counts.boundaries:
        return "all units of the rank are frozen: no boundary is needed again, and none leaves the GPU."
    if not counts.small:
        return "none of the boundaries can leave, as each is needed again too soon."
    limit = bytes_apart(counts.largest_small_bytes, policy.min_bytes)[1]
    if counts.small == counts.boundaries:
        return f"none of the boundaries can leave, as each is smaller than offload.min_bytes ({limit})."
    are = "is" if counts.small == 1 else "are"
    return (
        f"none of the boundaries can leave: {counts.small} of {counts.boundaries} {are} smaller than offload.min_bytes "
        f"({limit}), and each other one is needed again too soon."
    )


def _is_free(free: Free, apart: str) -> str:
    """Return how many of the boundaries that can leave do so for free, from where on."""
    if free.leaving == free.can_leave:
        which = "every boundary that can leave can do so for free"
    else:
        do = "does" if free.leaving == 1 else "do"
        which = f"{free.leaving} of the {free.can_leave} boundaries that can leave {do} so for free"
    but = ""
    if free.first_wait_ns:
        which += " but the first one back"
        but = f" but that one, up to {format_duration(free.first_wait_ns)}, as it begins when it is needed"
    return f"{which}: {_no_waits(free.at, free.horizon_unit)}{but}{apart}."


def _no_waits(at: Horizon, unit: str) -> str:
    return (
        f"with a horizon of {at.horizon} or more {unit} and a release window of {at.release_window} no copy has to be "
        "waited for"
    )


def _own(policy: Policy, free: Free | None = None) -> str:
    """Return that copies may be late with the scenario's own horizon and release window."""
    which = "other copies" if free is not None and free.first_wait_ns else "copies"
    horizon = counted(policy.horizon, policy.horizon_unit.removesuffix("s"))
    return (
        f" With the scenario's own, a horizon of {horizon} and a release window of {policy.release_window}, {which} "
        "may have to be waited for."
    )


def _share(share: float) -> str:
    if share < 0.01:
        return "less than 1 %"
    return "almost all" if share >= 0.995 else f"about {100 * share:.0f} %"


def _longer(ratio: float | None, passes: str) -> str | None:
    """Return how copies go with the passes that they hide behind; None where they take no longer."""
    if ratio is None:
        return f"have nothing to hide behind, as {passes} take no time"
    return f"take {format_ratio(ratio)} times as long as {passes}" if ratio > 1 else None


def _in_this_order(ratios: Ratios, free: Free | None, apart: str, own: str) -> str:
    """Return what holds for an order whose passes take no turns."""
    longer = [
        f"{copies} {how}"
        for copies, how in (
            ("copies out", _longer(ratios.out, "the forwards")),
            ("copies back", _longer(ratios.back, "the recomputes and backwards")),
        )
        if how is not None
    ]
    parts = [] if free is None else [f"{_is_free(free, apart)}{own}"]
    if longer:
        parts.append(f"{', and '.join(longer)}.")
    elif free is None:
        parts.append("single copies may take longer than the tasks that they have to hide behind.")
    return _sentences(parts)


def _in_turns(ratios: Ratios, free: Free | None, turns: Turns, policy: Policy, apart: str, own: str) -> str:
    """Return what holds throughout, from where on the link is enough in turns, and where it may not be."""
    parts = [] if free is None else [f"{_is_free(free, apart)}{own}"]
    if turns.steady is None:
        if free is None or not ratios.each_behind_its_own:
            parts.append(f"in {_STEADY} the link has the time.")
    elif free is None or turns.steady != free.at:
        late = policy.offload and not policy.is_tuned and free is None and not turns.own_in_time
        steady = f"in {_STEADY} {_no_waits(turns.steady, policy.horizon_unit)}{apart}."
        parts.append(f"{steady}{_own(policy) if late else ''}")
    alike = {
        "where forwards follow each other (the start of 1F1B) copies out": _longer(ratios.out, "the forwards"),
        "where backwards follow each other copies back": _longer(ratios.back, "the recomputes and backwards"),
    }
    longer = [f"{what} {how}." for what, how in alike.items() if how is not None]
    if not longer and free is None:
        longer = ["elsewhere single copies may take longer than the tasks that they have to hide behind."]
    return _sentences([*parts, *longer])


def _sentences(parts: list[str]) -> str:
    """Return the parts in a row, each after the first with a capital letter."""
    return " ".join([*parts[:1], *(part[0].upper() + part[1:] for part in parts[1:])])
