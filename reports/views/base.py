"""Defines what comes back where there is nothing to show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Says why there is nothing to show."""

    title: str
    reason: str
