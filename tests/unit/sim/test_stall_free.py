"""The smallest horizon without prefetch stalls, by hand and against every plan simulated one by one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.cli.main import run
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.stall_free import stall_free, stall_free_groups
from loadahead.sim.step_metrics import METRIC_COLUMNS, SweepRow
from tests.support.plans import MB, MS, costs_for, policies, uniform_costs, uniform_workload, workloads


def test_by_hand() -> None:
    """One rank, 4 units, 4 microbatches, GPipe: 16 FORWARDs of 1 ms, then 16 BACKWARDs of 2 ms; a copy in takes 2.1 ms.

    The first copy may start h FORWARDs before the first BACKWARD, at 16 - h ms, so copy j has ended at 16 - h +
    2.1 (j + 1) ms, if the link never waits; it is needed at 16 + 2 j ms. The last, j = 15, asks for h >= 3.6. Each step
    more costs one boundary of 1 MB.
    """
    costs = uniform_costs(1, 4, h2d_bandwidth=476_190_477)  # 1 MB in 2.1 ms
    policy = Policy(pipeline="simple", microbatches=4, ranks=1)
    found = stall_free(uniform_workload(1, 4), costs, policy)
    assert found is not None
    assert found.horizon == 4
    assert found.larger == ((5, MB), (6, 2 * MB), (7, 3 * MB), (8, 4 * MB))
    assert found.step_time_ns == 16 * 3 * MS


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_against_every_horizon_on_the_reference_engine(data: st.DataObject) -> None:
    workload = data.draw(workloads(most_ranks=2))
    policy = replace(data.draw(policies(len(workload.stages), 4)), checkpoint=True, offload=True)
    costs = data.draw(costs_for(build_plan(workload, policy)))
    expected = None
    for horizon in range(1, 40):
        plan = build_plan(workload, replace(policy, horizon=horizon))
        ranks = simulate(plan, costs, "simpy").header["summary"]["ranks"]
        if not plan.policy["offloaded"]:
            break
        if not any(rank["stall_prefetch_ns"] for rank in ranks):
            expected = horizon, max(rank["peak_device_bytes"] for rank in ranks)
            break
    found = stall_free(workload, costs, policy)
    assert (None if found is None else (found.horizon, found.peak_device_bytes)) == expected


def row(horizon: int, window: int, stall: int, peak: int) -> SweepRow:
    figures = dict.fromkeys(METRIC_COLUMNS, 0) | {"step_time_ns": 9, "offloaded": 1}
    figures |= {"stall_prefetch_ns": stall, "peak_device_bytes": peak}
    return SweepRow.from_dict({"horizon": horizon, "release_window": window} | figures)


def test_a_sweeps_other_axes_each_have_their_answer() -> None:
    rows = [row(2, 5, 0, 12), row(1, 5, 3, 11), row(3, 5, 0, 15), row(1, 4, 2, 10), row(2, 4, 1, 11)]
    groups = stall_free_groups(rows, ["horizon", "release_window"])
    assert [values for values, _ in groups] == [{"release_window": 5}, {"release_window": 4}]
    found = groups[0][1]
    assert found is not None
    assert (found.horizon, found.larger) == (2, ((3, 3),))
    assert groups[1][1] is None


def test_the_commands_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "hardware.h2d=300 MB/s"]
    assert run(["simulate", "slow-link", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["stall_free_horizon"]
    assert run(["sweep", "slow-link", *options, "--horizon", "1:30", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (group,) = result["stall_free"]
    assert group["found"] == found
    by_horizon = {point["horizon"]: point for point in result["points"]}
    assert by_horizon[found["horizon"]]["stall_prefetch_ns"] == 0
    assert all(by_horizon[h]["stall_prefetch_ns"] > 0 for h in range(1, found["horizon"]))
    assert run(["simulate", "slow-link", *options]) == 0
    assert f"smallest horizon without prefetch stalls is {found['horizon']}" in capsys.readouterr().out
    assert run(["simulate", "no-help", "--set", "parallel.pipeline=simple", "--json"]) == 0
    assert "stall_free_horizon" in json.loads(capsys.readouterr().out)
