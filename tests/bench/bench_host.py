"""Host time of a step, this tree's beside a former one's and torch's checkpoint: python tests/bench/bench_host.py.

On a small model a GPU waits for the host, so what the host takes per unit is what a step takes. Here the CUDA backend
runs with torch's own Python for streams and events, and a GPU that takes no calls (idle_cuda.py); operators run on CPU
tensors too small to matter. Each tree has a process, and they take turns round by round. Times are those of a process's
CPU, medians with the quartiles beside them; ratios say more than either side.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bench.spread import Spread

ROOT = Path(__file__).parents[2]
# The last tree before the executor was made lean.
FORMER = "4eea10d053250127216656c4ea727e60c8ee27f5"
ROUNDS = 100
MOST_ADDED, MOST_LEAN = 0.75, 0.85
RESAMPLED = 1000
# Kinds of run, by the names that workers give them.
KINDS = {
    "offloading": "ours, offloading",
    "keeping": "ours, keeping all",
    "lean": "ours, lean, offloading",
    "checkpoint": "torch's checkpoint",
}
Round = dict[str, int]  # ns of a step, by kind


class Worker:
    """Is a process that times steps of one tree."""

    def __init__(self, tree: Path) -> None:
        paths = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("host_worker.py"))],
            cwd=tree,
            env=os.environ | paths,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> Any:
        """Send a line and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker of the bench ended with {self._process.wait()}; its error is above")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def former_tree() -> Path | None:
    """Return a folder that holds the former tree; None where this one's history does not reach back to it."""
    tree = ROOT / "out" / "bench" / FORMER[:7]
    if tree.is_dir():
        return tree  # with what numba compiled of it
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", FORMER], capture_output=True, check=False)
    if archive.returncode:
        return None
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(part, filter="data")
    part.rename(tree)
    return tree


def added(taken: Round, offloaded: int) -> float:
    """Return the µs that offloading adds to each unit and microbatch whose boundary it moves."""
    return (taken["offloading"] - taken["keeping"]) / offloaded / 1e3


def print_counts(name: str, counts: dict[str, dict[str, dict[str, float]]], operations: dict[str, int]) -> None:
    """Print what a step of one kind asks of streams and events, in each tree, and per operation."""
    print(f"\n{KINDS[name]}: a step of {operations[name]} operations")
    print(f"  {'':30}" + "".join(f"{f'{tree}, step':>14}{'operation':>11}" for tree in counts))
    for row in next(iter(counts.values()))[name]:
        cells = [counts[tree][name][row] for tree in counts]
        print(f"  {row:30}" + "".join(f"{cell:14,.0f}{cell / operations[name]:11.2f}" for cell in cells))


