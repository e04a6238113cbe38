"""Plans of ours beside peers on one model: python -m tests.bench.bench_peers [--device cuda] [-o FILE].

Step time and peak device memory of each, as ratios to our plan with the advised horizon. All train the same model on
the same data in the same order of passes. Their losses are compared first, seeded alike; those that differ in a digit
get no time. Then they take turns, a step each. How it is done is loadahead/executor/peers/side_by_side.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loadahead as la
from loadahead.cli.overrides import parse_overrides
from loadahead.executor.backends import make_backend, torch_device
from loadahead.executor.links import Hardware, Links
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.emulated import emulated_save_on_cpu
from loadahead.executor.peers.plain import PLAIN
from loadahead.executor.peers.run import PeerResult, PeerSkipped, device_facts
from loadahead.executor.peers.side_by_side import CHECKED_STEPS, Entrant, Model, ours, peer, side_by_side
from loadahead.jobs import job_of, with_costs
from loadahead.modules import model_spec
from loadahead.prediction import advice_on
from loadahead.scenarios.loader import ScenarioSource
from loadahead.sim.ir.plan import Plan
from loadahead.validation.grid import Configuration, ModelSize
from tests.bench.spread import Spread

ROUNDS = 9
# What is run on a GPU: boundaries of 32 MiB, a block's passes some milliseconds, and room for all who take turns.
ON_GPU = ModelSize(
    name="middling",
    options={"blocks": 6, "width": 1024, "heads": 16, "context": 1024, "batch": 8, "dropout": 0.0},
    hardware={"preset": "h100-sxm"},
    steps=6,
    autocast="bfloat16",
)
SCENARIOS = {"cpu": "demo", "cuda": ON_GPU.scenario(Configuration(model=ON_GPU.name))}
HORIZON = "offload.activation_loading_horizon"
DEFAULT_HORIZON = 4
MIB = 2**20
WIDTH = 118
NAMES = {
    "none": "torch's checkpoint, no offload",
    "save_on_cpu": "torch's save_on_cpu",
    "trl": "TRL's OffloadActivations",
    "deepspeed": "DeepSpeed's offload of inputs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Is what runs side by side.

    Attributes:
        advice: how the first one's horizon was chosen, in words.
        ways: how ours checkpoints, in a sentence.
    """

    scenario: str
    model: Model
    entrants: list[Entrant]
    advice: str
    ways: str
    order: str


def case_of(scenario: ScenarioSource, device: str, overrides: dict[str, Any], say: Callable[[str], None]) -> Case:
    """Calibrate a scenario's model, plan it in our ways, and put the peers beside."""
    base = la.load(scenario, {"parallel.pipeline_parallel_degree": 1} | overrides)
    # Times are those of the quickest kernels.
    job = job_of(base, None, None, device)
    job, costs = with_costs(job, device=device, deterministic=False, progress=lambda one: say(one.what))
    advised = advice_on(job, costs)
    best = None if advised is None else advised.best
    horizon = DEFAULT_HORIZON if best is None else best.horizon
    how = "the default: no horizon is advised" if best is None else "advised"

    def planned(**more: Any) -> Plan:
        return job_of(base, {f"offload.{key}": value for key, value in more.items()}, costs, device).plan

    plans = {f"ours, horizon {horizon} ({how})": planned(activation_loading_horizon=horizon)}
    if horizon != 1:
        plans["ours, horizon 1"] = planned(activation_loading_horizon=1)
    plans["ours, no offload"] = plain = planned(offload_activations=False)
    prepared, links = job.known(), Links.of(Hardware.of(costs))
    model = Model(
        spec=model_spec(prepared.scenario), workload=prepared.workload, device=torch_device(device), links=links
    )
    own = [ours(name, plan, costs.lean_units) for name, plan in plans.items()]
    parallel = prepared.scenario.parallel
    units = sum(len(stage) for stage in prepared.workload.stages)
    return Case(
        scenario=prepared.scenario.name,
        model=model,
        entrants=[*own, *peers(plain, device, links)],
        advice=how,
        ways=f"Ours checkpoints {len(costs.lean_units)} of {units} units the lean way, as their costs say.",
        order=f"{parallel.microbatches} microbatches, {parallel.pipeline}",
    )


