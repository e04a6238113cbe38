"""What tuning found, in words: what leaves and what that is worth, what stays, and how far from a bound it is.

Every sentence is said of numbers of a :class:`Tuning`, of its reasons or of a frontier. They name parameters, and no
options of a command.
"""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.sim.planner import Policy
from loadahead.sim.tuning.answer import Candidate, Frontier, FrontierPoint, Tuning
from loadahead.sim.tuning.bound import COMPUTE, LINK, Bound
from loadahead.sim.tuning.limits import RESERVE
from loadahead.sim.tuning.reasons import Reasons, Span, spans
from loadahead.sim.units import (
    bytes_apart,
    counted,
    format_beyond,
    format_bytes,
    format_change,
    format_duration,
    part_of,
)

# A budget whose step is within this share of keeping all's costs next to nothing.
_NEARLY = 0.01
# Of more entries than this the first are named.
_MOST_NAMED, _MOST_SPANS = 4, 6


def explanation(tuning: Tuning, frontier: Frontier | None = None, reasons: Reasons | None = None) -> str:
    """Return the answer in sentences, the first of which decides; those about other budgets where a frontier was made.

    ``reasons`` has why ranks have to offload, and what waits.
    """
    return " ".join(sentences(tuning, frontier, reasons))


def sentences(tuning: Tuning, frontier: Frontier | None = None, reasons: Reasons | None = None) -> list[str]:
    """Return the same sentence by sentence; each can stand in a line of its own."""
    if not tuning.fits:
        lines = [shortage(tuning), *_change(tuning), *_budget(tuning), *_of_frontier(tuning, frontier)]
    elif not tuning.chosen.row.offloaded:
        lines = [_nothing_leaves(tuning), *_budget(tuning), _gap(tuning), *_of_frontier(tuning, frontier)]
    else:
        lines = [_answer(tuning), *_budget(tuning), *_against_keep_all(tuning), _against_horizons(tuning)]
        lines += [] if reasons is None else why(tuning, reasons)
        lines += [_gap(tuning), *_of_frontier(tuning, frontier)]
    return [line for line in lines if line]


def sentence(tuning: Tuning) -> str:
    """Return what the plan does and why, in the one sentence that a plan keeps."""
    if not tuning.fits:
        return f"The nearest plan to a budget that none found keeps: {_leave_and_stay(tuning)}."
    if not tuning.chosen.row.offloaded:
        return _nothing_leaves(tuning)
    step = _against(tuning.chosen, tuning.keep_all)
    looked_for = f"for the shortest step in {_within(tuning)}"
    if tuning.limit_ns is not None:
        looked_for = f"for the least memory in a step of at most {format_duration(tuning.limit_ns)}"
    return f"Tuned {looked_for}: {_leave_and_stay(tuning)}; step {step} against keeping all."


def shortage(tuning: Tuning) -> str:
    """Return what the nearest plan needs beyond the limits, in a sentence; empty for a plan that keeps them all."""
    if tuning.fits:
        return ""
    row, limits, missing = tuning.chosen.row, tuning.limits, tuning.missing
    lacks = [
        _lack(what, needs, limit, more)
        for what, needs, limit, more in (
            ("device memory", row.peak_device_bytes, limits.device_bytes, missing.device_bytes),
            ("boundaries on the device", row.peak_boundary_bytes, limits.boundary_bytes, missing.boundary_bytes),
            ("host memory", row.host_bytes, limits.host_bytes, missing.host_bytes),
        )
        if limit is not None and more
    ]
    # Of plans that take longer than is allowed some may need less.
    within = "" if tuning.limit_ns is None else f" in a step of at most {format_duration(tuning.limit_ns)}"
    nearest = f"needs {_listed(lacks)}" if lacks else f"takes {format_duration(row.step_time_ns)}"
    return f"No plan that was found keeps the budget{within}: the nearest {nearest}."


def _lack(what: str, needs: int, limit: int, more: int) -> str:
    need, allowed, missing = bytes_apart(needs, limit, more)
    return f"{need} of {what} where {allowed} may be taken, {missing} too much"


