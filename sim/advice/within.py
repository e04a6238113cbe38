"""How much longer than without offloading a step may take and still count as no longer is said here, once."""

from __future__ import annotations

from fractions import Fraction

# A step that is at most this share longer than that of keeping all on the device counts as no longer.
WITHIN = Fraction(1, 100)


def limit_ns(keep_all_ns: int) -> int:
    """Return the longest step in ns that counts as no longer than one of ``keep_all_ns``."""
    return int(keep_all_ns * (1 + WITHIN))
