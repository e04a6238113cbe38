"""Advice in words: every sentence is said of the numbers of :class:`loadahead.sim.advice.findings.Findings`."""

from __future__ import annotations

from loadahead.sim.advice.findings import Alternative, Figures, Findings
from loadahead.sim.advice.names import LAUNCHES, OFFLOAD_STALLS, PREFETCH_STALLS, TOO_FEW_TASKS
from loadahead.sim.units import counted, format_bytes, format_duration

# An alternative that saves less than this share of what is kept without offloading is no news.
_NEWS = 0.01
_OBSTACLES = {
    OFFLOAD_STALLS: "offload stalls (copies out of the GPU take too long)",
    PREFETCH_STALLS: "prefetch stalls (copies back take too long)",
    LAUNCHES: "what the host takes to issue the operations",
}
_SHORT = {OFFLOAD_STALLS: "offloads", PREFETCH_STALLS: "prefetches", LAUNCHES: "the host, which issues operations"}
_KEEPING_ALL = "keeping all boundaries on the GPU"


def in_words(advice: Findings) -> str:
    """Return the advice in a few sentences, the answer first."""
    parts = [_switched_off(advice)]
    if advice.best is not None:
        best = advice.best
        parts += [_best(advice, best), _room(advice), _alternative(advice), _own(advice, best), _smaller(advice, best)]
    else:
        parts += [_none(advice), _room(advice), _alternative(advice)]
    return " ".join(part for part in parts if part)


def percent(share: float) -> str:
    """Return a signed share in percent, with a second digit where the first would be 0."""
    if share == 0:
        return "+0 %"
    shown = f"{100 * share:+.1f}" if abs(share) >= 0.001 else f"{100 * share:+.2f}"
    return f"{shown} %".replace("-", "−")


def part_of(part: int, whole: int) -> str:
    """Return two sizes as ``8.8 of 25.1 GiB``, the unit once where both have the same."""
    small, large = format_bytes(part), format_bytes(whole)
    number, _, unit = small.partition(" ")
    return f"{number} of {large}" if unit == large.partition(" ")[2] else f"{small} of {large}"


def savings(figures: Figures, keep_all: Figures) -> str:
    """Return in words what a plan saves and costs against keeping all, e.g. ``saves 8.8 of 25.1 GiB, step +0.2 %``."""
    return f"{_saved(figures, keep_all)}, step {percent(figures.slower_than(keep_all))}"


def _saved(figures: Figures, keep_all: Figures) -> str:
    before, after = keep_all.rank_device_bytes, figures.rank_device_bytes
    ranks = range(len(before))
    largest = max(ranks, key=lambda rank: before[rank])
    most = max(ranks, key=lambda rank: before[rank] - after[rank])
    saved = keep_all.peak_device_bytes - figures.peak_device_bytes
    several = len(before) > 1
    if saved > 0:
        return f"saves {part_of(saved, keep_all.peak_device_bytes)}{' on the rank that needs most' if several else ''}"
    if before[most] > after[most]:
        return (
            f"saves nothing on rank {largest}, which needs most ({format_bytes(before[largest])}), and "
            f"{part_of(before[most] - after[most], before[most])} on rank {most}"
        )
    return f"saves no device memory ({format_bytes(keep_all.peak_device_bytes)} either way)"


def _switched_off(advice: Findings) -> str:
    return "" if advice.own is not None or advice.best is None else "If activations were offloaded:"


def _named(horizon: int | None, unit: str, window: int) -> str:
    return f"{horizon} ({unit}, release window {window})"


def _searched(advice: Findings) -> str:
    """Return which horizons the answer is the best of."""
    searched = advice.searched
    return "all horizons" if searched.complete else f"the {searched.tried} of {searched.last} horizons that were tried"


def _best(advice: Findings, best: Figures) -> str:
    name = _named(best.horizon, advice.horizon_unit, advice.release_window)
    if not saves(best, advice.keep_all):
        return (
            f"Horizon {name} is the smallest of {_searched(advice)} whose step is within 1 % of {_KEEPING_ALL}, and it "
            f"{savings(best, advice.keep_all)}."
        )
    return (
        f"Horizon {name} needs the least device memory of {_searched(advice)} whose step is within 1 % of "
        f"{_KEEPING_ALL}: it {savings(best, advice.keep_all)}."
    )


