"""Says how much of each link's bandwidth is in use over time: to the host, back, and where transfers meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadahead.reports import run_directory
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.timelines import far_apart, own_axes_sentence, percent, step_files, steps_of
from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs
from loadahead.sim.engines.fluid import carried_by, too_large
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import link_of
from loadahead.sim.routes import LinkTable
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_duration, format_rate

TITLE = "How full the links are"
# A column counts as full from this share on: what is missing is a rounding of rates and of the column's edges.
FULL = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUse:
    """Holds one link's use: the mean share of its bandwidth in each column of a step, and how many bytes went over it.

    ``shared`` says that transfers of several ranks or directions meet in it.
    """

    name: str
    shared: bool
    bandwidth: int
    shares: Mapping[str, tuple[float, ...]]
    nbytes: int

    def mean(self, step: str) -> float:
        """Return the share of its bandwidth that a step uses on average."""
        return round(float(np.mean(self.shares[step])), 4)

    def full(self, step: str) -> int:
        """Return in how many columns of a step it is full."""
        return sum(share >= FULL for share in self.shares[step])


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksInUse:
    """Holds the links that are shown, each step's first start and last end in ns, and how many links there are."""

    links: tuple[LinkUse, ...]
    wholes: Mapping[str, tuple[int, int]]
    columns: int
    all_links: int

    @property
    def own_axes(self) -> bool:
        """Return whether the steps are too far apart for one time axis."""
        return far_apart(end - start for start, end in self.wholes.values())

    @property
    def together(self) -> tuple[int, int]:
        """Return the stretch in ns that holds every step."""
        return min(start for start, _ in self.wholes.values()), max(end for _, end in self.wholes.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of a run directory that all this is from."""
        return (*step_files(self.wholes), run_directory.PLAN, run_directory.COSTS)

    @property
    def sentences(self) -> list[str]:
        """Return what the numbers say."""
        name, (start, end) = next(iter(self.wholes.items()))
        lengths = {step: to - at for step, (at, to) in self.wholes.items()}
        fullest = max(self.links, key=lambda link: link.mean(name))
        mean = percent(round(fullest.mean(name) * 10**6), 10**6)
        out = [
            f"As {name}, {fullest.name} is the fullest of these: {mean} of its {format_rate(fullest.bandwidth)} are in "
            f"use on average, and in {fullest.full(name)} of {self.columns} columns it is full.",
            f"A column is the mean over {format_duration(max(1, (end - start) // self.columns))}.",
        ]
        if any(link.shared for link in self.links):
            out.append("Shared: transfers of several GPUs, or of both directions, meet in it, each GPU counted.")
        if "measured" in self.wholes:
            out.append(
                "What was measured of a transfer is its start and its end; between them its bytes move at one pace."
            )
        if self.own_axes:
            out.append(own_axes_sentence(lengths))
        if len(self.links) < self.all_links:
            drawn = f"{len(self.links)} of {self.all_links}"
            out.append(
                f"Drawn are {drawn} links of copies and shared ones that anything goes over, the fullest of each sort."
            )
        return out


def link_use(data: RunData, most_links: int = 6, columns: int = 240) -> LinksInUse | Missing:
    """Return the use of the fullest links: of those that are shared, and of each direction to the host."""
    steps = steps_of(data)
    reason = None
    if not steps:
        reason = "there is no timeline with operations"
    elif data.plan is None or data.costs is None:
        reason = f"it needs the {'plan' if data.plan is None else 'costs'} of the run"
    if reason is not None or data.plan is None or data.costs is None:
        lacks = (data.predicted is None and data.measured is None) or data.plan is None or data.costs is None
        return Missing(title=TITLE, reason=reason or "", absent=lacks)
    links = _links(data.plan, data.costs, steps, columns)
    if not links:
        return Missing(title=TITLE, reason="nothing is copied, and no sends meet")
    return LinksInUse(
        links=tuple(_fullest(links, most_links)),
        wholes={name: (int(step.start_ns.min()), int(step.end_ns.max())) for name, step in steps.items()},
        columns=columns,
        all_links=len(links),
    )


def _fullest(links: list[LinkUse], most: int) -> list[LinkUse]:
    """Return at most so many links: the fullest of the shared ones and of each direction, in turns, in their order."""
    first = next(iter(links[0].shares))
    sorts: dict[str, list[int]] = {}
    for i, link in enumerate(links):
        sorts.setdefault("shared" if link.shared else link.name.split(" of ")[0], []).append(i)
    turns = [sorted(of, key=lambda i: -links[i].mean(first)) for of in sorts.values()]
    picked = [of[n] for n in range(max(map(len, turns))) for of in turns if n < len(of)]
    return [links[i] for i in sorted(picked[:most])]


def _links(plan: Plan, costs: Costs, steps: Mapping[str, Timeline], columns: int) -> list[LinkUse]:
    """Return every link that anything goes over: the shared ones first, then each rank's way out and back."""
    table = LinkTable.of_plan(costs, plan)
    link = link_of(plan, table)
    # The table has the sends' links too, which are shown where they are shared with something.
    uses = np.zeros((len(table.own), len(table.names) + 2 * plan.ranks), dtype=np.int64)
    for number in range(len(table.own)):
        for group, count in table.groups_of(number).items():
            uses[number, group] = count
    own = np.arange(2 * plan.ranks)
    uses[own, len(table.names) + own] = 1
    names = [*table.names, *(f"copies {way} of rank {rank}" for rank in range(plan.ranks) for way in ("out", "in"))]
    bandwidth = np.concatenate([table.capacity, table.own[: 2 * plan.ranks]])
    at = np.flatnonzero(link >= 0)
    of_link = np.bincount(link[at], weights=plan.ops.nbytes[at], minlength=len(table.own))
    nbytes = of_link.round().astype(np.int64) @ uses
    shares = {name: _shares(plan, costs, table, link, step, columns) @ uses / bandwidth for name, step in steps.items()}
    return [
        LinkUse(
            name=name,
            shared=number < len(table.names),
            bandwidth=int(bandwidth[number]),
            shares={step: tuple(of[:, number].round(6).tolist()) for step, of in shares.items()},
            nbytes=int(nbytes[number]),
        )
        for number, name in enumerate(names)
        if nbytes[number]
    ]


def _shares(
    plan: Plan, costs: Costs, table: LinkTable, link: Ints, step: Timeline, columns: int
) -> npt.NDArray[np.float64]:
    """Return each link's mean bytes per second in each column of the step; shape (columns, links).

    A transfer moves its bytes from when its latency is over to its end: as predicted, at what it has of the bandwidth
    that is shared, else at one pace.
    """
    edges = np.linspace(int(step.start_ns.min()), int(step.end_ns.max()), columns + 1).round().astype(np.int64)
    # One without bytes takes no time on its link.
    at = np.flatnonzero((link >= 0) & (plan.ops.nbytes > 0))
    end = step.end_ns[at]
    begin = np.minimum(step.start_ns[at] + costs.latencies(plan)[at], end - 1)
    if table.names and is_predicted(step) and too_large(0, table) is None:
        carried = carried_by(table, link[at], begin, end, edges)
    else:
        carried = np.zeros((len(edges), len(table.own)))
        for number in np.unique(link[at]).tolist():
            own = link[at] == number
            carried[:, number] = moved_until(begin[own], end[own], plan.ops.nbytes[at][own], edges)
    out: npt.NDArray[np.float64] = (
        np.diff(carried, axis=0) / np.maximum(np.diff(edges), 1)[:, None] * NANOSECONDS_PER_SECOND
    )
    return out


def is_predicted(step: Timeline) -> bool:
    """Return whether a simulation made the step, in which every transfer has the pace that the links allow."""
    return step.source in ("simpy", "compiled")


def moved_until(start_ns: Ints, end_ns: Ints, nbytes: Ints, times: Ints) -> npt.NDArray[np.float64]:
    """Return how many bytes have moved by each of ``times``, each transfer at one pace; shape as ``times``."""
    at = np.concatenate([start_ns, end_ns])
    pace = nbytes / (end_ns - start_ns)
    order = np.argsort(at, kind="stable")
    corners = at[order]
    slope = np.cumsum(np.concatenate([pace, -pace])[order])
    level = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(corners))])
    out: npt.NDArray[np.float64] = np.interp(times, corners, level)
    return out
