"""Makes a run directory's page."""

from __future__ import annotations

from loadahead.reports.page.write import write_report

__all__ = ["write_report"]
