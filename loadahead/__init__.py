"""Plan, predict and run activation offloading for pipeline-parallel training."""

from __future__ import annotations

__version__ = "0.1.0"
