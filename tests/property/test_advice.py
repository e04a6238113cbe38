"""The advice on 300 random scenarios equals what trying every horizon finds, each planned and simulated by itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from loadahead.sim.advice import Advice, advise
from loadahead.sim.advice.names import HOST_MEMORY, LAUNCHES, OFFLOAD_STALLS, PREFETCH_STALLS, TOO_FEW_TASKS, TOO_SMALL
from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.units import LARGEST_AMOUNT
from loadahead.sim.workload import UnitShape, Workload

# Together they are 300 scenarios.
CHUNKS, IN_CHUNK = 10, 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """A workload of at most 8 ranks and 8 units in each stage, its costs and a policy."""

    workload: Workload
    costs: Costs
    policy: Policy

    @classmethod
    def random(cls, draw: random.Random) -> Scenario:
        """Links of any speed beside the units, one in four shared, one in five with a host that is slow to issue."""
        ranks = draw.randint(1, 8)
        most = draw.choice([1, 2, 3, 8]) if ranks < 3 else 3
        sizes = [[draw.choice([1000, 1000, 2000, 500]) for _ in range(draw.randint(1, most))] for _ in range(ranks)]
        stages = tuple(
            tuple(UnitShape(boundary_bytes=size, gradient_bytes=draw.choice([0, 1000])) for size in stage)
            for stage in sizes
        )
        one = cls._unit(draw) if draw.random() < 0.5 else None
        shared = None
        if draw.random() < 0.25:
            uplinks = {"uplink_d2h": cls._rate(draw), "uplink_h2d": cls._rate(draw)}
            shared = SharedLinks(gpus_per_switch=2, duplex=draw.choice([None, 10**9]), **uplinks)
        costs = Costs(
            units=tuple(tuple(one or cls._unit(draw) for _ in stage) for stage in stages),
            static_bytes=(draw.choice([0, 3000]),) * ranks,
            d2h_bandwidth=cls._rate(draw),
            h2d_bandwidth=cls._rate(draw),
            d2h_latency_ns=draw.choice([0, 50]),
            h2d_latency_ns=draw.choice([0, 50]),
            p2p_latency_ns=draw.choice([0, 100]),
            launch_ns=draw.choice([0, 0, 0, 20, 300]),
            memory_bytes=10**9,
            host_memory_bytes=draw.choice([None, None, None, draw.randint(1000, 40_000)]),
            shared=shared,
        )
        policy = Policy(
            pipeline=draw.choice(["simple", "interleaved"]),
            microbatches=draw.randint(1, 6),
            ranks=ranks,
            horizon=draw.randint(1, 6),
            horizon_unit=draw.choice(["tasks", "layers"]),
            release_window=draw.randint(1, 4),
            receive_ahead=draw.choice([0, 1, 2]),
        )
        frozen = draw.choice([0, 0, 0, 1]) if sum(map(len, stages)) > 1 else 0
        # Beside boundaries of 500, 1000 and 2000 bytes: none, some or all are too small to leave.
        policy = replace(policy, min_bytes=draw.choice([0, 0, 501, 1000, 1001, 2001]))
        return cls(Workload(stages=stages, frozen_units=frozen), costs, policy)

    @staticmethod
    def _unit(draw: random.Random) -> UnitCost:
        return UnitCost(
            forward_ns=draw.randint(100, 2000),
            recompute_ns=draw.choice([0, draw.randint(0, 2000)]),
            backward_ns=draw.randint(100, 4000),
            workspace_forward=draw.choice([0, 500]),
            workspace_backward=draw.choice([0, 5000]),
        )

    @staticmethod
    def _rate(draw: random.Random) -> int:
        return draw.choice([10**9, 3 * 10**8, 5 * 10**9, 10**11, 2 * 10**8])

    @property
    def tasks(self) -> int:
        """The number of tasks of the rank that has most."""
        return 2 * self.policy.microbatches * max(map(len, self.workload.stages))

    def step(self, policy: Policy, costs: Costs) -> StepMetrics:
        """What the policy's plan takes, on an engine, not by the search's own walk."""
        return simulate(build_plan(self.workload, policy), costs).metrics

    def every_horizon(self, policy: Policy, costs: Costs, keep_all: StepMetrics) -> tuple[int, StepMetrics] | None:
        """The horizon with the least memory among those that may be advised; None for none.

        They save memory on some rank, take at most 1 % more time, and have slots that the host has room for.
        """
        found, room = [], costs.host_memory_bytes
        for horizon in range(1, self.tasks + 1):
            step = self.step(replace(policy, horizon=horizon), costs)
            if 100 * step.step_time_ns > 101 * keep_all.step_time_ns or not saves(step, keep_all):
                continue
            if room is None or sum(rank.peak_host_bytes for rank in step.ranks) <= room:
                each = [rank.peak_device_bytes for rank in step.ranks]
                found.append(((max(each), sum(each), horizon), step))
        if not found:
            return None
        (_, _, horizon), step = min(found, key=lambda one: one[0])
        return horizon, step

    def unhindered(self, obstacles: tuple[str, ...]) -> Costs:
        """The costs with links and hosts that are as quick as can be said, for each obstacle."""
        changes: dict[str, int | None] = {}
        if OFFLOAD_STALLS in obstacles:
            changes |= {"d2h_bandwidth": LARGEST_AMOUNT, "d2h_latency_ns": 0}
        if PREFETCH_STALLS in obstacles:
            changes |= {"h2d_bandwidth": LARGEST_AMOUNT, "h2d_latency_ns": 0}
        if LAUNCHES in obstacles:
            changes["launch_ns"] = 0
        if HOST_MEMORY in obstacles:
            changes["host_memory_bytes"] = None
        return self.costs.model_copy(update=changes)


def saves(step: StepMetrics, keep_all: StepMetrics) -> bool:
    """Whether some rank needs less memory; none needs more."""
    pairs = list(zip(step.ranks, keep_all.ranks, strict=True))
    assert all(ours.peak_device_bytes <= theirs.peak_device_bytes for ours, theirs in pairs)
    return any(ours.peak_device_bytes < theirs.peak_device_bytes for ours, theirs in pairs)


def require_same(scenario: Scenario, advice: Advice, keep_all: StepMetrics) -> str:
    """Compare the advice with every horizon; return which kind of answer it was."""
    policy, costs = scenario.policy, scenario.costs
    assert advice.keep_all.step_time_ns == keep_all.step_time_ns
    assert advice.keep_all.rank_device_bytes == tuple(rank.peak_device_bytes for rank in keep_all.ranks)
    found = scenario.every_horizon(policy, costs, keep_all)
    if found is not None:
        horizon, step = found
        best = advice.best
        assert best is not None
        assert (best.horizon, best.step_time_ns, best.offloaded) == (horizon, step.step_time_ns, step.offloaded)
        assert best.rank_device_bytes == tuple(rank.peak_device_bytes for rank in step.ranks)
        assert best.host_bytes == sum(rank.peak_host_bytes for rank in step.ranks)
        assert advice.saved_bytes == keep_all.peak_device_bytes - step.peak_device_bytes
        if horizon > 1:
            smaller = replace(policy, horizon=horizon - 1)
            require_obstacles(scenario, advice.obstacles, lambda costs: allowed(scenario, smaller, costs, keep_all))
        return "found"
    assert advice.best is None
    assert advice.searched.complete
    units = [unit for stage in scenario.workload.stages for unit in stage][scenario.workload.frozen_units :]
    assert (advice.obstacles == (TOO_SMALL,)) == all(unit.boundary_bytes < policy.min_bytes for unit in units)
    if advice.obstacles == (TOO_SMALL,):
        return TOO_SMALL
    if advice.obstacles == (TOO_FEW_TASKS,):
        horizons = range(1, scenario.tasks + 1)
        assert not any(saves(scenario.step(replace(policy, horizon=h), costs), keep_all) for h in horizons)
        return TOO_FEW_TASKS
    every = scenario.every_horizon
    require_obstacles(scenario, advice.obstacles, lambda hindered: every(policy, hindered, keep_all) is not None)
    return "none"


def allowed(scenario: Scenario, policy: Policy, costs: Costs, keep_all: StepMetrics) -> bool:
    """Whether one plan is as short as may be, with slots that the host has room for."""
    step, room = scenario.step(policy, costs), costs.host_memory_bytes
    fits = room is None or sum(rank.peak_host_bytes for rank in step.ranks) <= room
    return fits and 100 * step.step_time_ns <= 101 * keep_all.step_time_ns


def require_obstacles(scenario: Scenario, obstacles: tuple[str, ...], is_free: Callable[[Costs], bool]) -> None:
    """Without the obstacles the way is free, and with any one of them left it is not.

    On shared links a faster link is no freer one: there an obstacle is taken away by copies that move nothing, which
    costs cannot say.
    """
    if scenario.costs.shared is not None:
        return
    assert obstacles and is_free(scenario.unhindered(obstacles))
    for left in obstacles:
        assert not is_free(scenario.unhindered(tuple(name for name in obstacles if name != left)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_advice_is_what_trying_every_horizon_finds(chunk: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(chunk * IN_CHUNK, (chunk + 1) * IN_CHUNK):
        draw = random.Random(seed)
        scenario = Scenario.random(draw)
        advice = advise(scenario.workload, scenario.costs, scenario.policy)
        assert advice is not None
        keep_all = scenario.step(replace(scenario.policy, offload=False), scenario.costs)
        kinds[require_same(scenario, advice, keep_all)] += 1
        unit, window = draw.choice(["tasks", "layers"]), draw.randint(1, 4)
        if (unit, window) != (scenario.policy.horizon_unit, scenario.policy.release_window):
            other = replace(scenario.policy, horizon_unit=unit, release_window=window)
            found = scenario.every_horizon(other, scenario.costs, keep_all)
            named = [a for a in advice.alternatives if (a.horizon_unit, a.release_window) == (unit, window)]
            assert [a.figures.horizon for a in named] == ([] if found is None else [found[0]])
    assert set(kinds) == {"found", "none", TOO_FEW_TASKS, TOO_SMALL}, "every kind of answer is met"