def _change(tuning: Tuning) -> list[str]:
    """Return which limits the nearest plan keeps: it was simulated, so that they are sure to do."""
    row, missing = tuning.chosen.row, tuning.missing
    changes = [
        f'offload.{name} = "{needs} B" ({format_bytes(needs)})'
        for name, needs, more in (
            ("memory", row.peak_device_bytes, missing.device_bytes),
            ("boundary_memory", row.peak_boundary_bytes, missing.boundary_bytes),
            ("host_memory", row.host_bytes, missing.host_bytes),
        )
        if more
    ]
    if changes:
        return [f"With {_listed(changes)} that plan would do: its step takes {format_duration(row.step_time_ns)}."]
    assert tuning.limit_ns is not None, "a plan that lacks nothing does not fit for its time alone"
    return [
        f"Against keeping all its step is {_against(tuning.chosen, tuning.keep_all)}: that much within has to allow."
    ]


def _nothing_leaves(tuning: Tuning) -> str:
    """Return that nothing leaves, and whether that is as it fits, or as nothing can."""
    row, keep_all = tuning.chosen.row, tuning.keep_all.row
    needs, total = format_bytes(row.peak_device_bytes), counted_boundaries(row.kept)
    if not tuning.chosen.policy.checkpoint:
        return f"Nothing is offloaded: no unit is recomputed from its boundary; the step needs {needs}."
    if not tuning.horizons:
        return (
            f"Nothing is offloaded: offload_activations is false, and all {total} stay; the step takes "
            f"{format_duration(row.step_time_ns)} and needs {needs} of device memory."
        )
    if tuning.limit_ns is not None and tuning.limits.missing(keep_all).total == 0:
        longer = format_duration(tuning.limit_ns)
        return (
            f"Nothing is offloaded: no plan that was found needs less than {needs} of device memory in a step of at "
            f"most {longer}, and all {total} stay."
        )
    return (
        f"Nothing is offloaded, as all {total} fit: the step takes {format_duration(row.step_time_ns)} and needs "
        f"{needs} of device memory."
    )


def _answer(tuning: Tuning) -> str:
    row = tuning.chosen.row
    needs = f"{format_bytes(row.peak_device_bytes)} of device memory"
    if tuning.limits.boundary_bytes is not None:
        needs += f" and {format_bytes(row.peak_boundary_bytes)} of boundaries"
    least = ""
    if tuning.limit_ns is not None:
        least = f", the least found in a step of at most {format_duration(tuning.limit_ns)}"
    took = f"the step takes {format_duration(row.step_time_ns)} and needs {needs}"
    return _begin(f"{_leave_and_stay(tuning)}: {took}{least}.")


def _leave_and_stay(tuning: Tuning) -> str:
    row = tuning.chosen.row
    if not row.offloaded:
        return "nothing leaves the GPU"
    if not row.kept:
        return (
            "the one boundary leaves the GPU" if row.offloaded == 1 else f"all {row.offloaded} boundaries leave the GPU"
        )
    verb = "leaves" if row.offloaded == 1 else "leave"
    return f"{row.offloaded} of {counted_boundaries(row.offloaded + row.kept)} {verb} the GPU, {row.kept} stay"


def _within(tuning: Tuning) -> str:
    """Return the limits in short."""
    limits = tuning.limits
    parts = []
    if limits.boundary_bytes is not None:
        parts.append(f"{format_bytes(limits.boundary_bytes)} of boundaries")
    if limits.device_bytes is not None and (limits.boundary_bytes is None or not limits.reserve_bytes):
        parts.append(f"{format_bytes(limits.device_bytes)} of device memory")
    if tuning.goal.host_memory is not None:
        parts.append(f"{format_bytes(tuning.goal.host_memory)} of host memory")
    return _listed(parts) if parts else "the memory there is"


def budget_text(tuning: Tuning) -> str:
    """Return what may be taken, in a sentence; empty where nothing is limited."""
    return "".join(_budget(tuning))


def _budget(tuning: Tuning) -> list[str]:
    """Return what may be taken, and what of it nobody stated."""
    limits, parts = tuning.limits, []
    if limits.boundary_bytes is not None:
        parts.append(f"boundaries may take {format_bytes(limits.boundary_bytes)} of each device")
    if limits.device_bytes is not None:
        each = "each device" if not parts else "all together"
        budget = f"{each} may take {format_bytes(limits.device_bytes)}"
        if limits.reserve_bytes:
            whole = format_bytes(limits.device_bytes + limits.reserve_bytes)
            reserve = f"{format_bytes(limits.reserve_bytes)} ({float(100 * RESERVE):g} %)"
            budget += f", the device's {whole} less a reserve of {reserve}"
        parts.append(budget)
    if limits.host_bytes is not None:
        parts.append(f"slots may take {format_bytes(limits.host_bytes)} of each host")
    if not parts:
        return []
    return [_begin(f"{'; '.join(parts)}.")]


