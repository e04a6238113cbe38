"""How long advice takes: on shared links, for many layers and microbatches, and where no bound orders the horizons."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import loadahead as la
from loadahead.compiling import compile_first
from loadahead.jobs import prepared_of
from loadahead.sim.advice import advise
from tests.times.figure import Figure

ROUNDS = 5
LIMIT_S = 1.0
_DEEP = {
    "model.units_per_stage": 96,
    "parallel.microbatches": 64,
    "parallel.pipeline_parallel_degree": 1,
    "parallel.pipeline": "simple",
}
# A search has to go far where a link is slow, and to look for what is in the way and for other settings.
JOBS = {
    "shared-switch": ("shared-switch", {}),
    "96 layers, 64 microbatches": ("uniform", _DEEP),
    "96 layers, 64 microbatches, a slow link": ("uniform", _DEEP | {"hardware.d2h": "300 MB/s"}),
    "96 layers, 64 microbatches, h2d just too slow": ("uniform", _DEEP | {"hardware.h2d": "480 MB/s"}),
    "96 layers, 64 microbatches, 5 us to issue": ("uniform", _DEEP | {"hardware.launch": "5 us"}),
}


def advice() -> Sequence[Figure]:
    """The advice alone, its scenario prepared and everything compiled."""
    compile_first()
    la.advise("uniform")
    figures = []
    for name, (scenario, changes) in JOBS.items():
        prepared = prepared_of(scenario, changes)
        assert prepared.costs is not None
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter_ns()
            assert advise(prepared.workload, prepared.costs, prepared.policy) is not None
            times.append(float(time.perf_counter_ns() - began))
        wanted = f"median at most {LIMIT_S:g} s"
        figures.append(
            Figure(name=name, measured=times, wanted=wanted, holds=statistics.median(times) <= LIMIT_S * 1e9)
        )
    return figures
