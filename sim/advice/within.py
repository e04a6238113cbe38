"""What a plan may take to be advised is said here, once: how much longer a step, and how much of the host."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from loadahead.sim.units import format_beyond, format_duration

# A step that is at most this share longer than that of keeping all on the device counts as no longer.
WITHIN = Fraction(1, 100)


def limit_ns(keep_all_ns: int) -> int:
    """Return the longest step in ns that counts as no longer than one of ``keep_all_ns``."""
    return int(keep_all_ns * (1 + WITHIN))


def slower(step_time_ns: int, keep_all_ns: int) -> float | None:
    """Return by which share a step is longer than keeping all; below 0 where it is shorter.

    None comes back where keeping all takes no time: there is nothing to have a share of.
    """
    return (step_time_ns - keep_all_ns) / keep_all_ns if keep_all_ns else None


def slower_text(step_time_ns: int, keep_all_ns: int, within: float = float(WITHIN)) -> str:
    """Return in words how much longer a step is than keeping all; both times where there is no share.

    ``within`` is the limit that the share is told beside.
    """
    share = slower(step_time_ns, keep_all_ns)
    if share is None:
        return f"{format_duration(step_time_ns)} instead of {format_duration(keep_all_ns)}"
    return format_beyond(share, within)


@dataclass(frozen=True, slots=True)
class Limits:
    """Holds the longest step in ns, and the most memory of a host in bytes; None: as much as it takes."""

    step_time_ns: int
    host_bytes: int | None

    def allow(self, step_time_ns: int, host_bytes: int) -> bool:
        """Return whether a plan that takes this may be advised."""
        return step_time_ns <= self.step_time_ns and (self.host_bytes is None or host_bytes <= self.host_bytes)