def _against_keep_all(tuning: Tuning) -> list[str]:
    """Return what offloading saves and costs."""
    row, keep_all = tuning.chosen.row, tuning.keep_all.row
    if tuning.limits.boundary_bytes is not None:
        before, now, what = keep_all.peak_boundary_bytes, row.peak_boundary_bytes, "of boundaries"
    else:
        before, now, what = keep_all.peak_device_bytes, row.peak_device_bytes, "of device memory"
    saved = f"saves {part_of(before - now, before)} {what}" if now < before else f"saves nothing {what}"
    return [f"Against keeping all it {saved}, step {_against(tuning.chosen, tuning.keep_all)}."]


def _against_horizons(tuning: Tuning) -> str:
    """Return how the plan stands beside the best horizon under the same limits."""
    if not tuning.horizons:
        return ""
    best, chosen, limit_ns = tuning.horizon, tuning.chosen, tuning.limit_ns
    many, of_boundaries = counted(tuning.horizons, "horizon"), tuning.limits.boundary_bytes is not None
    if best is None:
        which = "The one horizon" if tuning.horizons == 1 else f"None of {many}"
        tried = f"{which} that {'was' if tuning.horizons == 1 else 'were'} tried keeps these limits"
        return f"{tried}." if limit_ns is None else f"{tried} in a step of at most {format_duration(limit_ns)}."
    within = "" if tuning.goal.within is None else f" and within {100 * tuning.goal.within:g} %"
    best_of = f"the best of {many} under these limits{within}, {horizon_text(best.policy)}"
    if best.decisions == chosen.decisions:
        return f"It is the plan of {best_of}."
    step = format_duration(best.row.step_time_ns)
    what = "boundaries" if of_boundaries else "device memory"
    needs = _instead(best.peak_bytes(of_boundaries), chosen.peak_bytes(of_boundaries), what)
    if limit_ns is not None:
        return _begin(f"{best_of}, {needs}, in a step of {step}.")
    if best.row.step_time_ns == chosen.row.step_time_ns:
        return _begin(f"{best_of}, takes as long, and {needs}.")
    return _begin(f"{best_of}, takes {step}, {_against(best, chosen)}.")


def _instead(other: int, own: int, what: str) -> str:
    """Return what one plan needs instead of another; differences that sizes in short do not show are next to none."""
    theirs, ours = format_bytes(other), format_bytes(own)
    if theirs == ours:
        return f"needs {theirs} of {what} too"
    return f"needs {theirs} of {what} instead of {ours}"


def horizon_text(policy: Policy) -> str:
    """Return a horizon with its settings, e.g. ``horizon 4 (tasks, release window 1)``."""
    return f"horizon {policy.horizon} ({policy.horizon_unit}, release window {policy.release_window})"


def why(tuning: Tuning, reasons: Reasons) -> list[str]:
    """Return why something has to leave, for how long it is away, how busy that keeps links, and what waits."""
    return [
        line
        for line in (_has_to(tuning, reasons), _stays(tuning, reasons), _away(tuning, reasons), _waits(tuning, reasons))
        if line
    ]


def _has_to(tuning: Tuning, reasons: Reasons) -> str:
    """Return which ranks cannot keep all, with the one that lacks most."""
    beyond = reasons.beyond
    if not beyond:
        return ""
    most = max(beyond, key=lambda rank: (rank.too_much_bytes, -rank.rank))
    needs, what = most.keep_all_device_bytes, "device memory"
    limit = tuning.limits.boundary_bytes
    if limit is not None and most.keep_all_boundary_bytes - limit == most.too_much_bytes:
        needs, what = most.keep_all_boundary_bytes, "boundaries"
    need, more = bytes_apart(needs, most.too_much_bytes)
    if len(beyond) == 1:
        return f"On rank {most.rank} keeping all takes {need} of {what}, {more} more than may be: some have to leave."
    return (
        f"On {ranks_text([rank.rank for rank in beyond])} some have to leave: keeping all takes up to {need} of {what} "
        f"(rank {most.rank}), {more} more than may be."
    )