def peers(plan: Plan, device: str, links: Links) -> Iterator[Entrant]:
    """Yield every peer in the plan's order of passes; one that copies nothing on a CPU is emulated there."""
    yield peer(PLAIN, plan, "plain training, no checkpoint")
    for name, one in PEERS.items():
        if name == "save_on_cpu" and device == "cpu":
            yield peer(emulated_save_on_cpu(links), plan, f"{NAMES[name]}, over the emulated link")
        else:
            yield peer(one, plan, NAMES.get(name))


def rows_of(results: Sequence[PeerResult | PeerSkipped]) -> list[dict[str, Any]]:
    """Return what was measured as plain data, with ratios to the first."""
    first = results[0]
    assert isinstance(first, PeerResult), "what fails in the first one is raised"
    rows: list[dict[str, Any]] = []
    for one in results:
        if isinstance(one, PeerSkipped):
            rows.append({"name": one.name, "skipped": one.reason})
            continue
        median = statistics.median(one.step_times_ns)
        known = one.peak_device_bytes is not None and first.peak_device_bytes
        rows.append(
            {
                "name": one.name,
                "step_time_ns": round(median),
                "step_time_ratio": median / statistics.median(first.step_times_ns),
                "peak_device_bytes": one.peak_device_bytes,
                "peak_device_ratio": one.peak_device_bytes / first.peak_device_bytes if known else None,
                "step_times_ns": one.step_times_ns,
                "losses": one.losses,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the table's lines."""
    wide = max(len(row["name"]) for row in rows) + 2
    yield f"{'':{wide}}{'step, ms (quartiles)':>28}{'to ours':>9}{'peak, MiB':>11}{'to ours':>9}"
    for row in rows:
        if "skipped" in row:
            yield f"{row['name']:{wide}}skipped: {row['skipped']}"
            continue
        step = Spread.of([taken / 1e6 for taken in row["step_times_ns"]]).text(1)
        peak = row["peak_device_bytes"]
        shown = "-" if peak is None else f"{peak / MIB:.2f}"
        ratio = "-" if row["peak_device_ratio"] is None else f"{row['peak_device_ratio']:.3f}"
        yield f"{row['name']:{wide}}{step:>28}{row['step_time_ratio']:9.3f}{shown:>11}{ratio:>9}"


def notes(case: Case, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what the table has to be read with."""
    compared = sum("skipped" not in row for row in rows)
    yield (
        f"The losses of the {compared} that have times are equal in every digit over {CHECKED_STEPS} steps in which "
        "all were seeded alike. The last of these was metered; times are of other steps, in turns, with peers as "
        "they are."
    )
    yield case.ways
    backend = make_backend(case.model.device.type)
    backend.close()
    yield f"{backend.link_note}{f' Links: {case.model.links.in_words(1)}.' if backend.emulated else ''}"
    if backend.emulated:
        yield (
            "Device memory is what tensors hold but for host copies. Ours copies in threads of its own, on other cores "
            "where there are some; save_on_cpu's hooks wait for each copy, as on a GPU, where they copy in the stream "
            "that computes."
        )


def result_of(case: Case, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all of it as plain data."""
    device = case.model.device.type
    return {
        "scenario": case.scenario,
        "order": case.order,
        "device": device,
        "horizon_chosen": case.advice,
        "ways": case.ways,
        "links": case.model.links.in_words(1),
        "machine": device_facts(device),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one case, print it, and return the exit status."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.bench_peers", description=__doc__)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--scenario", help="of kind module, one rank of it is run; None: one for the device")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the scenario")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="timed steps of each")
    options.add_argument("-o", "--output", type=Path, help="write all figures as JSON")
    given = options.parse_args(arguments)

    def say(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    try:
        overrides = parse_overrides(given.set)
        case = case_of(given.scenario or SCENARIOS[given.device], given.device, overrides, say)
        rows = rows_of(side_by_side(case.entrants, case.model, rounds=given.rounds, progress=say))
    except la.LoadaheadError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{case.scenario}, {case.order}, on {given.device}; {given.rounds} steps each, in turns")
    print("\n".join(["", *table(rows), "", *(textwrap.fill(note, WIDTH) for note in notes(case, rows))]))
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result_of(case, rows), indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
