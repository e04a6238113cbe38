"""Random seeds that depend on what is run, never on when."""

from __future__ import annotations

_PRIME, _BASE = 2**61 - 1, 1_000_003


def seed_of(*parts: int) -> int:
    """A seed from e.g. (seed, step, stage, unit, microbatch); neighbours get unrelated ones.

    A polynomial hash over a prime field, scrambled once more since generators take few bits of a seed at a time.
    """
    value = 1
    for part in parts:
        value = (value * _BASE + part + 1) % _PRIME
    return pow(value, 3, _PRIME)
