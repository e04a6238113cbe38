"""Advice in words: every sentence is said of the numbers of :class:`loadahead.sim.advice.findings.Findings`."""

from __future__ import annotations

from loadahead.sim.advice.findings import Alternative, Figures, Findings
from loadahead.sim.advice.names import HOST_MEMORY, LAUNCHES, OFFLOAD_STALLS, PREFETCH_STALLS, TOO_FEW_TASKS, TOO_SMALL
from loadahead.sim.advice.within import limit_ns, slower_text
from loadahead.sim.units import counted, format_bytes, format_duration, part_of

_OBSTACLES = {
    OFFLOAD_STALLS: "offload stalls (copies out of the GPU take too long)",
    PREFETCH_STALLS: "prefetch stalls (copies back take too long)",
    LAUNCHES: "what the host takes to issue the operations",
    HOST_MEMORY: "the host's memory",
}
_WAITS = {OFFLOAD_STALLS: "offloads", PREFETCH_STALLS: "prefetches", LAUNCHES: "the host, which issues operations"}
_KEEPING_ALL = "keeping all boundaries on the GPU"


def in_words(advice: Findings) -> str:
    """Return the advice in a few sentences, the answer first."""
    best = advice.best
    if best is not None:
        parts = [_best(advice, best), _room(advice), _alternative(advice), _own(advice), _smaller(advice, best)]
    else:
        parts = [_none(advice), _room(advice), _alternative(advice), _own(advice), _most(advice)]
    if advice.lead is not None:
        # What decides comes first.
        parts.insert(0, parts.pop(2))
    switched_off = "If activations were offloaded:" if advice.own is None else ""
    estimated = "All of its times are an estimate." if advice.estimated else ""
    return " ".join(part for part in [switched_off, *parts, estimated] if part)


def why_none(advice: Findings) -> str | None:
    """Return that no horizon is advised and what is in the way; None where one is."""
    return _none(advice) if advice.best is None else None


def savings(figures: Figures, keep_all: Figures) -> str:
    """Return in words what a plan saves and costs against keeping all, e.g. ``saves 8.8 of 25.1 GiB, step +0.2 %``."""
    return f"{_saved(figures, keep_all)}, step {slower_text(figures.step_time_ns, keep_all.step_time_ns)}"


def _saved(figures: Figures, keep_all: Figures) -> str:
    before, after = keep_all.rank_device_bytes, figures.rank_device_bytes
    ranks = range(len(before))
    saved = keep_all.peak_device_bytes - figures.peak_device_bytes
    if saved > 0:
        where = " on the rank that needs most" if len(before) > 1 else ""
        return f"saves {part_of(saved, keep_all.peak_device_bytes)}{where}"
    # Of ranks that need as much, the one that still does.
    largest = max(ranks, key=lambda rank: (before[rank], after[rank]))
    most = max(ranks, key=lambda rank: before[rank] - after[rank])
    if before[most] > after[most]:
        return (
            f"saves nothing on rank {largest}, which needs most ({format_bytes(before[largest])}), and "
            f"{part_of(before[most] - after[most], before[most])} on rank {most}"
        )
    return f"saves no device memory ({format_bytes(keep_all.peak_device_bytes)} either way)"


def _setting(advice: Findings) -> str:
    least = f", min_bytes {format_bytes(advice.min_bytes)}" if advice.min_bytes else ""
    return f"({advice.horizon_unit}, release window {advice.release_window}{least})"


def _best(advice: Findings, best: Figures) -> str:
    searched = advice.searched
    of = "all horizons" if searched.complete else f"the {searched.tried} of {searched.last} horizons that were tried"
    room = "" if advice.host_capacity_bytes is None else " and whose slots fit the host"
    return (
        f"Horizon {best.horizon} {_setting(advice)} needs the least device memory of {of} whose step is within 1 % of "
        f"{_KEEPING_ALL}{room}: it {savings(best, advice.keep_all)}."
    )


