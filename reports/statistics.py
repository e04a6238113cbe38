"""Computes small statistics with their edge cases decided: relative errors, rank agreement, spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from loadahead.sim.errors import InputError

# A value is far from the others where its modified z-score, 0.6745 times its distance from the median over the median
# of all distances, is above 3.5 (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, section 3.3).
_Z_OF_MAD, FAR = 0.6745, 3.5
# Nearer than this share of the median is not told, however close the others lie together: predictions are held to 10 %.
LEAST_FAR = 0.05
# pyperf calls a result unstable when the standard deviation exceeds 10 % of the mean.
UNSTABLE = 0.10
# Halves of a run whose medians are further apart than this share drift: a fifth of what counts as unstable.
DRIFT = UNSTABLE / 5
FEW_SAMPLES = 5


def relative_error(predicted: float, measured: float) -> float | None:
    """Return ``(predicted - measured) / measured``: positive when the prediction is too high.

    0.0 when both are zero; None when only the measurement is, since there is nothing to relate the error to.
    """
    if measured:
        return float((predicted - measured) / measured)
    return None if predicted else 0.0


def _as_array(values: Sequence[float], what: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{what} values hold {array[~np.isfinite(array)][0]}; finite numbers are needed")
    return array


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two sequences: 1.0 for the same order, -1.0 for the reverse, ties taken into account.

    None where it is undefined: fewer than two points, or all values of one side equal. Raises InputError for sequences
    of different lengths, and for numbers that are not finite.
    """
    if len(predicted) != len(measured):
        raise InputError(f"{len(predicted)} predictions and {len(measured)} measurements; give as many of either")
    x, y = _as_array(predicted, "predicted"), _as_array(measured, "measured")
    above = np.triu_indices(len(x), k=1)
    dx = np.sign(x[:, None] - x[None, :])[above]
    dy = np.sign(y[:, None] - y[None, :])[above]
    # Tau-b divides by the geometric mean of the numbers of pairs that are not tied, on either side.
    free = float(np.count_nonzero(dx)) * float(np.count_nonzero(dy))
    return float((dx * dy).sum() / np.sqrt(free)) if free else None


def order_disagreements(
    predicted: Sequence[float], measured: Sequence[float], margin: float = 0.10
) -> list[tuple[int, int]]:
    """Return pairs (i, j) that are predicted more than ``margin`` apart and measured the other way round.

    The margin is relative to the smaller of the two predictions; closer predictions claim no order.
    """
    out = []
    for i, j in combinations(range(len(predicted)), 2):
        low, high = (i, j) if predicted[i] <= predicted[j] else (j, i)
        if predicted[high] > predicted[low] * (1 + margin) and measured[high] < measured[low]:
            out.append((i, j))
    return out


def rank_agreement(predicted: Sequence[float], measured: Sequence[float], margin: float) -> tuple[int, int]:
    """Return pairs in the predicted order less pairs in the other, and how many pairs count.

    The quotient is Kendall's tau. A pair counts where its predictions are further apart than ``margin``, relative to
    the smaller.
    """
    agreed = pairs = 0
    for i, j in combinations(range(len(predicted)), 2):
        low, high = (i, j) if predicted[i] <= predicted[j] else (j, i)
        if predicted[high] > predicted[low] * (1 + margin):
            pairs += 1
            agreed += (measured[high] > measured[low]) - (measured[high] < measured[low])
    return agreed, pairs


def far_from_median(samples: Sequence[float]) -> list[int]:
    """Return the places of samples that lie far from the median; none of fewer than :data:`FEW_SAMPLES`."""
    if len(samples) < FEW_SAMPLES:
        return []
    values = _as_array(samples, "sample")
    middle = float(np.median(values))
    distances = np.abs(values - middle)
    far = (_Z_OF_MAD * distances > FAR * float(np.median(distances))) & (distances > LEAST_FAR * middle)
    return [int(place) for place in np.flatnonzero(far)]


def drift(samples: Sequence[float]) -> float | None:
    """Return by which share the median of the second half is above that of the first; None of too few samples.

    Of an odd number the middle one is in neither. Each half needs at least three.
    """
    half = len(samples) // 2
    if half < 3:
        return None
    values = _as_array(samples, "sample")
    first, second = float(np.median(values[:half])), float(np.median(values[-half:]))
    return second / first - 1 if first else None


def middle_half(samples: Sequence[float]) -> tuple[float, float]:
    """Return the quartiles between which the middle half of the samples lies, by linear interpolation."""
    low, high = np.quantile(_as_array(samples, "sample"), [0.25, 0.75])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Holds repeated measurements of one thing, in their unit. ``deviation`` is the sample standard deviation."""

    count: int
    lowest: float
    median: float
    highest: float
    deviation: float

    @property
    def relative(self) -> float:
        """Return ``deviation / median``; 0.0 for a median of 0."""
        return self.deviation / self.median if self.median else 0.0

    @property
    def unstable(self) -> bool:
        """Return whether the relative deviation is above :data:`UNSTABLE`."""
        return self.relative > UNSTABLE


def spread(samples: Sequence[float]) -> Spread | None:
    """Return count, range, median and deviation; None without samples."""
    if not len(samples):
        return None
    values = _as_array(samples, "sample")
    return Spread(
        count=len(values),
        lowest=float(values.min()),
        median=float(np.median(values)),
        highest=float(values.max()),
        deviation=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    )
