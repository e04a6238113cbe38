"""Says what is in memory over time: of the fullest ranks, by what holds it, beside the step that keeps all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loadahead.reports import run_directory
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.timelines import (
    MEASURED,
    PREDICTED,
    end_of,
    far_apart,
    own_axes_sentence,
    peaks_of,
    percent,
    step_files,
)
from loadahead.sim.ir.plan import Ints
from loadahead.sim.memory import role_levels
from loadahead.sim.timeline import MemorySamples, Timeline
from loadahead.sim.units import counted, format_bytes

TITLE = "Memory over time"
# What legends call the step that offloads nothing.
KEPT = "every boundary kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Holds a level over time, in bytes: ``nbytes[i]`` holds from ``t_ns[i]`` on, the last until ``end_ns``.

    ``peak`` is the largest of all, also where the curve has fewer points than there were.
    """

    t_ns: tuple[int, ...]
    nbytes: tuple[int, ...]
    end_ns: int
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCurves:
    """Holds a rank's device memory by what holds it, in bytes from each time on."""

    t_ns: tuple[int, ...]
    weights_and_optimizer: tuple[int, ...]
    inside_units: tuple[int, ...]
    boundaries: tuple[int, ...]
    transport: tuple[int, ...]
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Holds one rank's memory: device and host by step (predicted, measured), and by role where that is known.

    ``host`` is what is in use of the slots; ``host_pool`` is what all of the slots take, as tables count it: a slot of
    one size does not serve another.
    """

    rank: int
    device: Mapping[str, Curve]
    host: Mapping[str, Curve]
    host_pool: Mapping[str, int]
    roles: RoleCurves | None
    keep_all: Curve | None

    @property
    def peak(self) -> int:
        """Return the rank's largest peak of device memory of all steps."""
        return max(curve.peak for curve in self.device.values())

    @property
    def host_in_words(self) -> str:
        """Return what is in use of the host's slots at most, and what their pool is; empty where none is used."""
        peaks = {step: curve.peak for step, curve in self.host.items()}
        if not any(peaks.values()):
            return ""
        pools = " and ".join(dict.fromkeys(format_bytes(self.host_pool[step]) for step in peaks))
        pool = f"of {'pools' if ' and ' in pools else 'a pool'} of {pools}"
        if len(set(peaks.values())) == 1:
            sources = f", {' and '.join(peaks)}," if len(peaks) > 1 else ""
            return f"at most {format_bytes(max(peaks.values()))}{sources} {pool}"
        return f"at most {', '.join(f'{format_bytes(peak)} {step}' for step, peak in peaks.items())}, {pool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOverTime:
    """Holds the memory of the ranks that are shown, and every rank's peak.

    ``all_peaks`` has every rank's largest peak; ``thinned`` says that curves have fewer points than there were.
    """

    ranks: tuple[RankMemory, ...]
    all_peaks: Mapping[int, int]
    capacity_bytes: int | None
    ends_ns: Mapping[str, int]
    thinned: bool

    @property
    def own_axes(self) -> bool:
        """Return whether the steps are too far apart for one time axis."""
        return far_apart(self.ends_ns.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of a run directory that all this is from."""
        plan = (run_directory.PLAN,) if any(rank.roles is not None for rank in self.ranks) else ()
        kept = (run_directory.KEEP_ALL,) if any(rank.keep_all is not None for rank in self.ranks) else ()
        return (*step_files(self.ends_ns), *plan, *kept)

    @property
    def sentences(self) -> list[str]:
        """Return what the numbers say."""
        fullest = max(self.ranks, key=lambda rank: (rank.peak, -rank.rank))
        out = [self._peak(fullest)]
        if fullest.keep_all is not None:
            out.append(self._saved(fullest, fullest.keep_all))
        if fullest.host_in_words:
            out.append(f"Host slots of rank {fullest.rank} in use: {fullest.host_in_words}.")
        out += self._agreement()
        out += self._ranks()
        if self.thinned:
            out.append("Each column of the picture shows the most that was held in its time.")
        if self.own_axes:
            out.append(own_axes_sentence(self.ends_ns))
        return out

    def _peak(self, fullest: RankMemory) -> str:
        text = f"Rank {fullest.rank} peaks at {format_bytes(fullest.peak)}"
        of = [step for step, curve in fullest.device.items() if curve.peak == fullest.peak]
        if len(of) < len(fullest.device):
            text += f" as {of[0]}"
        if len(self.all_peaks) > 1:
            text += ", and no rank at more"
        if self.capacity_bytes is None:
            return text + "."
        if fullest.peak > self.capacity_bytes:
            return f"{text}: more than the {format_bytes(self.capacity_bytes)} that a device has."
        share = percent(fullest.peak, self.capacity_bytes)
        return f"{text}: {share} of the {format_bytes(self.capacity_bytes)} that a device has."

    def _saved(self, rank: RankMemory, kept: Curve) -> str:
        what = (
            f'The dotted line, "{KEPT}", is the same step predicted without offloading: {format_bytes(kept.peak)} '
            f"on rank {rank.rank}"
        )
        if PREDICTED not in rank.device:
            return what + "."
        own = rank.device[PREDICTED].peak
        if kept.peak == own:
            return f"{what}, as much as its predicted peak."
        more = f"{format_bytes(abs(kept.peak - own))} {'more' if kept.peak > own else 'less'}"
        return f"{what}, {more} than its predicted peak of {format_bytes(own)}."

    def _agreement(self) -> list[str]:
        both = [rank for rank in self.ranks if len(rank.device) > 1]
        if not both:
            return []
        off = {rank.rank: rank.device[MEASURED].peak - rank.device[PREDICTED].peak for rank in both}
        worst = max(off, key=lambda rank: abs(off[rank]))
        where = f"the {counted(len(both), 'rank')} drawn" if len(both) > 1 else f"rank {both[0].rank}"
        if not off[worst]:
            each = "each of " if len(both) > 1 else ""
            return [f"The measured peak of {each}{where} is the predicted one to the byte."]
        by = f"{format_bytes(abs(off[worst]))} {'above' if off[worst] > 0 else 'below'}"
        if len(both) == 1:
            return [f"The measured peak of {where} is {by} the predicted one."]
        return [f"Of {where} the measured peak of rank {worst} is furthest from the predicted one: {by} it."]

    def _ranks(self) -> list[str]:
        if len(self.ranks) == len(self.all_peaks):
            return []
        names = ", ".join(str(rank.rank) for rank in self.ranks)
        if len(set(self.all_peaks.values())) == 1:
            return [f"All {len(self.all_peaks)} ranks have this peak; drawn: {names}."]
        return [f"Drawn are the fullest of {len(self.all_peaks)} ranks: {names}."]


def memory_over_time(data: RunData, most_ranks: int = 3, most_points: int = 600) -> MemoryOverTime | Missing:
    """Return the memory of the fullest ranks, each curve with at most about so many points."""
    found = {PREDICTED: data.predicted, MEASURED: data.measured}
    sampled = {name: step for name, step in found.items() if step is not None and len(step.memory)}
    if not sampled:
        nothing = data.predicted is None and data.measured is None
        return Missing(title=TITLE, reason="there is no timeline with memory samples", absent=nothing)
    ends = {name: max(end_of(step), int(step.memory.t_ns.max())) for name, step in sampled.items()}
    steps = {name: step for name, step in sampled.items() if ends[name] > 0}
    if not steps:
        return Missing(title=TITLE, reason="the step takes no time")
    peaks: dict[int, int] = {}
    for step in steps.values():
        for rank, peak in peaks_of(step).items():
            peaks[rank] = max(peaks.get(rank, 0), peak)
    fullest = sorted(sorted(peaks, key=lambda rank: (-peaks[rank], rank))[:most_ranks])
    thinned = any(_of_rank(step.memory, rank)[0].size > 2 * most_points for step in steps.values() for rank in fullest)
    return MemoryOverTime(
        ranks=tuple(_rank(data, steps, rank, most_points) for rank in fullest),
        all_peaks={rank: peaks[rank] for rank in sorted(peaks)},
        capacity_bytes=data.capacity_bytes,
        ends_ns={name: ends[name] for name in steps},
        thinned=thinned,
    )


def _of_rank(memory: MemorySamples, rank: int) -> tuple[Ints, Ints, Ints]:
    mine = memory.rank == rank
    return memory.t_ns[mine], memory.device_bytes[mine], memory.host_bytes[mine]


def _rank(data: RunData, steps: Mapping[str, Timeline], rank: int, most: int) -> RankMemory:
    device, host, pool = {}, {}, {}
    for name, step in steps.items():
        t, on_device, on_host = _of_rank(step.memory, rank)
        if len(t):
            end = max(end_of(step), int(t[-1]))
            device[name], host[name] = _curve(t, on_device, end, most), _curve(t, on_host, end, most)
            pool[name] = _pool(step, rank, host[name].peak)
    kept = data.keep_all
    keep_all = None
    if kept is not None and (kept.memory.rank == rank).any():
        t, on_device, _ = _of_rank(kept.memory, rank)
        keep_all = _curve(t, on_device, max(end_of(kept), int(t[-1])), most)
    return RankMemory(
        rank=rank, device=device, host=host, host_pool=pool, roles=_roles(data, rank, most), keep_all=keep_all
    )


def _pool(step: Timeline, rank: int, in_use: int) -> int:
    """Return what all of a rank's slots take, from the step's summary; without one what is in use at most."""
    ranks = step.metrics.ranks if "summary" in step.header else ()
    return next((one.peak_host_bytes for one in ranks if one.rank == rank), in_use)


def _curve(t: Ints, nbytes: Ints, end: int, most: int) -> Curve:
    at, t_ns = thin(t, nbytes, end, most)
    return Curve(
        t_ns=tuple(t_ns.tolist()), nbytes=tuple(nbytes[at].tolist()), end_ns=end, peak=int(nbytes.max(initial=0))
    )


def _roles(data: RunData, rank: int, most: int) -> RoleCurves | None:
    """Return the predicted memory by role; None where the plan or what is resident is not known."""
    step, plan = data.predicted, data.plan
    resident = None if step is None else _resident(data, step, rank)
    if step is None or plan is None or resident is None or len(step) != len(plan):
        return None
    levels = role_levels(plan, rank, resident, step.start_ns, step.end_ns, step.memory)
    end = end_of(step)
    at, t_ns = thin(levels.t_ns, levels.total, end, most)
    names = ("weights_and_optimizer", "inside_units", "boundaries", "transport")
    columns = {name: tuple(getattr(levels, name)[at].tolist()) for name in names}
    return RoleCurves(t_ns=tuple(t_ns.tolist()), end_ns=end, **columns)


def _resident(data: RunData, step: Timeline, rank: int) -> int | None:
    """Return what is on the rank's device throughout: as the timeline's header has it, or else the costs."""
    found = step.header.get("resident_bytes")
    if isinstance(found, list) and len(found) > rank and type(found[rank]) is int:
        return int(found[rank])
    if data.costs is None or data.plan is None:
        return None
    return int(data.costs.static(data.plan.stage_rank, data.plan.ranks)[rank])


def thin(t: Ints, level: Ints, end: int, most: int) -> tuple[Ints, Ints]:
    """Return (positions, times in ns): of a level over time, the most in each of ``most`` columns of equal width.

    All comes back where that is no more than twice as many points. Times are those at which the columns begin.
    """
    if len(t) <= 2 * most:
        return np.arange(len(t)), t
    edges = np.linspace(int(t[0]), max(end, int(t[-1]) + 1), most + 1)
    # A column begins with all samples at its edge, which steps without time have many of, or else with the one before.
    before = np.searchsorted(t, edges[:-1], side="right") - 1
    first = np.maximum(np.minimum(before, np.searchsorted(t, edges[:-1], side="left")), 0)
    last = np.searchsorted(t, edges[1:], side="left")
    at = [
        a + int(np.argmax(level[a:b]))
        for a, b in zip(first.tolist(), np.maximum(last, first + 1).tolist(), strict=True)
    ]
    return np.asarray(at, dtype=np.int64), edges[:-1].astype(np.int64)