def _room(advice: Findings) -> str:
    """Return what does not fit the device, and what does; nothing where keeping all fits."""
    best, device = advice.best, f"the GPU's {format_bytes(advice.capacity_bytes)}"
    if advice.fits(advice.keep_all):
        return ""
    if best is not None and advice.fits(best):
        return f"Keeping all does not fit {device}."
    if advice.fitting is not None:
        not_fit = "Keeping all does not fit" if best is None else "Neither this nor keeping all fits"
        fitting = f"{advice.fitting.horizon}, {savings(advice.fitting, advice.keep_all)}"
        return f"{not_fit} {device}; the largest horizon that does, {fitting}."
    least = advice.keep_all if advice.smallest is None else advice.smallest
    if advice.fits(least):
        assert advice.host_capacity_bytes is not None, "it fits the device and does not fit"
        host = format_bytes(advice.host_capacity_bytes)
        return f"No horizon {_setting(advice)} fits both {device} and the host's {host}."
    more = format_bytes(least.peak_device_bytes - advice.capacity_bytes)
    if least.peak_device_bytes == advice.keep_all.peak_device_bytes:
        return f"Keeping all does not fit {device}: {more} are missing."
    needs = format_bytes(least.peak_device_bytes)
    return f"No horizon {_setting(advice)} fits {device}: 1 needs the least, {needs}, {more} more."


def _with_room(advice: Findings, figures: Figures) -> str:
    """Return what a plan saves and costs, and whether it fits, where keeping all does not or its slots do not."""
    words = savings(figures, advice.keep_all)
    if not advice.fits_host(figures):
        words += ", and its slots do not fit the host"
    elif not advice.fits(advice.keep_all):
        words += ", and fits" if advice.fits(figures) else ", and does not fit the GPU"
    return words


def _own(advice: Findings) -> str:
    """Return what the plan's own horizon saves and costs."""
    own, best = advice.own, advice.best
    if own is None:
        return ""
    if best is not None and own.horizon == best.horizon:
        return f"{advice.whose} has it."
    if not own.offloaded:
        return "" if best is None else f"{advice.whose}'s horizon {own.horizon} offloads nothing."
    return f"{advice.whose}'s horizon {own.horizon} {_with_room(advice, own)}."


def _smaller(advice: Findings, best: Figures) -> str:
    """Return what keeps the next smaller horizon out."""
    if best.horizon is None or best.horizon == 1 or not advice.obstacles:
        return ""
    waits = " and ".join(_WAITS[name] for name in advice.obstacles if name in _WAITS)
    parts = [f"waits too long for {waits}"] if waits else []
    parts += ["needs more than the host has"] if HOST_MEMORY in advice.obstacles else []
    return f"Horizon {best.horizon - 1} {' and '.join(parts)}."


def _none(advice: Findings) -> str:
    """Return that no horizon is advised, and what is in the way."""
    setting, searched, keep_all = _setting(advice), advice.searched, advice.keep_all
    if advice.obstacles == (TOO_FEW_TASKS,):
        return _too_few_tasks(advice)
    if advice.obstacles == (TOO_SMALL,):
        return (
            f"No horizon ({advice.horizon_unit}, release window {advice.release_window}) offloads anything: every "
            f"boundary is smaller than offload.min_bytes ({format_bytes(advice.min_bytes)})."
        )
    which = f"No horizon {setting}"
    if not searched.complete:
        which = f"None of the {searched.tried} of {searched.last} horizons {setting} that were tried"
    sentence = f"{which} saves device memory in a step within 1 % of {_KEEPING_ALL}"
    sentence += f", {format_duration(keep_all.step_time_ns)}"
    if advice.host_capacity_bytes is not None:
        sentence += ", with slots that fit the host"
    sentence += _least_cost(advice)
    if advice.obstacles:
        verb = "is" if advice.obstacles in ((LAUNCHES,), (HOST_MEMORY,)) else "are"
        of_these = "" if searched.complete else " of these"
        sentence += f". In the way{of_these} {verb} {_listed([_OBSTACLES[name] for name in advice.obstacles])}"
        if HOST_MEMORY in advice.obstacles and advice.host_capacity_bytes is not None and advice.largest is not None:
            needs = f"the largest horizon that saves any, {advice.largest.horizon}, needs "
            needs += format_bytes(advice.largest.host_bytes)
            sentence += f", {format_bytes(advice.host_capacity_bytes)}: {needs}"
    return f"{sentence}."


