"""Compares two steps of which neither is the other's prediction: of two predictions, two measurements, or two plans.

Changes go from the first, A, to the second, B: ``(B - A) / A``, below 0 is less in B. Operations are matched only where
both are of one plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.about import read_about
from loadahead.reports.compare import Comparison, compare, durations_of, matched_rows, of_one_plan
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import Headline, headline
from loadahead.sim.costs import is_estimate
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import PEAK_DEVICE, PEAK_HOST, STEP_TIME
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import counted, format_bytes, format_duration

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSide:
    """Holds one of the two steps in short.

    Attributes:
        name: the file that it was read from, or what it is called.
        how: where its times come from, e.g. ``"predicted by the compiled engine"``.
        costs: where a prediction's costs come from; None where its timeline does not say.
        model: what the step is of, where its timeline says it.
        operations, microbatches: how many there are.
    """

    name: str
    plan_name: str
    is_measured: bool
    how: str
    costs: str | None
    model: str | None
    operations: int
    microbatches: int
    headline: Headline

    @property
    def ns_per_microbatch(self) -> float:
        """Return the step time as a share for each microbatch."""
        return self.headline.step_time_ns / max(1, self.microbatches)

    @property
    def needs(self) -> str:
        """Return the step time, and the fullest rank's peak where it is known, in words."""
        peak = self.headline.largest_device_bytes
        held = "" if peak is None else f" and has a peak device memory of {format_bytes(peak)}"
        return f"takes {format_duration(self.headline.step_time_ns)}{held}"

    def to_dict(self) -> dict[str, Any]:
        """Return the step as the command line's JSON has it."""
        short = self.headline
        return {
            "name": self.name,
            "plan": self.plan_name,
            "is_measured": self.is_measured,
            "how": self.how,
            "costs": self.costs,
            "model": self.model,
            "operations": self.operations,
            "microbatches": self.microbatches,
            STEP_TIME: short.step_time_ns,
            PEAK_DEVICE: list(short.peak_device_bytes),
            PEAK_HOST: short.peak_host_bytes,
            "overlap": short.overlap,
            "stalls_ns": None if short.stalls_ns is None else dict(short.stalls_ns),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChange:
    """Holds how many operations of one kind both steps have, and their durations' sums in ns."""

    count_a: int
    count_b: int
    a_ns: int
    b_ns: int

    @property
    def change(self) -> float | None:
        """Return the sums' change as a share of A's; None where A's is zero and B's is not."""
        return relative_error(self.b_ns, self.a_ns)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the change, as JSON holds them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"change": self.change}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StepComparison(Shown):
    """Compares two steps.

    Attributes:
        a, b: the steps in short.
        one_plan: whether both have the same operations.
        largest_difference_ns: the largest difference of one operation's duration; None where plans differ.
        per_kind: each kind of operation that either has.
        as_predicted: A as if it predicted B; None where plans differ.
        others: pairs of files that could be compared as well, where two runs were named.
    """

    a: StepSide
    b: StepSide
    one_plan: bool
    largest_difference_ns: int | None
    per_kind: dict[str, KindChange]
    as_predicted: Comparison | None = None
    others: tuple[tuple[str, str], ...] = ()

    def _in_a_line(self) -> str:
        """Return both names and the answer."""
        return f" of A, {self.a.name}, and B, {self.b.name}: {self.sentences[0]}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per kind of operation.

        Columns: ``kind``; ``count_a`` and ``count_b``, its operations; ``a_ns`` and ``b_ns``, their durations' sums;
        ``change``, that of the sums as a share of A's, missing where A's is zero.
        """
        import pandas as pd

        columns = ["kind", *KindChange.__dataclass_fields__, "change"]
        rows = [{"kind": name, **kind.to_dict()} for name, kind in self.per_kind.items()]
        return pd.DataFrame(rows, columns=columns).astype({"change": float})

    @property
    def step_time_change(self) -> float | None:
        """Return the step time's change as a share of A's."""
        return relative_error(self.b.headline.step_time_ns, self.a.headline.step_time_ns)

    @property
    def peak_device_change(self) -> float | None:
        """Return the change of the fullest rank's peak device memory; None where one is not known."""
        a, b = self.a.headline.largest_device_bytes, self.b.headline.largest_device_bytes
        return None if a is None or b is None else relative_error(b, a)

    @property
    def step_time_error(self) -> float | None:
        """Return the step time's error, (A - B) / B, as if A predicted B."""
        return relative_error(self.a.headline.step_time_ns, self.b.headline.step_time_ns)

    @property
    def peak_device_error(self) -> float | None:
        """Return the error of the largest rank's peak device bytes, as if A predicted B; None where one is unknown."""
        ours, theirs = self.a.headline.largest_device_bytes, self.b.headline.largest_device_bytes
        return None if ours is None or theirs is None else relative_error(ours, theirs)

    @property
    def op_duration_mape(self) -> float | None:
        """Return the mean absolute error of single operations' durations, as if A predicted B; None of two plans."""
        return None if self.as_predicted is None else self.as_predicted.op_duration_mape

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the comparison in words, the answer first."""
        return (self._answer, *self._plans, *self._sorts)

    @property
    def other_models(self) -> bool:
        """Return whether both say what they are of, and say different things."""
        return None not in (self.a.model, self.b.model) and self.a.model != self.b.model

    @property
    def _answer(self) -> str:
        if self.other_models:
            return f"The models differ: A, of {self.a.model}, {self.a.needs}; B, of {self.b.model}, {self.b.needs}."
        return f"B's step takes {self._time}{self._memory}."

    @property
    def _time(self) -> str:
        """Return how much longer B's step takes, by microbatch where they have different numbers of them."""
        a, b = self.a, self.b
        before, now = (format_duration(side.headline.step_time_ns) for side in (a, b))
        times, what, per = f"{now} for {before}", "time", ""
        if a.microbatches != b.microbatches:
            times = f"{b.microbatches} microbatches in {now} for {a.microbatches} in {before}"
            what, per = "time per microbatch", " per microbatch"
        if a.ns_per_microbatch == b.ns_per_microbatch:
            return f"as long{per} as A's, {times if per else now}"
        change = relative_error(b.ns_per_microbatch, a.ns_per_microbatch)
        if change is None:
            return f"more {what}, {times}"
        return f"{_percent(change)} {'less' if change < 0 else 'more'} {what}, {times}"

    @property
    def _memory(self) -> str:
        first, second = self.a.headline.largest_device_bytes, self.b.headline.largest_device_bytes
        if first is None or second is None:
            return ""
        if first == second:
            return f"; its peak device memory is the same, {format_bytes(second)}"
        word = "less" if second < first else "more"
        return f"; its peak device memory is {format_bytes(abs(second - first))} {word}, {format_bytes(second)}"

    @property
    def _plans(self) -> tuple[str, ...]:
        if self.largest_difference_ns == 0:
            return ("Both have the same operations, and each takes as long in both.",)
        if self.largest_difference_ns is not None:
            most = format_duration(self.largest_difference_ns)
            return (f"Both have the same operations; a single one takes up to {most} more or less.",)
        a, b = self.a, self.b
        names = "" if a.plan_name == b.plan_name else f", {a.plan_name!r} and {b.plan_name!r}"
        ranks = [len(side.headline.peak_device_bytes) for side in (a, b)]
        on = ["", ""] if ranks[0] == ranks[1] else [f" on {counted(count, 'rank')}" for count in ranks]
        counts = f"{counted(a.operations, 'operation')}{on[0]} in A and {b.operations}{on[1]} in B"
        if a.operations == b.operations and on[0] == on[1]:
            counts = f"{counted(a.operations, 'operation')} in each"
        return (f"The plans differ{names}, with {counts}: single operations are not matched.",)

    @property
    def _sorts(self) -> tuple[str, ...]:
        """Return that a difference is no error of prediction where one side alone was measured."""
        if self.a.is_measured == self.b.is_measured or self.one_plan:
            return ()
        measured, predicted = ("A", "B") if self.a.is_measured else ("B", "A")
        return (f"{measured} was measured and {predicted} is predicted of another plan: no change is an error of it.",)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return which side's predicted times are an estimate."""
        return tuple(
            f"The times of {name} are not measured but an {side.costs}."
            for name, side in (("A", self.a), ("B", self.b))
            if not side.is_measured and side.costs is not None and is_estimate(side.costs)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as the command line's JSON has it.

        It has what every comparison of two timelines has (DESIGN, section 4), A in the place of the prediction, and
        beside it the steps as A and B.
        """
        whole = self._as_predicted()
        kinds = whole.pop("per_kind")
        return whole | {
            "sentences": list(self.sentences),
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "one_plan": self.one_plan,
            "step_time_change": self.step_time_change,
            "peak_device_change": self.peak_device_change,
            "largest_difference_ns": self.largest_difference_ns,
            "per_kind": {name: kinds.get(name, {}) | kind.to_dict() for name, kind in self.per_kind.items()},
            "notes": list(self.notes),
        }

    def _as_predicted(self) -> dict[str, Any]:
        """Return what there is of a prediction and a measurement; of two plans what does not need equal operations."""
        if self.as_predicted is not None:
            return self.as_predicted.to_dict()
        return {
            "step_time_error": self.step_time_error,
            "peak_device_error": self.peak_device_error,
            "op_duration_mape": self.op_duration_mape,
            "per_kind": {},
            "ranking_tau": None,
        }


def _percent(share: float) -> str:
    size = abs(share)
    return f"{size * 100:.1f} %" if size >= 0.001 else f"{size * 100:.2g} %"


def compare_steps(a: Timeline, b: Timeline, names: tuple[str, str]) -> StepComparison:
    """Return how one step differs from another, each called by its name."""
    first, second = durations_of(a, "first"), durations_of(b, "second")
    one_plan = of_one_plan(a, b)
    largest = None
    if one_plan:
        rows, others = matched_rows(a, b)
        largest = int(np.abs(second[others] - first[rows]).max(initial=0))
    per_kind = {}
    for code in np.union1d(a.kind, b.kind).tolist():
        at_a, at_b = a.kind == code, b.kind == code
        per_kind[Kind(code).name] = KindChange(
            count_a=int(at_a.sum()),
            count_b=int(at_b.sum()),
            a_ns=int(first[at_a].sum()),
            b_ns=int(second[at_b].sum()),
        )
    return StepComparison(
        a=_side(a, names[0]),
        b=_side(b, names[1]),
        one_plan=one_plan,
        largest_difference_ns=largest,
        per_kind=per_kind,
        as_predicted=compare(a, b) if one_plan else None,
    )


def _side(timeline: Timeline, name: str) -> StepSide:
    costs = timeline.header.get("costs")
    about = read_about(timeline.header, name)
    return StepSide(
        name=name,
        plan_name=timeline.plan_name,
        is_measured=timeline.is_measured,
        how=f"measured on {timeline.source}" if timeline.is_measured else f"predicted by the {timeline.source} engine",
        costs=costs if isinstance(costs, str) else None,
        model=None if about is None else about.model,
        operations=len(timeline),
        microbatches=len(np.unique(timeline.microbatch[timeline.microbatch >= 0])),
        headline=headline(timeline, name),
    )
