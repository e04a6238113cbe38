"""Defines a Gantt chart's parts, and what is said of them: boxes, waits and arrows, of a step or of a stretch of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loadahead.reports import run_directory
from loadahead.reports.views.timelines import far_apart, own_axes_sentence, percent, step_files
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.units import counted, format_duration

TITLE = "What ran when"
# A rank's send and receive share a lane, since they show two ends of transfers and are mostly empty.
LANES: tuple[tuple[str, tuple[Queue, ...]], ...] = (
    ("compute", (Queue.COMPUTE,)),
    ("copy out", (Queue.D2H,)),
    ("copy in", (Queue.H2D,)),
    ("send, receive", (Queue.SEND, Queue.RECV)),
)
# An operation is marked whose start lies elsewhere in its own step by more than this share of it.
OFF_BY = 0.05
_OFF_BY = f"{OFF_BY:.0%}".replace("%", " %")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Says how much a chart has room for.

    Attributes:
        boxes: of all rows together.
        boxes_in_row: of any row.
        ranks: at most so many are shown.
        points: how wide the chart is, in points of 1/72 inch.
        columns: of the overview.
        arrows: boundaries whose way is shown, of each rank.
        digit: how wide a digit of a microbatch's number is, in points.
    """

    boxes: int = 1500
    boxes_in_row: int = 160
    ranks: int = 4
    points: float = 590.0
    columns: int = 400
    arrows: int = 2
    digit: float = 4.8

    def has_room(self, number: int, points: float) -> bool:
        """Return whether a number can be written into a box of so many points, with half a digit for its edges."""
        return points > self.digit * (len(str(number)) + 0.5)


