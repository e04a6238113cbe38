"""Compares a prediction with a measurement of the same plan: operations, kinds, step time, memory, order.

Every relative error is a signed fraction, ``(predicted - measured) / measured``: +0.05 says that the prediction is
5 % too high. A MAPE is the mean of their absolute values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loadahead.reports.devices import of_one_device
from loadahead.reports.statistics import kendall_tau, order_disagreements, relative_error
from loadahead.reports.summary import Headline, headline
from loadahead.sim.costs import is_estimate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import RECV_KINDS, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import PEAK_DEVICE, PEAK_HOST, STALLS, STEP_TIME
from loadahead.sim.timeline import MEASURED_SOURCES, Timeline, read_timeline
from loadahead.sim.units import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Comparison",
    "ComparisonOfMany",
    "KindComparison",
    "compare",
    "compare_directories",
    "compare_many",
    "durations_of",
    "kendall_tau",
    "matched_rows",
    "of_one_plan",
    "operations_frame",
    "order_disagreements",
    "relative_error",
]

# These are marks in the plan rather than work: costs give them no time, so a relative error says nothing.
_NO_DURATION = np.asarray([Kind.RELEASE, Kind.ACQUIRE, *sorted(RECV_KINDS)])
# Times of a GPU are predicted, and those of a CPU were measured.
_OTHER_DEVICE = ": they are that GPU's and the measured ones a CPU's, so that errors of times say nothing of either"
_SAME = ("rank", "queue", "kind", "stage", "unit", "microbatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindComparison:
    """Compares all operations of one kind. Sums in ns; ``error`` is that of the sums, ``mape`` the mean of operations.

    ``mape`` is None for kinds without a duration of their own (RELEASE, ACQUIRE, RECV_*) and where every measured
    duration is zero.
    """

    count: int
    predicted_ns: int
    measured_ns: int
    error: float | None
    mape: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON holds them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _kinds_frame(per_kind: Mapping[str, KindComparison]) -> pd.DataFrame:
    import pandas as pd

    columns = ["kind", *KindComparison.__dataclass_fields__]
    rows = [{"kind": name, **kind.to_dict()} for name, kind in per_kind.items()]
    return pd.DataFrame(rows, columns=columns).astype({"error": float, "mape": float})


def _shown_error(error: float | None) -> str:
    return "not known" if error is None else "exact" if error == 0 else f"{error:+.2%}".replace("%", " %")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Shown):
    """Compares one prediction with one measurement.

    Attributes:
        op_duration_mape: over the operations that do work, matched by id. An operation that took no time at all
            counts as exact when none was predicted and is left out, and counted in ``ops_left_out``, otherwise.
        ranking_tau: None, since one pair has no order; see :func:`compare_many`.
        costs: where the prediction's costs come from; None where its timeline does not say.
        device: what was measured on, as its timeline says.
        predictor: what predicted, as its timeline says.
        files: where both were read from, the prediction first; None for what was not.
        others: pairs of files that could be compared as well, where two runs were named.
    """

    plan_name: str
    predicted: Headline
    measured: Headline
    ops: int
    ops_left_out: int
    op_duration_mape: float | None
    per_kind: dict[str, KindComparison]
    ranking_tau: float | None = None
    costs: str | None = None
    device: str = ""
    predictor: str = ""
    files: tuple[str, str] | None = None
    others: tuple[tuple[str, str], ...] = ()

    def _in_a_line(self) -> str:
        """Return the errors of step time and memory."""
        time = _shown_error(self.step_time_error) if self.same_device else "not comparable"
        errors = f"step time {time}, peak memory {_shown_error(self.peak_device_error)}"
        return f" of {self.plan_name!r}, predicted against measured: {errors}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per kind of operation.

        Columns: ``kind``; ``count``, its operations; ``predicted_ns`` and ``measured_ns``, their durations' sums;
        ``error``, that of the sums, and ``mape``, the mean absolute one of single operations, as fractions; missing
        where they say nothing.
        """
        return _kinds_frame(self.per_kind)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be said of the two: where the predicted times are an estimate."""
        if self.costs is None or not is_estimate(self.costs):
            return ()
        other = "" if self.same_device else _OTHER_DEVICE
        return (f"The predicted times are not measured but an {self.costs}{other}.",)

    @property
    def sides(self) -> tuple[str, str]:
        """Return what the two are called: A and B where they are no prediction and its measurement."""
        measured = self.device in ("", *MEASURED_SOURCES)
        return ("predicted", "measured") if measured and self.predictor not in MEASURED_SOURCES else ("A", "B")

    @property
    def same_device(self) -> bool:
        """Return whether times compare: not where a GPU's are an estimate and a CPU's were measured."""
        return of_one_device(self.costs, self.device)

    @property
    def step_time_error(self) -> float | None:
        """Return the step time's error; the measured one is the median of timed steps where they are known."""
        return relative_error(self.predicted.step_time_ns, self.measured.step_time_ns)

    @property
    def peak_device_error(self) -> float | None:
        """Return the error of the largest rank's peak device bytes; None where one is not known."""
        predicted, measured = self.predicted.largest_device_bytes, self.measured.largest_device_bytes
        return None if predicted is None or measured is None else relative_error(predicted, measured)

    @property
    def rank_errors(self) -> tuple[float | None, ...]:
        """Return the peak device error of each rank; empty when memory is not known on both sides."""
        predicted, measured = self.predicted.peak_device_bytes, self.measured.peak_device_bytes
        if len(predicted) != len(measured):
            return ()
        return tuple(relative_error(p, m) for p, m in zip(predicted, measured, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as the command line's JSON has it (DESIGN, section 4)."""
        predicted, measured = self.predicted, self.measured
        out: dict[str, Any] = {
            "plan": self.plan_name,
            "step_time_error": self.step_time_error,
            "peak_device_error": self.peak_device_error,
            "op_duration_mape": self.op_duration_mape,
            "per_kind": {name: kind.to_dict() for name, kind in self.per_kind.items()},
            "ranking_tau": self.ranking_tau,
            "costs": self.costs,
            "notes": list(self.notes),
            "ops": self.ops,
            "ops_left_out": self.ops_left_out,
            STEP_TIME: _pair(predicted.step_time_ns, measured.step_time_ns),
            PEAK_DEVICE: _pair(list(predicted.peak_device_bytes), list(measured.peak_device_bytes))
            | {"error": list(self.rank_errors)},
        }
        if predicted.peak_host_bytes is not None and measured.peak_host_bytes is not None:
            out[PEAK_HOST] = _pair(predicted.peak_host_bytes, measured.peak_host_bytes) | {
                "error": relative_error(predicted.peak_host_bytes, measured.peak_host_bytes)
            }
        if predicted.stalls_ns is not None and measured.stalls_ns is not None:
            out["overlap"] = _pair(predicted.overlap, measured.overlap)
            out["stalls_ns"] = {name: _pair(predicted.stalls_ns[name], measured.stalls_ns[name]) for name in STALLS}
        if self.files is not None:
            out["files"] = _pair(*self.files)
        return out


def _pair(predicted: Any, measured: Any) -> dict[str, Any]:
    return {"predicted": predicted, "measured": measured}


def _order_by_id(timeline: Timeline, what: str) -> Ints:
    order = np.argsort(timeline.op, kind="stable")
    ids = timeline.op[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise InputError(f"the {what} timeline has operation {int(ids[twice[0]])} more than once; ids must be distinct")
    return order


def matched_rows(predicted: Timeline, measured: Timeline) -> tuple[Ints, Ints]:
    """Return rows of both that stand for the same operation, by id; InputError when the two are not of one plan."""
    predicted_rows, measured_rows = _order_by_id(predicted, "predicted"), _order_by_id(measured, "measured")
    advice = "compare two timelines of the same plan"
    if len(predicted_rows) != len(measured_rows) or (predicted.op[predicted_rows] != measured.op[measured_rows]).any():
        raise InputError(
            f"the predicted timeline has {len(predicted_rows)} operations of plan {predicted.plan_name!r}, the "
            f"measured one {len(measured_rows)} of plan {measured.plan_name!r}, and their ids differ; {advice}"
        )
    for name in _SAME:
        differs = np.flatnonzero(getattr(predicted, name)[predicted_rows] != getattr(measured, name)[measured_rows])
        if len(differs):
            at = differs[0]
            raise InputError(
                f"operation {int(predicted.op[predicted_rows[at]])} has {name} "
                f"{_shown(predicted, name, predicted_rows[at])} in the predicted and "
                f"{_shown(measured, name, measured_rows[at])} in the measured timeline; {advice}"
            )
    return predicted_rows, measured_rows


def of_one_plan(first: Timeline, second: Timeline) -> bool:
    """Return whether two timelines have the same operations; InputError where one has an operation more than once."""
    _order_by_id(first, "first")
    _order_by_id(second, "second")
    try:
        matched_rows(first, second)
    except InputError:
        return False
    return True


def _shown(timeline: Timeline, name: str, row: int) -> str:
    value = int(getattr(timeline, name)[row])
    return Kind(value).name if name == "kind" else str(value)


def _absolute_errors(predicted: Ints, measured: Ints) -> npt.NDArray[np.float64]:
    """Return each duration's absolute relative error; 0 where both are zero, nan where only the measured is."""
    error = np.where(predicted == 0, 0.0, np.nan)
    np.divide(np.abs(predicted - measured), measured, out=error, where=measured > 0)
    return error


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def operations_frame(predicted: Timeline, measured: Timeline) -> pd.DataFrame:
    """Return one row per operation with its predicted and its measured times; InputError when they do not match.

    Columns: those of :meth:`loadahead.sim.timeline.Timeline.to_pandas` before the times; then ``predicted_start_ns``,
    ``predicted_end_ns``, ``measured_start_ns`` and ``measured_end_ns``, each from its own step's begin.
    """
    rows, others = matched_rows(predicted, measured)
    table = predicted.to_pandas().iloc[rows].reset_index(drop=True)
    table = table.rename(columns={"start_ns": "predicted_start_ns", "end_ns": "predicted_end_ns"})
    return table.assign(measured_start_ns=measured.start_ns[others], measured_end_ns=measured.end_ns[others])


def durations_of(timeline: Timeline, what: str) -> Ints:
    """Return how long each operation takes, in ns; InputError where one ends before it starts."""
    lengths = timeline.end_ns - timeline.start_ns
    if (lengths < 0).any():
        first = int(timeline.op[np.argmin(lengths)])
        raise InputError(f"operation {first} of the {what} timeline ends before it starts")
    return lengths


def compare(predicted: Timeline, measured: Timeline) -> Comparison:
    """Return the comparison, matched by operation id; InputError when they are not timelines of the same plan."""
    rows, others = matched_rows(predicted, measured)
    kinds = predicted.kind[rows]
    predicted_ns = durations_of(predicted, "predicted")[rows]
    measured_ns = durations_of(measured, "measured")[others]
    errors = _absolute_errors(predicted_ns, measured_ns)
    working = ~np.isin(kinds, _NO_DURATION)
    per_kind = {}
    for code in np.unique(kinds).tolist():
        at = kinds == code
        sums = int(predicted_ns[at].sum()), int(measured_ns[at].sum())
        per_kind[Kind(code).name] = KindComparison(
            count=int(at.sum()),
            predicted_ns=sums[0],
            measured_ns=sums[1],
            error=relative_error(*sums),
            mape=_mean(errors[at & working]),
        )
    costs = predicted.header.get("costs")
    return Comparison(
        costs=costs if isinstance(costs, str) else None,
        device=measured.source,
        predictor=predicted.source,
        plan_name=predicted.plan_name,
        predicted=headline(predicted, "the predicted timeline"),
        measured=headline(measured, "the measured timeline"),
        ops=int(working.sum()),
        ops_left_out=int(np.isnan(errors[working]).sum()),
        op_duration_mape=_mean(errors[working]),
        per_kind=per_kind,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonOfMany(Shown):
    """Compares several pairs, each on its own, and says whether the predictions put them in the measured order.

    ``files`` are the directories that they were read from.
    """

    pairs: dict[str, Comparison]
    files: tuple[str, str] | None = None

    def _in_a_line(self) -> str:
        """Return how many pairs there are, and the worst errors of step time and memory."""
        errors = f"step time {_shown_error(self.step_time_error)}, peak memory {_shown_error(self.peak_device_error)}"
        return f": {counted(len(self.pairs), 'pair')}, the worst errors: {errors}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per kind of operation, over all pairs together; columns as :meth:`Comparison.to_pandas`."""
        return _kinds_frame(self.per_kind)

    @property
    def sides(self) -> tuple[str, str]:
        """Return what the two sides are called: A and B unless each pair is a prediction and its measurement."""
        each = {pair.sides for pair in self.pairs.values()}
        return each.pop() if len(each) == 1 else ("A", "B")

    @property
    def step_time_error(self) -> float | None:
        """Return the pairs' worst step time error, by absolute value, with its sign."""
        return _worst([pair.step_time_error for pair in self.pairs.values()])

    @property
    def peak_device_error(self) -> float | None:
        """Return the pairs' worst error of peak device memory, by absolute value, with its sign."""
        return _worst([pair.peak_device_error for pair in self.pairs.values()])

    @property
    def op_duration_mape(self) -> float | None:
        """Return the mean absolute error over the operations of all pairs together."""
        known = [(p.op_duration_mape, p.ops - p.ops_left_out) for p in self.pairs.values()]
        total = sum(count for mape, count in known if mape is not None)
        return sum(mape * count for mape, count in known if mape is not None) / total if total else None

    @property
    def ranking_tau(self) -> float | None:
        """Return Kendall's tau-b of the step times; None below two pairs or when all are equal."""
        return kendall_tau(*self._step_times())

    @property
    def disagreements(self) -> list[tuple[str, str]]:
        """Return names of pairs predicted more than 10 % apart and measured the other way round."""
        names = list(self.pairs)
        return [(names[i], names[j]) for i, j in order_disagreements(*self._step_times())]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be said of the pairs, each sentence once."""
        return tuple(dict.fromkeys(note for pair in self.pairs.values() for note in pair.notes))

    def _step_times(self) -> tuple[list[int], list[int]]:
        pairs = self.pairs.values()
        return [p.predicted.step_time_ns for p in pairs], [p.measured.step_time_ns for p in pairs]

    @property
    def per_kind(self) -> dict[str, KindComparison]:
        """Return sums over the pairs; ``mape`` is weighted by the number of operations."""
        out = {}
        for kind in Kind:
            comparisons = [pair.per_kind[kind.name] for pair in self.pairs.values() if kind.name in pair.per_kind]
            if comparisons:
                out[kind.name] = _merged(comparisons)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as the command line's JSON has it (DESIGN, section 4)."""
        return {
            "step_time_error": self.step_time_error,
            "peak_device_error": self.peak_device_error,
            "op_duration_mape": self.op_duration_mape,
            "per_kind": {name: kind.to_dict() for name, kind in self.per_kind.items()},
            "ranking_tau": self.ranking_tau,
            "notes": list(self.notes),
            "disagreements": [list(names) for names in self.disagreements],
            "pairs": {name: pair.to_dict() for name, pair in self.pairs.items()},
        }


def _worst(errors: list[float | None]) -> float | None:
    return max((error for error in errors if error is not None), key=abs, default=None)


def _merged(comparisons: list[KindComparison]) -> KindComparison:
    predicted, measured = sum(k.predicted_ns for k in comparisons), sum(k.measured_ns for k in comparisons)
    weighed = [(k.mape, k.count) for k in comparisons if k.mape is not None]
    total = sum(count for _, count in weighed)
    return KindComparison(
        count=sum(k.count for k in comparisons),
        predicted_ns=predicted,
        measured_ns=measured,
        error=relative_error(predicted, measured),
        mape=sum(mape * count for mape, count in weighed) / total if total else None,
    )


def compare_many(pairs: Sequence[tuple[Timeline, Timeline]], names: Sequence[str] | None = None) -> ComparisonOfMany:
    """Compare several (predicted, measured) pairs; ``names`` default to their numbers and must be distinct."""
    labels = [str(number) for number in range(len(pairs))] if names is None else list(names)
    if len(labels) != len(pairs) or len(set(labels)) != len(labels):
        raise InputError(f"{len(pairs)} pairs have {len(labels)} names; give each pair one name of its own")
    return ComparisonOfMany(pairs={name: compare(*pair) for name, pair in zip(labels, pairs, strict=True)})


def compare_directories(predicted: str | Path, measured: str | Path) -> ComparisonOfMany:
    """Compare the ``*.jsonl`` timelines that have the same name in both directories; InputError when none has."""
    predicted_files, measured_files = (
        {path.name: path for path in Path(where).glob("*.jsonl")} for where in (predicted, measured)
    )
    names = sorted(predicted_files.keys() & measured_files.keys())
    if not names:
        raise InputError(
            f"{predicted} and {measured} have no *.jsonl file of the same name; "
            "give two directories whose timelines are named alike"
        )
    pairs = [(read_timeline(predicted_files[name]), read_timeline(measured_files[name])) for name in names]
    found = compare_many(pairs, [name.removesuffix(".jsonl") for name in names])
    return replace(found, files=(str(predicted), str(measured)))
