"""Times steps of one tree of Loadahead on an idle GPU, a round for each line that it reads; bench_host.py asks.

It runs under a tree of today or one from before the executor had rooms, and imports what both have from either place.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from idle_cuda import IdleCuda

SIZE = {"blocks": 8, "width": 16, "heads": 2, "context": 8, "batch": 1, "dropout": 0.0}
MICROBATCHES, HORIZON = 8, 2
WARM_UP, COUNTED = 2, 20
# Kinds of run of ours by the names that answers have; a tree without lean units has no run of that kind.
OURS = {"offloading": {}, "keeping": {"offload": False}, "lean": {"lean": True}}
# Calls of the driver that are not about streams and events.
NOT_STREAMS = {"copy", "host_ns"}


def found(name: str, *modules: str) -> Any:
    """Return a name of Loadahead from the first of these modules that there is."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"loadahead.{module}"), name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"this tree has {name} in none of {', '.join(modules)}")


Operations = found("Operations", "executor.replay.operations", "executor.operations")
replay = found("replay", "executor.replay.loop", "executor.replay")
Session = found("Session", "executor.training.session", "executor.session")
CPU = found("CPU", "executor.model.spec", "executor.spec")
CudaBackend = found("CudaBackend", "executor.backends.cuda")
TorchDriver = found("TorchDriver", "executor.cuda.driver")
Links = found("Links", "executor.links")
PEERS = found("PEERS", "executor.peers")
PeerTraining = found("PeerTraining", "executor.peers.training")
passes_of = found("passes_of", "executor.peers.training")
single_threaded = found("single_threaded", "executor.torch_settings")
without_garbage_collection = found("without_garbage_collection", "executor.torch_settings")
Policy, build_plan = found("Policy", "sim.planner"), found("build_plan", "sim.planner")
models = importlib.import_module("tests.support.models")

IDLE = IdleCuda()
STREAMS: dict[Any, Any] = {}


class IdleDriver(TorchDriver):  # type: ignore[misc,valid-type]
    """Is the tree's own driver over :class:`IdleCuda`; what would need memory of a GPU does without."""

    def __init__(self) -> None:
        with IDLE.installed():
            super().__init__()
        self.device = CPU

    def stream(self, queue: Any) -> Any:
        if queue not in STREAMS:
            STREAMS[queue] = IDLE.stream(int(queue))
        return STREAMS[queue]

    def enter(self, stream: Any) -> Any:
        previous = torch.cuda.current_stream()  # torch has no current one of a CPU
        torch.cuda.set_stream(stream)
        return previous

    def elapsed_ns(self, start: Any, end: Any) -> int:
        return 0

    def spin(self, nanoseconds: int) -> None:
        return None

    def synchronize(self) -> None:
        return None

    def pin(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8)

    def unpin(self, slab: torch.Tensor) -> None:
        return None


class _WatchedContext:
    """Times entering and leaving, not what runs inside."""

    def __init__(self, watched: Watched, context: AbstractContextManager[Any]) -> None:
        self._watched, self._context = watched, context

    def __enter__(self) -> Any:
        return self._watched.timed(self._context.__enter__)

    def __exit__(self, *error: Any) -> Any:
        return self._watched.timed(self._context.__exit__, *error)


class Watched:
    """Is a driver whose calls are counted and timed."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.ns, self.calls = 0, Counter[str]()

    def timed(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call, and add the time it takes."""
        began = time.perf_counter_ns()
        out = call(*args, **more)
        self.ns += time.perf_counter_ns() - began
        return out

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._driver, name)
        if not callable(value):
            return value

        def watched(*args: Any, **more: Any) -> Any:
            self.calls[name] += 1
            if name in NOT_STREAMS:
                return value(*args, **more)
            out = self.timed(value, *args, **more)
            # A stream is a context too, and is handed to torch as it is.
            context = hasattr(out, "__enter__") and not isinstance(out, torch.Stream)
            return _WatchedContext(self, out) if context else out

        return watched


@dataclass(frozen=True, slots=True)
class Ours:
    """Is a plan bound to a model."""

    session: Any
    operations: Any

    def replay(self, step: int) -> int:
        """Run a step, timed as a whole; return the ns of this process's CPU that it takes."""
        batches = self.session.batches(step, MICROBATCHES)
        with without_garbage_collection():
            began = time.process_time_ns()
            replay(self.operations, step, batches, timed=False)
            return time.process_time_ns() - began

    def issue_us(self, step: int) -> dict[str, float]:
        """Run a step, and return the median µs that the host takes to issue an operation, by kind."""
        batches = self.session.batches(step, MICROBATCHES)
        with without_garbage_collection():
            taken = replay(self.operations, step, batches, timed=False).measured.issue_ns
        by_kind: dict[str, list[int]] = {}
        for op, ns in zip(self.operations.plan, taken.tolist(), strict=True):
            by_kind.setdefault(op.kind.name, []).append(ns)
        return {kind: statistics.median(own) / 1e3 for kind, own in by_kind.items()}

    @property
    def lean(self) -> int:
        """How many units are checkpointed the lean way."""
        units = getattr(self.session, "in_units", self.session).units.values()
        return sum(getattr(unit, "lean", False) for unit in units)


