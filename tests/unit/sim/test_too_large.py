"""A sweep refuses as too large what a simulation refuses, in the same words, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

import loadahead as la

LARGEST = 2**53 - 1  # of a scenario's amounts
STEPS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a transfer alone": ({"model.boundary": 10**15, "hardware.d2h": 1}, "a transfer of 1000000000000000 bytes"),
    "durations": ({"parallel.microbatches": 1000, "model.forward": LARGEST}, "step's durations add up"),
    "workspaces": ({"parallel.microbatches": 600, "model.workspace_backward": LARGEST}, "step's sizes add up"),
    "launches": ({"parallel.microbatches": 600, "hardware.launch": LARGEST}, "step's launches add up"),
    # No operation is of that kind, which only a bound on all kinds would count.
    "no launches": ({"parallel.microbatches": 600, "hardware.launch_by_kind.BACKWARD_WEIGHT": LARGEST}, None),
}


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("name", STEPS)
def test_sweeps_and_simulations_agree(name: str, engine: str) -> None:
    overrides, says = STEPS[name]
    if says is None:
        step = la.simulate("uniform", overrides, engine=engine)
        table = la.sweep("uniform", {"horizon": [4]}, overrides=overrides, engine=engine)
        assert table.rows[0].step_time_ns == step.metrics.step_time_ns
        return
    with pytest.raises(la.InputError, match=says) as alone:
        la.simulate("uniform", overrides, engine=engine)
    with pytest.raises(la.InputError, match=says) as swept:
        la.sweep("uniform", {"horizon": [4]}, overrides=overrides, engine=engine)
    assert str(swept.value).endswith(str(alone.value).removeprefix("uniform: "))