def _stays(tuning: Tuning, reasons: Reasons) -> str:
    """Return which ranks keep everything, where others do not."""
    room = [rank.rank for rank in reasons.ranks if not rank.leave and rank.boundaries and not rank.too_much_bytes]
    if not room or len(room) == len(reasons.ranks):
        return ""
    keep = f"{ranks_text(room)} {'keeps' if len(room) == 1 else 'keep'} everything"
    # Where the least memory is looked for, others leave though they fit as well.
    return _begin(f"{keep}, as it fits." if tuning.limit_ns is None else f"{keep}.")


def _away(tuning: Tuning, reasons: Reasons) -> str:
    """Return for how long boundaries are away, and how busy copies keep the link that is busiest."""
    out = [rank for rank in reasons.ranks if rank.away_ns is not None and rank.away_tasks is not None]
    if not out:
        return ""
    tasks = _hull([rank.away_tasks for rank in out])
    times = _hull([rank.away_ns for rank in out])
    tasks_text = "1 task" if tasks == (1, 1) else f"{_from_to(tasks)} tasks"
    copied = f"What leaves, {format_bytes(reasons.leave_bytes)} in all, is away for {tasks_text}"
    least, most = (format_duration(ns) for ns in times)
    sentence = f"{copied} ({least if least == most else f'{least} to {most}'})"
    step = tuning.chosen.row.step_time_ns
    if not step:
        return f"{sentence}."
    busiest = max(out, key=lambda rank: (max(rank.d2h_ns, rank.h2d_ns), -rank.rank))
    out_share, back_share = (f"{100 * ns / step:.0f} %" for ns in (busiest.d2h_ns, busiest.h2d_ns))
    where = f" on rank {busiest.rank}, the busiest" if len(reasons.ranks) > 1 else ""
    shares = f"out run for {out_share} of the step and copies back for {back_share}"
    if out_share == back_share:
        shares = f"run for {out_share} of the step in each direction"
    return f"{sentence}; copies {shares}{where}."


def _waits(tuning: Tuning, reasons: Reasons) -> str:
    """Return how long compute waits for copies on the rank that waits most, here and with the best horizon."""
    most = max(reasons.ranks, key=lambda rank: (rank.waits_ns, -rank.rank))
    where = "" if len(reasons.ranks) == 1 else f" on rank {most.rank}, which waits most"
    beside, best = "", tuning.horizon
    if best is not None and best.decisions != tuning.chosen.decisions:
        longest = max(rank.horizon_waits_ns or 0 for rank in reasons.ranks)
        waited = f"a rank waits up to {format_duration(longest)}" if longest else "none is"
        beside = f"; with the best horizon {waited}"
    if not most.waits_ns:
        return f"No copy is waited for{beside}."
    return f"Copies are waited for {format_duration(most.waits_ns)}{where}{beside}."


def _gap(tuning: Tuning) -> str:
    """Return how far the plan is from the bound, and what sets the bound; it is optimal only where there is no gap."""
    bound, took = tuning.bound, tuning.chosen.row.step_time_ns
    if not bound.step_time_ns:
        return ""
    if tuning.limit_ns is not None:
        if took == bound.step_time_ns:
            return f"No plan of this order that needs no more memory is faster: {set_by(bound)} sets that bound."
        return f"No plan of this order that needs no more memory takes less than {_bounded(bound)}."
    if took == bound.step_time_ns:
        return f"No plan of this order under these limits is faster: {set_by(bound)} sets that bound."
    least = f"No plan of this order under these limits takes less than {_bounded(bound)}"
    return f"{least}; this one takes {gap_text(tuning.gap)}."


def gap_text(gap: float) -> str:
    """Return in words how much longer than its bound a step is; a gap, however small, never reads as none."""
    if not gap:
        return "no longer"
    beyond = format_beyond(gap, 0.0)
    return f"{beyond.removeprefix('+')} longer" if beyond.startswith("+") else f"{beyond} as long"


def _bounded(bound: Bound) -> str:
    return f"{format_duration(bound.step_time_ns)}, a bound that {set_by(bound)} sets"


def set_by(bound: Bound) -> str:
    """Return which resource sets a bound, e.g. ``the link of rank 2``."""
    if bound.limited_by == COMPUTE:
        return "compute" if bound.rank is None else f"compute on rank {bound.rank}"
    if bound.limited_by == LINK:
        link = "the link" if bound.rank is None else f"the link of rank {bound.rank}"
        if not bound.link_bytes:
            return link
        return f"{link} (at least {format_bytes(bound.link_bytes)} must leave and come back over it)"
    return "the critical path through the ranks"


