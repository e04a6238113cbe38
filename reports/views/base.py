"""Defines what comes back where there is nothing to show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Says why there is nothing to show; ``absent``: what it needs is not there at all, which is said once for all."""

    title: str
    reason: str
    absent: bool = False
