"""A stage's copies over its computing, the field's ratio k and its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """Holds a stage's copies over its computing, for one microbatch; None where it computes in no time.

    Attributes:
        k: copies out and back over forward, recompute and backward.
        alone: the same where no other GPU copies and each direction has the link to itself.
        out: copies out over forward.
        back: copies back over recompute and backward.
        busier_direction: copies out, or back where these take longer, over forward, recompute and backward.
    """

    k: float | None
    alone: float | None
    out: float | None
    back: float | None
    busier_direction: float | None

    @property
    def each_behind_its_own(self) -> bool:
        """Return whether copies out take no longer than forwards, and copies back no longer than what they are for."""
        return self.out is not None and self.back is not None and self.out <= 1 and self.back <= 1