def _least_cost(advice: Findings) -> str:
    """Return what the cheapest horizon that saves memory costs, where it costs more than it may."""
    keep_all = advice.keep_all
    if advice.least_step_time_ns is not None:
        cost = slower_text(advice.least_step_time_ns, keep_all.step_time_ns)
        return f": each costs {cost} or more" if advice.least_step_time_ns > limit_ns(keep_all.step_time_ns) else ""
    if advice.largest is None or advice.largest.step_time_ns <= limit_ns(keep_all.step_time_ns):
        return ""
    cost = slower_text(advice.largest.step_time_ns, keep_all.step_time_ns)
    return f": the largest that saves any, {advice.largest.horizon}, costs {cost}"


def _listed(words: list[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _too_few_tasks(advice: Findings) -> str:
    setting, first = _setting(advice), advice.smallest
    if first is not None:
        count = "1 boundary is" if first.offloaded == 1 else f"{first.offloaded} boundaries are"
        away = "and it is not" if first.offloaded == 1 else "and none of them is"
        return (
            f"No horizon {setting} saves device memory: at horizon 1, {count} offloaded, {away} away from the GPU when "
            "its memory peaks."
        )
    large = f" of at least {format_bytes(advice.min_bytes)}" if advice.min_bytes else ""
    if advice.horizon_unit != "tasks":
        return (
            f"No horizon {setting} offloads anything: each boundary{large} would be loaded back before it is released."
        )
    between = f"at most {counted(advice.furthest - 1, 'task')}" if advice.furthest > 1 else "none"
    whose = f" of boundaries{large}" if large else ""
    return (
        f"No horizon {setting} offloads anything: there are too few tasks between FORWARD and BACKWARD{whose}, "
        f"{between}, for a release window of {advice.release_window} and a horizon of 1."
    )


def _most(advice: Findings) -> str:
    """Return what horizon 1 saves, of all horizons the most, and costs, where none is advised."""
    smallest = advice.smallest
    if smallest is None or not advice.searched.last:
        return ""
    if advice.own is not None and advice.own.horizon == 1:
        return ""
    return f"Horizon 1, which needs least, {_with_room(advice, smallest)}."


def _alternative(advice: Findings) -> str:
    """Return what another unit or release window changes, where it is news."""
    other = advice.news
    if other is not None:
        return f"{_change(advice, other)} horizon {other.figures.horizon} {_with_room(advice, other.figures)}."
    if advice.alternatives or advice.best is not None or not (advice.windows and advice.alternatives_complete):
        return ""
    if advice.obstacles == (TOO_SMALL,):  # it is said already, and whatever the window
        return ""
    windows = f"{min(advice.windows)} to {max(advice.windows)}"
    least = f" with min_bytes {format_bytes(advice.min_bytes)}" if advice.min_bytes else ""
    return f"No release window from {windows}, in tasks or in layers, saves memory in such a step{least}."


def _change(advice: Findings, other: Alternative) -> str:
    """Return the settings of an alternative that differ, as a scenario has them."""
    parts = []
    if other.horizon_unit != advice.horizon_unit:
        parts.append(f'horizon_unit = "{other.horizon_unit}"')
    if other.release_window != advice.release_window:
        parts.append(f"release_window = {other.release_window}")
    return f"With {' and '.join(parts)}"
