"""The horizons that a tuned plan must not be worse than are timed here; the best of them is also where a search starts.

They are those that users try: 1 to 24 in tasks and 1 to 16 in layers, with release windows 1 to 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.planner import Policy
from loadahead.sim.planner.horizon import decide
from loadahead.sim.tuning.answer import Candidate
from loadahead.sim.tuning.trial import Trial

HORIZONS = {"tasks": range(1, 25), "layers": range(1, 17)}
WINDOWS = range(1, 9)


def policies(base: Policy) -> Iterator[Policy]:
    """Yield the policies of all horizons and release windows that are looked at."""
    for unit, horizons in HORIZONS.items():
        for window in WINDOWS:
            for horizon in horizons:
                yield replace(base, horizon_unit=unit, horizon=horizon, release_window=window, offload=True)


def horizon_candidates(trial: Trial) -> list[Candidate]:
    """Return the plan of each horizon that can be timed; of those with equal decisions the first alone."""
    tasks, out, seen = trial.tasks, [], set()
    for policy in policies(trial.policy):
        release, acquire = (np.empty(tasks.boundaries, dtype=np.int64) for _ in range(2))
        settings = (policy.horizon, policy.horizon_unit == "layers", policy.release_window, policy.min_bytes, True)
        decide(tasks.columns(), trial.sizes, tasks.microbatches, *settings, release, acquire)
        key = (release.tobytes(), acquire.tobytes())
        if key not in seen:
            seen.add(key)
            with suppress(InputError):  # its figures leave what 64 bits hold
                out.append(trial.candidate(release, acquire, policy))
    return out
