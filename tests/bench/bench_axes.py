"""Points per second of sweeps over policies, links and models, and seconds to plan many ranks: bench_axes.py.

GPT-3 175B on 8 ranks, 64 microbatches: 98 units, plans of some 40,000 operations. How long a point's step takes to walk
through depends on how many boundaries are offloaded. The policies swept offload more or fewer than the one policy of
the other axes' points, which is near their middle: how many an axis offloads on average is printed, and its walks take
the same time within a few percent. Seconds are those of this process's CPU, best of a few rounds in which the axes take
turns, with compiled code warm; the ratios within one run say more than either of their sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import loadahead as la

ROUNDS = 7
PLANS = 3
POINTS = 200
GPT: dict[str, Any] = {
    "name": "gpt3-175b",
    "model": {"kind": "transformer", "preset": "gpt3-175b"},
    "hardware": {"preset": "h100-sxm"},
    "parallel": {"microbatches": 64, "pipeline_parallel_degree": 8, "tensor_parallel_degree": 8},
    "offload": {"activation_loading_horizon": 10, "release_window": 5},
}
AXES: dict[str, Mapping[str, Sequence[Any]]] = {
    "policy": {"horizon": range(1, 21), "release_window": range(1, POINTS // 20 + 1)},
    "link": {"hardware.d2h": [f"{100 + i} GB/s" for i in range(POINTS)]},
    "model": {"model.microbatch_size": range(1, POINTS + 1)},
}
MANY_RANKS = 1024
# A layer each, and an embedding and a head beside them.
DEEP = GPT | {
    "model": {
        "kind": "transformer",
        "layers": 1024,
        "hidden": 4096,
        "heads": 32,
        "sequence": 2048,
        "vocabulary": 50_000,
    }
}
UNIFORM = {
    "name": "uniform",
    "model": {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB"},
    "hardware": {"d2h": "10 GB/s", "h2d": "10 GB/s"},
}
PLANNED = {"uniform, 1 unit each": UNIFORM, "transformer of 1024 layers": DEEP}


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds that the work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    offloaded: dict[str, float] = {}
    for name, axes in AXES.items():
        rows = la.sweep(GPT, axes).rows
        offloaded[name] = sum(row.offloaded for row in rows) / POINTS
    rounds = [
        {name: seconds(lambda axes=axes: la.sweep(GPT, axes)) for name, axes in AXES.items()} for _ in range(ROUNDS)
    ]
    best = {name: min(taken[name] for taken in rounds) for name in AXES}
    for name, taken in best.items():
        rate, each, ratio = POINTS / taken, 1e6 * taken / POINTS, best["policy"] / taken
        print(
            f"sweep over a {name} axis, {offloaded[name]:.0f} boundaries offloaded: {rate:,.0f} configurations/s, "
            f"{each:.0f} µs each, {ratio:.2f} times policy's"
        )
    for name, scenario in PLANNED.items():
        many = scenario | {"parallel": {"pipeline_parallel_degree": MANY_RANKS}}
        # Each round has a plan of its own, as plans that were proven are remembered.
        different = [{"parallel.microbatches": 8 + number} for number in range(PLANS)]
        taken = min(seconds(lambda many=many, more=more: la.plan(many, more)) for more in different)
        print(f"plan of {MANY_RANKS} ranks, 8 microbatches, {name}: {taken:.2f} s")


if __name__ == "__main__":
    main()
