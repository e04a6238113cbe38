"""Peers that run in step are folded into one rank: a plan with every GPU as a rank of its own takes as long."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.engines import simulate
from loadahead.sim.ir.plan import Plan
from loadahead.sim.placement import PLACEMENT_ORDERS, Placement
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.routes import are_private
from loadahead.sim.step_metrics import SweepRow
from tests.support.every_gpu import every_gpu, in_step
from tests.support.plans import GB, uniform_costs, uniform_workload

_DEGREE = st.sampled_from([1, 1, 2, 3])
_CAP = st.none() | st.sampled_from([GB // 4, GB // 2, GB, 2 * GB, 3 * GB, 7 * GB])


@st.composite
def placed(draw: st.DrawFn) -> tuple[Plan, Costs]:
    """A pipeline of equal units with replicas and tensor-parallel parts on hosts, and any of what they share."""
    ranks, data, tensor = draw(st.integers(1, 4)), draw(_DEGREE), draw(_DEGREE)
    processes = ranks * data * tensor
    per_host = draw(st.none() | st.sampled_from([n for n in (1, 2, 3, 4, 6, 8) if n <= processes]))
    most = per_host or processes
    per_switch = draw(st.none() | st.sampled_from([n for n in (1, 2, 4) if n <= most]))
    shared: Any = {
        "gpus_per_switch": per_switch,
        "uplink_d2h": draw(_CAP) if per_switch else None,
        "uplink_h2d": draw(_CAP) if per_switch else None,
        "duplex": draw(_CAP),
        "host_memory_bandwidth": draw(_CAP),
        "network_bandwidth": draw(_CAP),
        "gpus_per_nic": draw(st.none() | st.sampled_from([1, 2])),
        "d2h_weight": draw(st.sampled_from([1, 2])),
    }
    costs = uniform_costs(
        ranks,
        2,
        p2p_bandwidth=draw(st.sampled_from([GB, 4 * GB])),
        p2p_latency_ns=draw(st.sampled_from([0, 1000])),
        p2p_link=draw(st.sampled_from([None, "nvlink", "pcie"])),
        network_latency_ns=draw(st.none() | st.just(5000)),
        gpu_network_bandwidth=draw(_CAP),
        shared=SharedLinks(**shared),
        placement=Placement(
            order=draw(st.sampled_from(PLACEMENT_ORDERS)), data=data, tensor=tensor, gpus_per_host=per_host
        ),
    )
    policy = Policy(
        pipeline=draw(st.sampled_from(["simple", "interleaved"])),
        microbatches=draw(st.integers(1, 5)),
        ranks=ranks,
        horizon=draw(st.integers(1, 3)),
    )
    return build_plan(uniform_workload(ranks, 2), policy), costs


@settings(max_examples=200, deadline=None)
@given(placed())
def test_folded_peers_take_as_long_as_when_every_gpu_is_a_rank(case: tuple[Plan, Costs]) -> None:
    plan, costs = case
    lanes = costs.placement.lanes(plan.ranks)
    every = simulate(*every_gpu(plan, costs))
    ends = every.end_ns.reshape(len(lanes), len(plan))
    # Where peers stand unlike, they would drift apart: see the next test.
    assume((ends == ends[0]).all())
    folded = simulate(plan, costs)
    assert np.array_equal(folded.end_ns, ends[0])
    assert folded.metrics.host_bytes == every.metrics.host_bytes


# How much shorter a folded step may be than one in which unlike peers wait for each other at every operation: where a
# peer would be quicker than others it is taken to go at their pace, which leaves more to others while it does.
QUICKER = 0.05


def test_peers_that_stand_unlike_wait_for_each_other() -> None:
    """On 300 drawn cases, a third of them on hosts whose GPUs the pipelines do not divide."""
    random = Random(1)
    unlike = 0
    for _ in range(300):
        plan, costs = drawn(random)
        folded, every = simulate(plan, costs).step_time_ns, simulate(*in_step(plan, costs)).step_time_ns
        unlike += folded != every
        assert folded >= (1 - QUICKER) * every, (folded, every, costs)
    assert unlike >= 10


def drawn(random: Random) -> tuple[Plan, Costs]:
    """A small pipeline on hosts, in any order, of any size: peers may have other neighbours than each other."""
    ranks, data, tensor = random.randint(1, 3), random.choice([1, 2, 3]), random.choice([1, 2, 3])
    per_host = random.randint(1, ranks * data * tensor)
    per_switch = random.choice([None, random.randint(1, per_host)])
    caps = [None, GB // 2, GB, 2 * GB, 3 * GB]
    cap = {name: random.choice(caps) for name in ("duplex", "host_memory_bandwidth", "network_bandwidth")}
    uplinks = {name: random.choice(caps) if per_switch else None for name in ("uplink_d2h", "uplink_h2d")}
    costs = uniform_costs(
        ranks,
        2,
        p2p_bandwidth=random.choice([GB, 4 * GB]),
        p2p_link=random.choice([None, "nvlink", "pcie"]),
        network_latency_ns=random.choice([None, 5000]),
        gpu_network_bandwidth=random.choice([None, GB // 4, GB, 9 * GB]),
        shared=SharedLinks(gpus_per_switch=per_switch, **cap, **uplinks),
        placement=Placement(order=random.choice(PLACEMENT_ORDERS), data=data, tensor=tensor, gpus_per_host=per_host),
    )
    policy = Policy(
        pipeline=random.choice(["simple", "interleaved"]),
        microbatches=random.randint(1, 4),
        ranks=ranks,
        horizon=random.randint(1, 3),
    )
    return build_plan(uniform_workload(ranks, 2), policy), costs


@settings(max_examples=120, deadline=None)
@given(placed())
def test_both_engines_agree_wherever_processes_stand(case: tuple[Plan, Costs]) -> None:
    plan, costs = case
    one, other = (simulate(plan, costs, engine) for engine in ("simpy", "compiled"))
    assert np.array_equal(one.start_ns, other.start_ns) and np.array_equal(one.end_ns, other.end_ns)
    assert one.header["contended"] == other.header["contended"]


@settings(max_examples=120, deadline=None)
@given(placed(), st.booleans())
def test_what_is_computed_without_a_plan_is_the_plans(case: tuple[Plan, Costs], shared: bool) -> None:
    plan, costs = case
    ranks = plan.ranks
    costs = costs if shared else costs.model_copy(update={"shared": None})
    assume(are_private(costs, ranks))
    policy = Policy(
        pipeline=plan.policy["pipeline"], microbatches=plan.microbatches, ranks=ranks, horizon=plan.policy["horizon"]
    )
    rows = Groups().rows(uniform_workload(ranks, 2), costs, [policy], [{}])
    assert rows == [SweepRow.of({}, simulate(plan, costs, "simpy").metrics)]
