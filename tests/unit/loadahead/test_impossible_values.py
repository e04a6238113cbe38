"""Values that no step can have are told in one line, whichever way they come in; nothing ends in a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.sim.costs import Costs
from tests.support.refusals import refused

Captured = pytest.CaptureFixture[str]
LARGEST = 2**53
TOO_LONG = 10**5000  # Python refuses to write it out


def costs() -> Costs:
    found = prepare(load_scenario("uniform")).costs
    assert found is not None
    return found


def one_line(error: la.InputError) -> str:
    assert "\n" not in str(error) and len(str(error)) < 500
    return str(error)


# What is set, and what the line says of it: what, its value, what is allowed and what to do.
STEPS = {
    "a time beyond 2^63 ns": (
        {"hardware.d2h": "1 B/s", "model.boundary": "10 GB"},
        "a transfer of 10000000000 bytes at 1 bytes per second takes 1e+19 ns; at most 4611686018427387904 can be "
        "simulated, use a faster link or smaller boundaries",
    ),
    "to another rank": (
        {"hardware.p2p_bandwidth": "1 B/s", "model.boundary": "10 GB"},
        "a transfer of 10000000000 bytes at 1 bytes per second",
    ),
    "several such times": (
        {"hardware.p2p_bandwidth": "1 B/s", "model.boundary": "1 GB"},
        "the step's durations add up to 4.8e+19 ns; at most 4611686018427387904 can be simulated, use smaller figures "
        "or fewer microbatches",
    ),
    "latencies": (
        {"hardware.p2p": LARGEST, "parallel.microbatches": 200},
        "the step's durations add up to 1.08e+19 ns; at most",
    ),
    "launches": ({"hardware.launch": LARGEST, "parallel.microbatches": 100}, "the step's launches add up to"),
    "what is saved": (
        {"model.saved": LARGEST, "checkpoint.enabled": False, "parallel.microbatches": 200},
        "the step's sizes add up to",
    ),
    "a shared link": (
        {"hardware.duplex": "1 B/s", "model.boundary": "10 GB"},
        "the step's durations on shared links add up to",
    ),
}


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_no_clock_holds(name: str, engine: str, capsys: Captured) -> None:
    overrides, says = STEPS[name]
    own = {"offload.activation_loading_horizon": 1} | overrides
    with pytest.raises(la.InputError) as caught:
        la.simulate("uniform", own, engine=engine)
    assert one_line(caught.value).startswith(f"uniform: {says}")
    with pytest.raises(la.InputError) as caught:
        la.sweep("uniform", {"horizon": [1, 2]}, overrides=overrides, engine=engine)
    assert says in one_line(caught.value) and "horizon 1" in str(caught.value)
    sets = [word for key, value in own.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    assert says in refused(["simulate", "uniform", "--engine", engine, *sets], capsys)


@pytest.mark.parametrize("units", [[], [[]], [[], []]])
def test_costs_without_units(units: list[Any], tmp_path: Path, capsys: Captured) -> None:
    says = f"units = {units}: it must hold a list for each stage, with the cost of at least one unit"
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs().model_dump(mode="json") | {"units": units}))
    assert f"{path}: {says}" in refused(["simulate", "uniform", "--costs", str(path)], capsys)
    for call in (la.simulate, lambda *given, **more: la.sweep(*given, {"horizon": [1]}, **more)):
        with pytest.raises(la.InputError) as caught:
            call("uniform", costs=str(path))
        assert says in one_line(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"units": ((),)}, "the costs: units = [[]]: it must hold"),
        ({"d2h_bandwidth": 0}, "the costs: d2h_bandwidth = 0: it must be greater than 0"),
        ({"d2h_latency_ns": 10**30}, "the costs: d2h_latency_ns = 10"),
        ({"launch_ns": -1}, "the costs: launch_ns = -1"),
        ({"launch_ns": TOO_LONG}, "the costs"),
        ({"launch_ns": object()}, "the costs hold what a costs file cannot (Unable to serialize"),
    ],
)
def test_copies_of_costs_that_hold_what_is_not_allowed(changes: dict[str, Any], says: str) -> None:
    changed = costs().model_copy(update=changes)
    for call in (la.simulate, lambda *given, **more: la.sweep(*given, {"horizon": [1]}, **more)):
        with pytest.raises(la.InputError) as caught:
            call("uniform", costs=changed)
        assert one_line(caught.value).startswith(says)


@pytest.mark.parametrize(
    "key",
    [
        "model.forward",
        "model.boundary",
        "model.units_per_stage",
        "hardware.d2h",
        "hardware.d2h_weight",
        "parallel.microbatches",
        "offload.receive_ahead",
        "jitter.compute",
    ],
)
def test_numbers_that_cannot_be_written_out(key: str) -> None:
    with pytest.raises(la.InputError) as caught:
        la.simulate("uniform", {key: TOO_LONG})
    assert one_line(caught.value).startswith(f"uniform: {key}")
    with pytest.raises(la.InputError) as caught:
        la.sweep("uniform", {key: [TOO_LONG]})
    assert one_line(caught.value).startswith(key)


@pytest.mark.parametrize("column", ["horizon", "release_window", "receive_ahead", "active_microbatches"])
def test_an_axis_takes_what_a_scenario_takes(column: str) -> None:
    with pytest.raises(
        la.InputError, match=f"^{column} has the value 2147483648; it must be a whole number of at least"
    ):
        la.sweep("uniform", {column: [2**31]})