class Bench:
    """Holds the kinds of run that a tree has, and runs steps of them."""

    def __init__(self) -> None:
        self.spec = models.tiny_spec(options=SIZE)
        self.workload = models.workload_of(self.spec)
        self.runs = {name: run for name, how in OURS.items() if (run := self.ours(IdleDriver(), **how)) is not None}
        passes = passes_of(self.runs["offloading"].operations.plan)
        self.peer = PeerTraining(PEERS["none"], self.spec, self.workload, passes, CPU, seeded=False)
        self.step = 0

    def ours(self, driver: Any, offload: bool = True, lean: bool = False) -> Ours | None:
        """Return a run of ours; None where the tree has no lean one."""
        policy = Policy(ranks=1, microbatches=MICROBATCHES, horizon=HORIZON, offload=offload)
        if lean and "lean" not in signature(Session).parameters:
            return None
        keys = [(stage, unit) for stage, own in enumerate(self.workload.stages) for unit in range(len(own))]
        more = {"lean": keys} if lean else {}
        session = Session(self.spec, self.workload, (0,), microbatches=MICROBATCHES, **more)
        # A tree of today has the model in units apart from what trains it.
        bound = (session.in_units, session) if hasattr(session, "in_units") else (session,)
        with IDLE.installed():
            plan, backend = build_plan(self.workload, policy), CudaBackend(driver=driver)
            return Ours(session, Operations(plan, *bound, backend, Links.of(models.HARDWARE)))

    def facts(self) -> dict[str, Any]:
        """Return how large the plans are."""
        plans = {name: run.operations.plan for name, run in self.runs.items()}
        copied = [op for op in plans["offloading"] if op.kind.name == "OFFLOAD"]
        return {
            "operations": {name: len(plan) for name, plan in plans.items()},
            "offloaded": len(copied),
            "boundary_bytes": max(op.nbytes for op in copied),
            "units": sum(len(stage) for stage in self.workload.stages),
            "lean": self.runs["lean"].lean if "lean" in self.runs else None,
            "microbatches": MICROBATCHES,
            "torch": torch.__version__,
        }

    def theirs(self, step: int) -> int:
        """Return those that torch's checkpoint takes; it does not ask for streams."""
        batches = self.peer.batches(step)
        with without_garbage_collection():
            began = time.process_time_ns()
            self.peer.train(step, batches)
            return time.process_time_ns() - began

    def round(self) -> dict[str, int]:
        """Run a step of each kind, in turns."""
        self.step += 1
        with IDLE.installed():
            own = {name: run.replay(self.step) for name, run in self.runs.items()}
        return own | {"checkpoint": self.theirs(self.step)}

    def issued(self) -> dict[str, dict[str, float]]:
        """Return the µs to issue an operation, by kind of run and of operation: medians over steps."""
        out = {}
        with IDLE.installed():
            for name, run in self.runs.items():
                steps = [run.issue_us(self.step + at) for at in range(1, 1 + COUNTED)]
                out[name] = {kind: statistics.median([step[kind] for step in steps]) for kind in steps[0]}
                self.step += COUNTED
        return out

    def counts(self) -> dict[str, dict[str, float]]:
        """Return what a step asks of streams and events, by kind of run, and the median of what that takes."""
        out = {}
        for name, how in OURS.items():
            driver = Watched(IdleDriver())
            run = self.ours(driver, **how)
            if run is None:
                continue
            # What is asked of torch: in the first step, which makes what the later ones use again, and in a later one.
            with IDLE.installed(), IDLE.counting() as asked:
                run.replay(0)
                first = Counter(asked)
                asked.clear()
                driver.calls.clear()
                run.replay(1)
                later = Counter(asked)
            copies, taken = driver.calls["copy"], []
            for step in range(2, 2 + COUNTED):
                driver.ns = 0
                with IDLE.installed():
                    run.replay(step)
                taken.append(driver.ns / 1e3)
            out[name] = {
                "contexts entered": later["contexts entered"],
                "stream switches": later["stream switches"],
                "waits": later["waits"],
                "events recorded": later["events recorded"],
                "events created, first step": first["events created"],
                "events created, later": later["events created"],
                "copies": copies,
                "Python for these, µs": statistics.median(taken),
            }
        return out


def main() -> None:
    """Answer each line of standard input, "facts", "counts", "round" or "issued", with a line of JSON."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # the answers' alone
    with single_threaded():
        bench = Bench()
        for _ in range(WARM_UP):
            bench.round()
        for line in sys.stdin:
            print(json.dumps(getattr(bench, line.strip())()), file=answer, flush=True)


if __name__ == "__main__":
    main()
