"""What hosts limit, with tensor parallelism: what the same limits cost each GPU, written for its host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.placement import Placement

GB = 10**9
GOLDEN = Path(__file__).parents[1] / "golden" / "costs"
# A model of 70 billion parameters on 64 GPUs; hosts have eight GPUs and copy 200 GB/s together.
SEVENTY: dict[str, Any] = {
    "model": {
        "kind": "transformer",
        "layers": 80,
        "hidden": 8192,
        "heads": 64,
        "sequence": 4096,
        "vocabulary": 32_000,
    },
    "hardware": {"preset": "h100-sxm", "gpus_per_host": 8},
    "parallel": {"microbatches": 32, "pipeline_parallel_degree": 8, "tensor_parallel_degree": 8},
}
LIMIT = {"hardware.host_memory_bandwidth": "200 GB/s"}


def test_the_limits_of_hosts_on_seventy_billion_parameters() -> None:
    """3.69 s against 3.21 s without limits, as an evaluator of links by hand had it, who counted FLOPs and copies."""
    counted = {"hardware.efficiency": 0.45, "hardware.communication": "ideal"}
    assert la.simulate(SEVENTY, counted).step_time_ns / 1e9 == pytest.approx(3.21, abs=0.005)
    assert la.simulate(SEVENTY, counted | LIMIT).step_time_ns / 1e9 == pytest.approx(3.69, abs=0.005)


@pytest.mark.parametrize("tensor", [1, 2, 4, 8])
def test_a_hosts_limit_is_what_its_gpus_share(tensor: int) -> None:
    """With t parts of each rank on a host of eight GPUs, 8 / t ranks share it, and each of them t times as much of it.

    So one part of each takes as long alone, on hosts of 8 / t GPUs with a t-th of the bandwidth.
    """
    given = {"parallel.microbatches": 8, "hardware.host_memory_bandwidth": "20 GB/s"}
    scenario = la.load(SEVENTY, {**given, "parallel.tensor_parallel_degree": tensor})
    plan, costs = la.plan(scenario), _costs(scenario)
    assert costs.placement == Placement(tensor=tensor, gpus_per_host=None if tensor == 1 else 8)
    assert costs.shared is not None
    share = costs.shared.model_copy(update={"host_memory_bandwidth": 20 * GB // tensor})
    alone = {"placement": Placement(gpus_per_host=8 // tensor), "shared": share}
    found, expected = simulate(plan, costs), simulate(plan, costs.model_copy(update=alone))
    assert found.end_ns.tolist() == expected.end_ns.tolist()
    unlimited = simulate(plan, costs.model_copy(update={"shared": None}))
    assert found.step_time_ns > unlimited.step_time_ns


def _costs(scenario: Any) -> Costs:
    from loadahead.scenarios.prepare import prepare

    costs = prepare(scenario).costs
    assert costs is not None
    return costs


@pytest.mark.parametrize("strategy", ["cluster", "spread"])
def test_host_memory_is_summed_over_the_gpus_of_a_host(strategy: str) -> None:
    """Four ranks, four parts each, on hosts of four GPUs: a rank's parts side by side, or one part of every rank."""
    tables: dict[str, Any] = {
        "model": {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB", "units_per_stage": 4},
        "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s", "gpus_per_host": 4},
        "parallel": {
            "microbatches": 8,
            "pipeline_parallel_degree": 4,
            "tensor_parallel_degree": 4,
            "placement_strategy": strategy,
        },
        "offload": {"activation_loading_horizon": 1},
    }
    step = la.simulate(tables).metrics
    peaks = [rank.peak_host_bytes for rank in step.ranks]
    expected = 4 * max(peaks) if strategy == "cluster" else sum(peaks)
    assert step.host_bytes == expected and len(set(peaks)) > 1


def test_a_plan_that_a_host_has_no_memory_for_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's slots, once for each of four replicas on a host; to the byte."""
    costs = GOLDEN / "demo.json"
    slots = la.simulate("demo", costs=costs).metrics.host_bytes
    replicas = {"parallel.data_parallel_degree": 4}
    ran = []
    monkeypatch.setattr("loadahead.runs.execute", lambda *_, **__: ran.append(1) or 1 / 0)
    told = r"the slots of all 4 GPUs on a host need .* nothing was run; offload less"
    with pytest.raises(la.CheckFailed, match=told):
        la.execute("demo", {**replicas, "hardware.host_memory": 4 * slots - 1}, costs=costs)
    assert not ran
    with pytest.raises(ZeroDivisionError):
        la.execute("demo", {**replicas, "hardware.host_memory": 4 * slots}, costs=costs)
