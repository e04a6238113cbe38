"""How long 200,000 operations take to export, and that they read back as the timeline: bench_export.py.

What is read back is compared as the tests do it, which takes longer than to write it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from loadahead.reports.exports import MEMORY_VIZ, TRACE_WRITERS
from loadahead.reports.exports.memory_viz import write_memory_viz
from loadahead.reports.exports.sides import side_of
from loadahead.reports.exports.tracks import trace_of
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.timeline import Timeline
from tests.support.plans import uniform_costs, uniform_plan
from tests.support.traces import READ, require_arrows, require_counters, require_slices

RANKS, UNITS, MICROBATCHES = 8, 8, 404
# The limit that exports are held to.
MOST_SECONDS = 30


def written(to: str, timeline: Timeline, costs: Costs, path: Path) -> None:
    """Write one format, and compare what is read back."""
    plan = timeline.plan
    assert plan is not None
    began = time.perf_counter()
    if to == MEMORY_VIZ:
        what = f"{write_memory_viz(plan, costs, timeline, path)} allocations"
    else:
        trace = trace_of((side_of(timeline, costs),), plan.name)
        TRACE_WRITERS[to](trace, path)
        what = f"{trace.slice_count} slices, {trace.flow_count} arrows, {trace.sample_count} values of counters"
    seconds = time.perf_counter() - began
    late = "" if seconds < MOST_SECONDS else f", MORE than {MOST_SECONDS} s"
    print(f"{to}: {seconds:.1f} s{late}, {path.stat().st_size / 1e6:.0f} MB: {what}")
    if to in READ:
        shown = READ[to](path)
        require_slices(shown, plan, timeline, costs)
        require_arrows(shown, plan, timeline, costs)
        require_counters(shown, plan, timeline)
        print(f"{to}: reads back as the timeline")


def main() -> None:
    """Print two lines for each trace, and one for the snapshot."""
    costs = uniform_costs(RANKS, UNITS, p2p_latency_ns=1000)
    timeline = simulate(uniform_plan(RANKS, UNITS, MICROBATCHES, pipeline="interleaved", horizon=2), costs)
    print(f"{len(timeline)} operations on {RANKS} ranks")
    with tempfile.TemporaryDirectory() as folder:
        for to in (*TRACE_WRITERS, MEMORY_VIZ):
            written(to, timeline, costs, Path(folder) / to)


if __name__ == "__main__":
    main()
