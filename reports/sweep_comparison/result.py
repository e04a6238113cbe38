"""What a comparison of two sweeps holds. Changes go from the first sweep, A, to the second, B: below 0 is less in B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadahead.reports.statistics import relative_error
from loadahead.reports.sweep_facts import SweepFacts
from loadahead.sim.choice import Choice, gpu_ns_per_microbatch
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import SweepRow

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSide:
    """Holds one of the two sweeps: what it is called, its rows, and what it says of itself where that is known."""

    name: str
    rows: tuple[SweepRow, ...]
    facts: SweepFacts | None = None

    @property
    def model_axes(self) -> tuple[str, ...]:
        """Return the axes beside those under ``model.`` that make the model another one."""
        return () if self.facts is None else self.facts.model_axes


@dataclass(frozen=True, slots=True, kw_only=True)
class PointChange:
    """Holds one point that both sweeps have: the values of the axes by which it is matched, and both rows."""

    axes: Mapping[str, Any]
    a: SweepRow
    b: SweepRow

    @property
    def step_time(self) -> float | None:
        """Return the step time's change as a share of A's; None where A's takes no time."""
        return relative_error(self.b.step_time_ns, self.a.step_time_ns)

    @property
    def gpu_time(self) -> float | None:
        """Return the change of the GPU-time per microbatch, as a share of A's: by it points count as gains or losses.

        It is the step time's wherever neither the microbatches nor the GPUs changed.
        """
        before = gpu_ns_per_microbatch(self.a)
        return gpu_ns_per_microbatch(self.b) / before - 1 if before else None

    @property
    def peak_device_bytes(self) -> int:
        """Return how many bytes of device memory more B needs."""
        return self.b.peak_device_bytes - self.a.peak_device_bytes

    @property
    def host_bytes(self) -> int:
        """Return how many bytes of host memory more B needs."""
        return self.b.host_bytes - self.a.host_bytes

    @property
    def offloaded(self) -> int:
        """Return how many boundaries more B offloads."""
        return self.b.offloaded - self.a.offloaded

    @property
    def overlap(self) -> float | None:
        """Return by how much more copies overlap in B, as a share; None where one of both copies nothing."""
        return self.b.overlap - self.a.overlap if self.a.offloaded and self.b.offloaded else None

    @property
    def became_to_fit(self) -> bool:
        """Return whether the point fits in B and did not in A."""
        return self.b.fits and not self.a.fits

    @property
    def no_longer_fits(self) -> bool:
        """Return whether the point fitted in A and does not in B."""
        return self.a.fits and not self.b.fits

    @property
    def is_moved(self) -> bool:
        """Return whether any metric, or what there is room for, differs."""
        return any(self.a[name] != self.b[name] for name in self.b if name not in self.b.axes)

    def to_dict(self) -> dict[str, Any]:
        """Return the point as the command line's JSON has it."""
        return {
            "axes": dict(self.axes),
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "step_time_change": self.step_time,
            "gpu_time_change": self.gpu_time,
            "peak_device_bytes_change": self.peak_device_bytes,
            "host_bytes_change": self.host_bytes,
            "overlap_change": self.overlap,
            "offloaded_change": self.offloaded,
            "became_to_fit": self.became_to_fit,
            "no_longer_fits": self.no_longer_fits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BestChange:
    """Holds the choices of one model in both sweeps, and the rows that they are of.

    ``model`` is what tells it from others, empty where it is one.
    """

    model: Mapping[str, Any]
    a: Choice
    b: Choice
    rows_a: tuple[SweepRow, ...]
    rows_b: tuple[SweepRow, ...]

    @property
    def change(self) -> PointChange:
        """Return how B's row, which may be another point, differs from A's."""
        return PointChange(axes=self.model, a=self.a.row, b=self.b.row)

    def to_dict(self) -> dict[str, Any]:
        """Return both choices as the command line's JSON has them."""
        both = self.change.to_dict() | {"a_fits": self.a.fits, "b_fits": self.b.fits}
        return {"model": both.pop("axes"), **both}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontChange:
    """Holds how one model's front differs: rows of A's front that are not on B's, and rows of B's that were not on A's.

    Fronts are of GPU-time per microbatch and peak device memory, of what fits. A row that the other sweep does not
    have joined or left with the row itself.
    """

    model: Mapping[str, Any]
    stayed: int
    joined: tuple[SweepRow, ...]
    left: tuple[SweepRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the changes as the command line's JSON has them."""
        return {
            "model": dict(self.model),
            "stayed": self.stayed,
            "joined": [row.to_dict() for row in self.joined],
            "left": [row.to_dict() for row in self.left],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FactDifference:
    """Says what the sweeps were made with that differs: a scenario's key, the costs, the engine, the version.

    None stands where one has no such key.
    """

    what: str
    a: Any
    b: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as the command line's JSON has it."""
        return {"what": self.what, "a": self.a, "b": self.b}


def _in_columns(point: PointChange) -> dict[str, Any]:
    told = point.to_dict()
    del told["a"], told["b"]
    metrics = [name for name in point.a if name not in point.a.axes]
    sides = {side + name: row[name] for side, row in (("a_", point.a), ("b_", point.b)) for name in metrics}
    return {**told.pop("axes"), **sides, **told}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepComparison(Shown):
    """Compares two sweeps.

    Attributes:
        a, b: the sweeps.
        matched_by: the axes by which points are matched.
        fixed: axes that one sweep alone has, with the value at which it is matched: the other's own.
        ignored: axes that one sweep alone has with one value, of which the other does not say what it has.
        apart: axes that one sweep alone has, none of whose values is known to be the other's, with the other's, None
            where it does not say it: nothing is matched then.
        points: the points that both have, in A's order.
        only_a, only_b: the rows that the other sweep does not have.
        best: how the choice moved, for each model that both have.
        fronts: how the front moved, for each model that both have.
        differences: what the two were made with that differs.
        other_models: what A and B are of where these are different models; None where they are not known to be.
        sentences: all that in words, the answer first.
    """

    a: SweepSide
    b: SweepSide
    matched_by: tuple[str, ...]
    fixed: Mapping[str, Any]
    ignored: tuple[str, ...]
    apart: Mapping[str, Any]
    points: tuple[PointChange, ...]
    only_a: tuple[SweepRow, ...]
    only_b: tuple[SweepRow, ...]
    best: tuple[BestChange, ...]
    fronts: tuple[FrontChange, ...]
    differences: tuple[FactDifference, ...]
    other_models: tuple[str, str] | None = None
    sentences: tuple[str, ...] = ()

    def _in_a_line(self) -> str:
        """Return both names, and the answer."""
        return f" of A, {self.a.name}, and B, {self.b.name}: {self.sentences[0]}"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per point that both sweeps have, in A's order.

        Columns: the axes by which points are matched; each metric as ``a_NAME`` and ``b_NAME``; then the changes from A
        to B, as JSON has them: ``step_time_change`` and ``gpu_time_change`` as shares of A's, ``overlap_change`` in
        shares, ``peak_device_bytes_change``, ``host_bytes_change`` and ``offloaded_change``; ``became_to_fit`` and
        ``no_longer_fits``.
        """
        import pandas as pd

        rows = [_in_columns(point) for point in self.points]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(self.matched_by))

    @property
    def moved(self) -> tuple[PointChange, ...]:
        """Return the points of which any number differs."""
        return tuple(point for point in self.points if point.is_moved)

    def gains(self, most: int = 5) -> tuple[PointChange, ...]:
        """Return the points whose GPU-time per microbatch fell most, by the share."""
        return tuple(sorted(self._with(-1), key=lambda point: point.gpu_time or 0.0)[:most])

    def losses(self, most: int = 5) -> tuple[PointChange, ...]:
        """Return the points whose GPU-time per microbatch rose most, by the share."""
        return tuple(sorted(self._with(1), key=lambda point: -(point.gpu_time or 0.0))[:most])

    def _with(self, sign: int) -> list[PointChange]:
        return [point for point in self.points if (point.gpu_time or 0.0) * sign > 0]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as the command line's JSON has it, in words and with every point."""
        return {
            "sentences": list(self.sentences),
            "a": self.a.name,
            "b": self.b.name,
            "matched_by": list(self.matched_by),
            "fixed": dict(self.fixed),
            "ignored": list(self.ignored),
            "apart": dict(self.apart),
            "other_models": None if self.other_models is None else list(self.other_models),
            "best": [one.to_dict() for one in self.best],
            "fronts": [one.to_dict() for one in self.fronts],
            "differences": [one.to_dict() for one in self.differences],
            "points": [point.to_dict() for point in self.points],
            "only_a": [row.to_dict() for row in self.only_a],
            "only_b": [row.to_dict() for row in self.only_b],
        }