def _room(advice: Findings) -> str:
    """Return what does not fit the device, or the host, and what does; nothing where keeping all fits."""
    best, parts = advice.best, []
    device = f"the GPU's {format_bytes(advice.capacity_bytes)}"
    if advice.fitting is not None:
        not_fit = "Keeping all does not fit" if best is None else "Neither this nor keeping all fits"
        largest = f"the largest horizon that does, {advice.fitting.horizon}, {savings(advice.fitting, advice.keep_all)}"
        parts.append(f"{not_fit} {device}; {largest}.")
    elif not advice.fits(advice.keep_all):
        if best is not None and advice.fits(best):
            parts.append(f"Keeping all does not fit {device}.")
        elif advice.smallest is not None:
            least = advice.smallest.peak_device_bytes
            more = format_bytes(least - advice.capacity_bytes)
            of_these = f"({advice.horizon_unit}, release window {advice.release_window})"
            parts.append(
                f"No horizon {of_these} fits {device}: the smallest, 1, needs {format_bytes(least)}, {more} more."
            )
        else:
            more = format_bytes(advice.keep_all.peak_device_bytes - advice.capacity_bytes)
            parts.append(f"It does not fit {device}: {more} are missing.")
    host = advice.host_capacity_bytes
    if best is not None and host is not None and best.host_bytes > host:
        parts.append(
            f"Its host slots need {format_bytes(best.host_bytes)} for all ranks together, more than the host's "
            f"{format_bytes(host)}."
        )
    return " ".join(parts)


def _own(advice: Findings, best: Figures) -> str:
    own = advice.own
    if own is None:
        return ""
    if own.horizon == best.horizon:
        return f"The {advice.whose} has it."
    if not own.offloaded:
        return f"At the {advice.whose}'s horizon {own.horizon} nothing is offloaded."
    return f"The {advice.whose}'s horizon {own.horizon} {savings(own, advice.keep_all)}."


def _smaller(advice: Findings, best: Figures) -> str:
    """Return what keeps the next smaller horizon out."""
    if best.horizon is None or best.horizon == 1 or not advice.obstacles:
        return ""
    what = " and ".join(_SHORT[name] for name in advice.obstacles)
    return f"Horizon {best.horizon - 1} waits too long for {what}."


def _none(advice: Findings) -> str:
    own = f"({advice.horizon_unit}, release window {advice.release_window})"
    if advice.obstacles == (TOO_FEW_TASKS,):
        between = counted(advice.furthest - 1, "task")
        why = f"at most {between}" if advice.furthest > 1 else "each BACKWARD follows its FORWARD at once"
        return f"No horizon {own} offloads anything: there are too few tasks between FORWARD and BACKWARD, {why}."
    searched, keep_all = advice.searched, advice.keep_all
    if searched.complete:
        which = f"No horizon {own} at which anything is offloaded"
    else:
        which = f"None of the {searched.tried} of {searched.last} horizons {own} that were tried"
    sentence = f"{which} has a step within 1 % of {_KEEPING_ALL}, {format_duration(keep_all.step_time_ns)}"
    if advice.least_step_time_ns is not None and keep_all.step_time_ns:
        cost = percent(advice.least_step_time_ns / keep_all.step_time_ns - 1)
        sentence += f": {'each' if searched.complete else 'of these each'} costs {cost} or more"
    if advice.obstacles:
        sentence += f". In the way {'is' if advice.obstacles == (LAUNCHES,) else 'are'} "
        sentence += " and ".join(_OBSTACLES[name] for name in advice.obstacles)
    return f"{sentence}."


def _alternative(advice: Findings) -> str:
    """Return what another unit or release window changes, where it is news."""
    saving = [other for other in advice.alternatives if saves(other.figures, advice.keep_all)]
    if saving and _is_news(advice, saving[0]):
        figures = saving[0].figures
        return f"{_setting(advice, saving[0])} horizon {figures.horizon} {savings(figures, advice.keep_all)}."
    if saving or not advice.windows or (advice.best is not None and saves(advice.best, advice.keep_all)):
        return ""
    windows = f"{min(advice.windows)} to {max(advice.windows)}"
    return f"No release window from {windows}, in tasks or in layers, saves device memory within that 1 %."


def saves(figures: Figures, keep_all: Figures) -> bool:
    """Return whether some rank needs less memory than where all is kept."""
    return sum(figures.rank_device_bytes) < sum(keep_all.rank_device_bytes)


def _is_news(advice: Findings, other: Alternative) -> bool:
    """Return whether an alternative saves more than what is advised, by more than a trifle."""
    if advice.best is None or not saves(advice.best, advice.keep_all):
        return True
    more = advice.best.peak_device_bytes - other.figures.peak_device_bytes
    return more > _NEWS * advice.keep_all.peak_device_bytes


def _setting(advice: Findings, other: Alternative) -> str:
    """Return the settings of an alternative that differ, as a scenario has them."""
    parts = []
    if other.horizon_unit != advice.horizon_unit:
        parts.append(f'horizon_unit = "{other.horizon_unit}"')
    if other.release_window != advice.release_window:
        parts.append(f"release_window = {other.release_window}")
    return f"With {' and '.join(parts)}"
