"""Spread on durations: repeatable, nothing without spread, and waits turn it into time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loadahead.cli.main import run
from loadahead.sim.costs import SharedLinks
from loadahead.sim.engines import simulate
from loadahead.sim.jitter import Spread, step_times
from tests.support.plans import GB, MS, uniform_costs, uniform_plan

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("shared", [None, SharedLinks(duplex=GB)], ids=["own-links", "shared-links"])
@pytest.mark.parametrize("launches", [{}, {"BACKWARD": 3 * MS, "OFFLOAD": MS}], ids=["short", "long"])
def test_one_draw_without_spread_is_the_plain_step(shared: SharedLinks | None, launches: dict[str, int]) -> None:
    plan = uniform_plan(3, 2, 6)
    costs = uniform_costs(3, 2, launch_ns=3, launch_by_kind=launches, p2p_latency_ns=7, shared=shared)
    assert step_times(plan, costs, Spread(draws=1)).tolist() == [simulate(plan, costs).step_time_ns]


def test_equal_seeds_give_equal_draws() -> None:
    plan, costs = uniform_plan(2, 1, 4), uniform_costs(2)
    first = step_times(plan, costs, Spread(compute=0.3, seed=5, draws=20))
    assert np.array_equal(first, step_times(plan, costs, Spread(compute=0.3, seed=5, draws=20)))
    assert not np.array_equal(first, step_times(plan, costs, Spread(compute=0.3, seed=6, draws=20)))


def test_one_rank_spreads_as_the_sum_of_its_tasks() -> None:
    """Nothing waits on one rank without offload: the mean is the sum, 4 * (1 + 2) ms, the variance that of the sum.

    With variation .2: sqrt(4 * (.2 ms)**2 + 4 * (.4 ms)**2) = .894 ms.
    """
    plan, costs = uniform_plan(1, 1, 4, offload=False), uniform_costs(1)
    times = step_times(plan, costs, Spread(compute=0.2, draws=4000))
    assert times.mean() == pytest.approx(12e6, abs=4 * 0.894e6 / np.sqrt(4000))
    assert times.std() == pytest.approx(0.894e6, rel=0.06)


def test_a_pipeline_waits_for_the_latest() -> None:
    """A mean of maxima is no less than the maximum of means; here well above what the sample's error allows."""
    plan, costs = uniform_plan(4, 1, 8, offload=False), uniform_costs(4)
    times = step_times(plan, costs, Spread(compute=0.3, draws=500))
    assert times.mean() > simulate(plan, costs).step_time_ns + 4 * times.std() / np.sqrt(500)


def test_spread_on_copies_matters_only_where_copies_are_waited_for() -> None:
    costs = uniform_costs(1)
    plain = uniform_plan(1, 1, 4, offload=False)
    assert len(set(step_times(plain, costs, Spread(copies=0.5, draws=10)).tolist())) == 1
    slow = costs.model_copy(update={"d2h_bandwidth": 10**8})
    assert len(set(step_times(uniform_plan(1, 1, 6, horizon=1), slow, Spread(copies=0.5, draws=10)).tolist())) == 10


def test_the_command_says_it_in_json_and_in_a_sentence(capsys: Captured) -> None:
    spread = ["--set", "jitter.compute=0.1", "--draws", "50", "--seed", "3"]
    assert run(["simulate", "uniform", *spread, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jitter = found["jitter"]
    assert (jitter["draws"], jitter["seed"], jitter["compute"], jitter["copies"]) == (50, 3, 0.1, 0)
    assert jitter["distribution"].startswith("lognormal with mean 1")
    quantiles = [jitter["step_time_ns"][name] for name in ("p05", "p25", "p50", "p75", "p95")]
    assert quantiles == sorted(quantiles)
    assert "note" not in jitter
    assert run(["simulate", "uniform", *spread, "--set", 'hardware.duplex="0.5 GB/s"']) == 0
    out = capsys.readouterr().out
    assert "In 50 draws (seed 3)" in out and "own link's bandwidth" not in out
    assert "Copies and sends slow each other down on shared links: " in out


def test_draws_share_links_as_the_step_does() -> None:
    shared = SharedLinks(gpus_per_switch=2, uplink_d2h=GB, duplex=GB, d2h_weight=2)
    plan = uniform_plan(4, 2, 8, horizon=1)
    costs = uniform_costs(4, 2, shared=shared, d2h_latency_ns=5, launch_ns=3)
    step = simulate(plan, costs)
    assert step.header["contended"]
    assert step_times(plan, costs, Spread(draws=1)).tolist() == [step.step_time_ns]
    times = step_times(plan, costs, Spread(compute=0.1, copies=0.3, draws=300))
    assert times.mean() > step.step_time_ns + 4 * times.std() / np.sqrt(300)


def test_draws_of_copies_too_large_for_64_bits_are_said(capsys: Captured) -> None:
    huge = ["--set", "model.boundary=1 GB", "--set", "hardware.duplex=0.5 GB/s", "--draws", "3", "--json"]
    assert run(["simulate", "uniform", *huge]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["contended"] and "own link's bandwidth" in found["jitter"]["note"]


def test_no_draws_unless_asked(capsys: Captured) -> None:
    assert run(["simulate", "uniform", "--json"]) == 0
    assert "jitter" not in json.loads(capsys.readouterr().out)
    assert run(["simulate", "uniform", "--draws", "0"]) == 2