# A box that would be narrower than this, in points, is one with its neighbours: 1/96 inch, a dot of a page.
LEAST_POINTS = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Is one operation, or several that are too short for boxes of their own.

    Attributes:
        row: its place in :attr:`Gantt.rows`.
        kind: of the operation; of several, that which takes longest in all.
        start_ns, end_ns: when it starts and ends; of several, the first and the last.
        operations: how many there are.
        differs: whether a measured one starts elsewhere in its step than predicted, or in another order.
        numbered: whether it is wide enough for its microbatch's number.
    """

    row: int
    kind: Kind
    microbatch: int
    start_ns: int
    end_ns: int
    operations: int = 1
    differs: bool = False
    numbered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Is a time in which a compute queue stands still, and for what, of :data:`CAUSES`."""

    row: int
    cause: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Is a boundary's way: row and time of its OFFLOAD's end, its PREFETCH's start and end, and its reader's start."""

    stage: int
    unit: int
    microbatch: int
    offload: tuple[int, int]
    prefetch_start: tuple[int, int]
    prefetch_end: tuple[int, int]
    reader: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Is one line of the chart: a step's operations of one lane of one rank."""

    source: str
    rank: int
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Is one line of the overview: the share of each column of the step in which a rank computes."""

    source: str
    rank: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWaits:
    """Says how long the compute queues of a step wait: all ranks together, the longest, and how many are drawn.

    ``host_ns`` and ``unknown_ns`` are how long they stand still beside that, all together: while the host issues work,
    and for no known cause. ``ranks`` is how many the step has.
    """

    total_ns: int
    longest_ns: int
    step_ns: int
    drawn: int
    host_ns: int = 0
    unknown_ns: int = 0
    ranks: int = 1

    @property
    def still(self) -> str:
        """Return in words how long the queues stand still without a wait, and while what; empty where they do not."""
        causes = ((self.host_ns, "while the host issues work"), (self.unknown_ns, "for no known cause"))
        whole = self.step_ns * self.ranks
        of = "the step" if self.ranks == 1 else "the ranks' time"
        return " and ".join(
            f"{format_duration(ns)} {cause} ({percent(ns, whole)} of {of})" for ns, cause in causes if ns
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gantt:
    """Holds a Gantt chart.

    Attributes:
        spans: the stretch of each step that is shown, from and to in ns.
        wholes: each step's first start and last end.
        ranks: those that are shown, each with why.
        all_ranks: how many there are.
        overview: empty where the whole step is shown.
        least_points: how wide the narrowest box is drawn, in points.
        off: how many operations that are shown differ from the prediction; None where there is nothing to compare.
        has_copies: whether any operation of the run copies.
    """

    rows: tuple[Row, ...]
    boxes: tuple[Box, ...]
    waits: tuple[Wait, ...]
    ways: tuple[Way, ...]
    overview: tuple[Band, ...]
    spans: Mapping[str, tuple[int, int]]
    wholes: Mapping[str, tuple[int, int]]
    ranks: Mapping[int, str]
    all_ranks: int
    step_waits: Mapping[str, StepWaits]
    least_points: float
    compared: int | None
    off: int | None
    has_copies: bool
    with_plan: bool

    @property
    def whole(self) -> bool:
        """Return whether the whole step is shown."""
        return not self.overview

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of a run directory that all this is from."""
        return (*step_files(self.spans), *((run_directory.PLAN,) if self.with_plan else ()))

    @property
    def own_axes(self) -> bool:
        """Return whether each step needs a time axis of its own."""
        return len(set(self.spans.values())) > 1

    @property
    def own_scales(self) -> bool:
        """Return whether those axes are of different scale: the steps are too far apart."""
        return far_apart(end - start for start, end in self.spans.values())

    @property
    def outlined(self) -> bool:
        """Return whether operations that differ are outlined: where most do, that would mark nothing."""
        return bool(self.off and self.compared) and 2 * (self.off or 0) <= (self.compared or 0)

    @property
    def sentences(self) -> list[str]:
        """Return what the numbers say."""
        lengths = {name: end - start for name, (start, end) in self.wholes.items()}
        times = ", ".join(f"{format_duration(ns)} as {name}" for name, ns in lengths.items())
        out = [f"One step, {times}."]
        if any(box.numbered for box in self.boxes):
            out[0] += " Numbers in the boxes are microbatches."
        if not self.whole:
            out.append(self._window(lengths))
        if self.own_scales:
            out.append(own_axes_sentence(lengths))
        elif self.own_axes:
            out.append("Both stretches begin around the same operation, each at its own time.")
        if not self.has_copies:
            out.append("This plan copies nothing.")
        out += [self._waits(name) for name in self.step_waits]
        out += self._differences()
        several = [box for box in self.boxes if box.operations > 1]
        if several:
            many = sum(box.operations for box in several)
            have = "pale box has" if len(several) == 1 else "pale boxes have"
            out.append(f"{many} operations are too short for boxes of their own; the {have} them together.")
        if self.ways:
            out.append("Arrows: a boundary's way from OFFLOAD over PREFETCH to the operation that reads it.")
        if len(self.ranks) < self.all_ranks:
            named = ", ".join(f"{rank} ({why})" for rank, why in self.ranks.items())
            out.append(f"Drawn are {len(self.ranks)} of {self.all_ranks} ranks: {named}.")
        return out

    def _window(self, lengths: Mapping[str, int]) -> str:
        name = next(iter(self.spans))
        start, end = self.spans[name]
        return (
            "The strip above is the whole step: how much of each column ranks compute. Below is the marked stretch, "
            f"{format_duration(end - start)} or {percent(end - start, lengths[name])} of the step around its middle."
        )

    def _waits(self, name: str) -> str:
        found = self.step_waits[name]
        many = self.all_ranks > 1
        side = f"As {name}, " if len(self.step_waits) > 1 else ""
        queues = "the compute queues" if many else "the compute queue"
        if not found.longest_ns:
            return _capital(f"{side}{self._without_waits(found, queues)}")
        together = (
            f"together the ranks wait {format_duration(found.total_ns)}"
            if many
            else f"it waits {format_duration(found.total_ns)} in all"
        )
        share = percent(found.longest_ns, found.step_ns)
        longest = f"the longest wait takes {format_duration(found.longest_ns)} ({share} of the step)"
        still = found.still
        rest = f" Beside that {'they stand' if many else 'it stands'} still for {still}." if still else ""
        if found.drawn:
            return _capital(f"{side}{queues} {'wait' if many else 'waits'} where hatched; {together}, {longest}.{rest}")
        where = "" if self.whole and len(self.ranks) == self.all_ranks else " of this stretch and these ranks"
        total = together.replace("it waits", f"{queues} waits")
        return _capital(f"{side}no wait{where} is long enough to be drawn; {total}, {longest}.{rest}")

    def _without_waits(self, found: StepWaits, queues: str) -> str:
        many = self.all_ranks > 1
        if not self.with_plan:
            return f"{queues} {'have' if many else 'has'} no gap between operations."
        if not found.still:
            return f"{queues} never {'wait' if many else 'waits'}."
        stand = f"{queues} {'stand' if many else 'stands'} still"
        return f"no wait for copies or other ranks is known; {stand} for {found.still}."

    def _differences(self) -> list[str]:
        out = "The prediction stands above the measurement."
        if self.off is None or self.compared is None:
            return [out] if len(self.spans) > 1 else []
        every = f"of the {counted(self.compared, 'measured operation')} shown"
        where = f"earlier or later in its step than predicted, by more than {_OFF_BY} of the step, or in another order"
        if not self.off:
            return [f"{out} None {every} starts {where}."]
        own = where if self.off == 1 else where.replace("in its step", "in their step")
        outlined = "Outlined: " if self.outlined else ""
        return [f"{out} {outlined}{self.off} {every} {'starts' if self.off == 1 else 'start'} {own}."]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
