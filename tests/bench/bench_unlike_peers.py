"""How far a folded step is from one in which unlike peers wait: python tests/bench/bench_unlike_peers.py.

The cases are those of tests/property/test_placement.py, 3,000 of them; docs/scenarios.md has what it prints.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from loadahead.sim.engines import simulate
from tests.property.test_placement import drawn
from tests.support.every_gpu import in_step

CASES = 3_000


def main() -> None:
    """Print the shortest and the longest folded step beside the other, and how many differ."""
    random = Random(7)
    ratios = []
    for _ in range(CASES):
        plan, costs = drawn(random)
        ratios.append(simulate(plan, costs).step_time_ns / simulate(*in_step(plan, costs)).step_time_ns)
    shorter, longer = sum(ratio < 1 for ratio in ratios), sum(ratio > 1 for ratio in ratios)
    print(
        f"{CASES} steps: {CASES - shorter - longer} equal; {shorter} shorter, at most by {1 - min(ratios):.1%}; "
        f"{longer} longer, at most by {max(ratios) - 1:.1%}"
    )


if __name__ == "__main__":
    main()
