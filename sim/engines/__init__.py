"""Engines run a plan on a clock, and are known by name.

To add one, write its file and add its line in ``simulate.py``; the tests run over the registry.
"""

from __future__ import annotations

from loadahead.sim.engines.base import Engine, Times
from loadahead.sim.engines.simulate import DEFAULT_ENGINE, ENGINES, find_engine, over_capacity, simulate

__all__ = ["DEFAULT_ENGINE", "ENGINES", "Engine", "Times", "find_engine", "over_capacity", "simulate"]