def _of_frontier(tuning: Tuning, frontier: Frontier | None) -> list[str]:
    """Return the least budget that some plan keeps, and from which on a step takes about as long as keeping all."""
    if frontier is None:
        return []
    what = "of boundaries" if frontier.of_boundaries else "of device memory"
    if not frontier.points:
        return [f"No plan was found under any budget {what}: none keeps the other limits."]
    least = frontier.points[0]
    lines = [f"The least budget that a plan was found for is {_point(least, what)}."]
    quick = nearly_as_quick(frontier)
    if quick is not None and quick is not least:
        lines.append(f"From {_point(quick, what)} on a step is within {100 * _NEARLY:g} % of keeping all.")
    return lines


def nearly_as_quick(frontier: Frontier) -> FrontierPoint | None:
    """Return the point of the least budget from which on every step is within 1 % of keeping all; None without one."""
    limit = frontier.keep_all.step_time_ns * (1 + _NEARLY)
    found = None
    for point in reversed(frontier.points):
        if point.tuning.chosen.row.step_time_ns > limit:
            break
        found = point
    return found


def _point(point: FrontierPoint, what: str) -> str:
    step = format_duration(point.tuning.chosen.row.step_time_ns)
    return f"{format_bytes(point.budget_bytes)} {what} (step {step})"


def which_leave(reasons: Reasons, most: int = _MOST_NAMED) -> str:
    """Return which boundaries leave in compact form, at most so many entries; empty where none does.

    Consecutive stages that lose the same of the same units are one entry.
    """
    of_stage: dict[int, list[tuple[Span, tuple[Span, ...]]]] = {}
    for one in reasons.leaving:
        of_stage.setdefault(one.stage, []).append((one.units, one.microbatches))
    entries: list[tuple[Span, Span, tuple[Span, ...]]] = []
    stages = sorted(of_stage)
    while stages:
        first, alike = stages[0], of_stage[stages[0]]
        last = first
        while of_stage.get(last + 1) == alike:
            last += 1
        entries += [((first, last), units, microbatches) for units, microbatches in alike]
        stages = [stage for stage in stages if stage > last]
    told = [_leaving(*entry) for entry in entries[:most]]
    more = len(entries) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _leaving(stages: Span, units: Span, microbatches: tuple[Span, ...]) -> str:
    numbers = ", ".join(map(_from_to, microbatches))
    if len(microbatches) > _MOST_SPANS:
        count = sum(last - first + 1 for first, last in microbatches)
        numbers = f"{microbatches[0][0]} to {microbatches[-1][1]}, {count} of these"
    several = len(microbatches) > 1 or microbatches[0][0] != microbatches[0][1]
    where = f"{_numbered('stage', stages)}, {_numbered('unit', units)}"
    return f"{where}: microbatch{'es' if several else ''} {numbers}"


def _numbered(noun: str, span: Span) -> str:
    return f"{noun}{'' if span[0] == span[1] else 's'} {_from_to(span)}"


def ranks_text(ranks: Sequence[int]) -> str:
    """Return ranks, which rise, as e.g. ``rank 3`` or ``ranks 0 to 2 and 5``."""
    parts: list[str] = []
    for first, last in spans(ranks):
        # Of two nothing lies between.
        parts += [str(first), str(last)] if last == first + 1 else [_from_to((first, last))]
    return f"rank{'' if len(ranks) == 1 else 's'} {_listed(parts)}"


def counted_boundaries(number: int) -> str:
    """Return a number of boundaries, e.g. ``1 boundary``."""
    return "1 boundary" if number == 1 else f"{number} boundaries"


def _from_to(span: Span) -> str:
    first, last = span
    return str(first) if first == last else f"{first} to {last}"


def _hull(found: Sequence[Span | None]) -> Span:
    known = [span for span in found if span is not None]
    return min(low for low, _ in known), max(high for _, high in known)


def _against(one: Candidate, other: Candidate) -> str:
    """Return by how much one step is longer than another; both times where there is no share."""
    own, than = one.row.step_time_ns, other.row.step_time_ns
    return format_change(own / than - 1) if than else f"{format_duration(own)} instead of {format_duration(than)}"


def _begin(text: str) -> str:
    """Return a sentence with a capital."""
    return f"{text[:1].upper()}{text[1:]}"


def _listed(words: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
