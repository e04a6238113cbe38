"""Host time of a step, ours beside torch's checkpointing: python tests/bench/bench_host.py.

On a small model a GPU waits for the host, so what the host takes per unit is what a step takes. Here the CUDA backend
runs on a driver whose calls do nothing, and both sides' operators on CPU tensors too small to matter. In one process,
in turns; ratios say more than either side.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.links import Links
from loadahead.executor.model.spec import CPU, ModelSpec
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.training import PeerTraining, passes_of
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.torch_settings import single_threaded, without_garbage_collection
from loadahead.executor.training.session import Session
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, tiny_spec, workload_of

SIZE = {"blocks": 8, "width": 16, "heads": 2, "context": 8, "batch": 1, "dropout": 0.0}
MICROBATCHES, ROUNDS = 8, 15


class IdleDriver:
    """A device that takes no calls and no time."""

    device = CPU

    def stream(self, queue: Any) -> Any:
        return None

    def event(self, *, timing: bool) -> Any:
        return None

    @contextmanager
    def using(self, stream: Any) -> Iterator[None]:
        yield

    def enter(self, stream: Any) -> Any:
        return None

    def switch(self, stream: Any) -> None:
        return None

    def leave(self, previous: Any) -> None:
        return None

    def record(self, event: Any, stream: Any) -> None:
        return None

    def wait(self, stream: Any, event: Any) -> None:
        return None

    def elapsed_ns(self, start: Any, end: Any) -> int:
        return 0

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source)

    def spin(self, nanoseconds: int) -> None:
        return None

    def synchronize(self) -> None:
        return None

    def host_ns(self) -> int:
        return time.perf_counter_ns()

    def pin(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8)

    def unpin(self, slab: torch.Tensor) -> None:
        return None


def ours(spec: ModelSpec, workload: Workload, offload: bool) -> Operations:
    plan = build_plan(workload, Policy(ranks=1, microbatches=MICROBATCHES, horizon=2, offload=offload))
    backend = CudaBackend(driver=IdleDriver())  # type: ignore[arg-type]
    return Operations(plan, Session(spec, workload, (0,), microbatches=MICROBATCHES), backend, Links.of(HARDWARE))


def main() -> None:
    """Print milliseconds of a step and the ratios."""
    spec = tiny_spec(options=SIZE)
    workload = workload_of(spec)
    runs = {"ours, offloading": ours(spec, workload, True), "ours, keeping all": ours(spec, workload, False)}
    passes = passes_of(runs["ours, offloading"].plan)
    peer = PeerTraining(PEERS["none"], spec, workload, passes, CPU, seeded=False)
    times: dict[str, list[int]] = {name: [] for name in (*runs, "torch checkpoint")}
    with single_threaded():
        for step in range(ROUNDS + 2):
            for name, operations in runs.items():
                batches = operations.session.batches(step, MICROBATCHES)
                with without_garbage_collection():
                    began = time.perf_counter_ns()
                    replay(operations, step, batches, timed=False)
                    times[name].append(time.perf_counter_ns() - began)
            batches = peer.batches(step)
            with without_garbage_collection():
                times["torch checkpoint"].append(peer.train(step, batches)[1])
    theirs = statistics.median(times["torch checkpoint"][2:])
    for name, found in times.items():
        median = statistics.median(found[2:])
        print(f"{name:20} {median / 1e6:8.2f} ms a step, {median / theirs:5.3f} of torch's")


if __name__ == "__main__":
    main()