def print_issued(issued: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print how long the host takes to issue an operation of each kind, in each tree and kind of run."""
    columns = {f"{tree} {kind}": found[kind] for tree, found in issued.items() for kind in found}
    print(f"\n  {'µs to issue one, by the clock':30}" + "".join(f"{name:>16}" for name in columns))
    for kind in dict.fromkeys(kind for found in columns.values() for kind in found):
        cells = [f"{found[kind]:.1f}" if kind in found else "-" for found in columns.values()]
        print(f"  {kind:30}" + "".join(f"{cell:>16}" for cell in cells))


def print_times(rounds: dict[str, list[Round]]) -> None:
    """Print each kind's time of a step, in each tree."""
    kinds = dict.fromkeys(kind for taken in rounds.values() for kind in taken[0])
    print(f"\n  {'CPU ms of a step':30}" + "".join(f"{tree:>26}" for tree in rounds))
    for kind in kinds:
        cells = [
            Spread.of([one[kind] / 1e6 for one in taken]).text(2) if kind in taken[0] else "-"
            for taken in rounds.values()
        ]
        print(f"  {KINDS[kind]:30}" + "".join(f"{cell:>26}" for cell in cells))


def per_round(rounds: dict[str, list[Round]], figure: Callable[[Round], float]) -> dict[str, Spread]:
    """Return a figure of each round, by tree."""
    return {tree: Spread.of([figure(one) for one in taken]) for tree, taken in rounds.items()}


def resampled_ratio(new: Sequence[float], old: Sequence[float]) -> tuple[float, float]:
    """Return between what 90 % of the ratios of two medians lie, their rounds drawn anew with replacement."""
    draw = random.Random(0)

    def median(values: Sequence[float]) -> float:
        return statistics.median(draw.choices(values, k=len(values)))

    ratios = statistics.quantiles([median(new) / median(old) for _ in range(RESAMPLED)], n=20, method="inclusive")
    return ratios[0], ratios[-1]


def verdict(what: str, value: float, most: float) -> str:
    """Return a goal, the value beside it, and whether it is met."""
    return f"  goal: {what} at most {most}: {value:.3f}, {'met' if value <= most else 'not met'}"


def print_ratios(rounds: dict[str, list[Round]], offloaded: int) -> None:
    """Print what offloading adds, ours beside torch's checkpoint, and the goals."""
    print()
    adds = per_round(rounds, lambda one: added(one, offloaded))
    for tree, spread in adds.items():
        print(f"  {tree}: offloading adds {spread.text(1)} µs to a unit whose boundary it moves")
    theirs = per_round(rounds, lambda one: one["offloading"] / one["checkpoint"])
    for tree, spread in theirs.items():
        print(f"  {tree}: ours, offloading / torch's checkpoint {spread.text(3)}")
    goals = []
    if "old" in adds:
        low, high = resampled_ratio(*([added(one, offloaded) for one in rounds[tree]] for tree in ("new", "old")))
        ratio = adds["new"].median / adds["old"].median
        print(f"  what offloading adds, new / old: {ratio:.3f} (90 % of resampled rounds {low:.3f} to {high:.3f})")
        goals.append(verdict("what offloading adds, new / old,", ratio, MOST_ADDED))
    if "lean" in rounds["new"][0]:
        lean = per_round({"new": rounds["new"]}, lambda one: one["lean"] / one["checkpoint"])["new"]
        print(f"  new: ours, lean, offloading / torch's checkpoint {lean.text(3)}")
        goals.append(verdict("lean offloading / torch's checkpoint", lean.median, MOST_LEAN))
    else:
        goals.append(f"  goal: lean offloading / torch's checkpoint at most {MOST_LEAN}: this tree has no lean units")
    print("\n".join(goals))


def main() -> None:
    """Let both trees' processes take turns, and print what they took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=ROUNDS, help="steps of each kind in each tree, at least 2")
    count = options.parse_args().rounds
    former = former_tree()
    if former is None:
        print(f"commit {FORMER[:7]} is not in this tree's history (no git, or not all of it): benched alone")
    trees = ({} if former is None else {"old": former}) | {"new": ROOT}
    workers = {name: Worker(tree) for name, tree in trees.items()}
    try:
        facts = {name: worker.ask("facts") for name, worker in workers.items()}["new"]
        counts = {name: worker.ask("counts") for name, worker in workers.items()}
        rounds: dict[str, list[Round]] = {name: [] for name in workers}
        for number in range(count):
            for name in list(workers)[:: 1 if number % 2 else -1]:
                rounds[name].append(workers[name].ask("round"))
        issued = {name: worker.ask("issued") for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.__exit__(None, None, None)
    print(
        f"{facts['units']} units, {facts['microbatches']} microbatches, {facts['offloaded']} boundaries of "
        f"{facts['boundary_bytes']} bytes offloaded; torch {facts['torch']}; {count} rounds; median (quartiles)"
    )
    if facts["lean"] is not None:
        print(f"{KINDS['lean']}: {facts['lean']} of {facts['units']} units are checkpointed the lean way")
    for kind in facts["operations"]:
        known = {tree: found for tree, found in counts.items() if kind in found}
        print_counts(kind, known, facts["operations"])
    print_issued(issued)
    print_times(rounds)
    print_ratios(rounds, facts["offloaded"])


if __name__ == "__main__":
    main()
