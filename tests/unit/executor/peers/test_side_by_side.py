"""Plans of ours and peers beside each other: only what trains alike gets a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from loadahead.executor.execute import execute
from loadahead.executor.links import Links
from loadahead.executor.model.spec import Batch
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.base import Unavailable
from loadahead.executor.peers.emulated import emulated_save_on_cpu
from loadahead.executor.peers.none import NONE
from loadahead.executor.peers.plain import PLAIN
from loadahead.executor.peers.run import PeerResult, PeerSkipped
from loadahead.executor.peers.side_by_side import (
    CHECKED_STEPS,
    NO_ROOM,
    Entrant,
    Model,
    Runner,
    ours,
    peer,
    side_by_side,
)
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import tune
from tests.support.models import HARDWARE, link_costs, tiny_spec, workload_of

MICROBATCHES = 3
SPEC = tiny_spec()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(spec=SPEC, workload=workload_of(SPEC), device=torch.device("cpu"), links=Links.of(HARDWARE))


def plan_of(model: Model, **policy: Any) -> Plan:
    return build_plan(model.workload, Policy(ranks=1, microbatches=MICROBATCHES, pipeline="simple", **policy))


class Odd:
    """Trains as another runner does, but for a step's loss."""

    def __init__(self, runner: Runner, step: int) -> None:
        self._runner, self._step = runner, step

    def batches(self, step: int) -> list[Batch]:
        return self._runner.batches(step)

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        loss = self._runner.train(step, batches)
        return loss * (1 + 2**-52) if step == self._step else loss

    def metered(self, step: int, batches: Sequence[Batch]) -> tuple[float, int | None]:
        loss, peak = self._runner.metered(step, batches)
        return (loss * 2 if step == self._step else loss), peak

    def close(self) -> None:
        self._runner.close()


class Full(Odd):
    """Finds no memory in a step, where units are not seeded: beside the others."""

    def train(self, step: int, batches: Sequence[Batch]) -> float:
        if step == self._step:
            raise torch.OutOfMemoryError("none left")
        return self._runner.train(step, batches)


def odd(entrant: Entrant, step: int) -> Entrant:
    return replace(
        entrant, name=f"odd in step {step}", make=lambda model, seeded: Odd(entrant.make(model, seeded), step)
    )


def failing(model: Model, seeded: bool) -> Runner:
    raise KeyError("no such thing")


def test_all_that_run_on_a_cpu_train_alike_and_each_has_its_peak(model: Model) -> None:
    offloading, keeping = plan_of(model, horizon=1), plan_of(model, offload=False)
    entrants = [
        ours("offloading", offloading),
        ours("keeping", keeping),
        *[peer(one, keeping) for one in (PLAIN, NONE, emulated_save_on_cpu(model.links))],
        *[peer(one, keeping) for one in (PEERS["trl"], PEERS["deepspeed"])],
    ]
    *ran, trl, deepspeed = side_by_side(entrants, model, rounds=2)
    losses = None
    peaks = {}
    for one in ran:
        assert isinstance(one, PeerResult) and one.peak_device_bytes is not None
        assert len(one.step_times_ns) == 2 and min(one.step_times_ns) > 0
        losses = losses or one.losses
        assert one.losses == losses and len(losses) == CHECKED_STEPS and len(set(losses)) == CHECKED_STEPS
        peaks[one.name] = one.peak_device_bytes
    assert [one.name for one in ran] == [entrant.name for entrant in entrants[:5]]
    assert isinstance(trl, PeerSkipped) and isinstance(deepspeed, PeerSkipped)
    # A run by itself measures the same of ours.
    for name, plan in (("offloading", offloading), ("keeping", keeping)):
        alone = execute(plan, model.workload, SPEC, costs=link_costs(model.workload), steps=CHECKED_STEPS)
        assert alone.losses == losses
        assert alone.timeline.metrics.peak_device_bytes == peaks[name]
    assert peaks["offloading"] < peaks["keeping"] < peaks["plain"]
    # Both hold the same boundaries.
    assert peaks["none"] == pytest.approx(peaks["keeping"], rel=0.02)


def test_a_tuned_plan_trains_as_the_others_and_keeps_its_budget(model: Model) -> None:
    keeping, costs = plan_of(model, offload=False), link_costs(model.workload)
    budget = simulate(keeping, costs).metrics.peak_boundary_bytes * 3 // 4
    policy = Policy(ranks=1, microbatches=MICROBATCHES, pipeline="simple")
    found = tune(model.workload, costs, policy, Goal(boundary_memory=budget))
    assert found.fits and found.chosen.row.offloaded > 0
    tuned = build_plan(model.workload, policy, decisions=found.chosen.decisions)
    first, second = side_by_side([ours("keeping", keeping), ours("tuned", tuned)], model, rounds=2)
    assert isinstance(first, PeerResult) and isinstance(second, PeerResult)
    assert second.losses == first.losses and len(second.step_times_ns) == 2
    alone = execute(tuned, model.workload, SPEC, costs=costs, steps=CHECKED_STEPS)
    assert alone.max_grad_error == 0 and alone.losses == first.losses
    assert alone.timeline.metrics.peak_device_bytes == second.peak_device_bytes < (first.peak_device_bytes or 0)
    assert alone.timeline.metrics.peak_boundary_bytes == found.chosen.row.peak_boundary_bytes <= budget


def test_who_trains_otherwise_gets_no_time(model: Model) -> None:
    plan = plan_of(model, offload=False)
    good = peer(NONE, plan)
    last = CHECKED_STEPS - 1
    first, *others = side_by_side([ours("ours", plan), odd(good, 0), odd(good, last), good], model, rounds=1)
    assert isinstance(first, PeerResult) and isinstance(others[2], PeerResult)
    for step, one in zip((0, last), others, strict=False):
        assert isinstance(one, PeerSkipped)
        assert one.reason.startswith(f"its loss in step {step} is ")
        assert one.reason.endswith(f", ours {first.losses[step]!r}: it does something else, and no time counts")


def test_what_fails_is_named_and_the_others_run(model: Model) -> None:
    plan = plan_of(model, offload=False)

    def missing(model: Model, seeded: bool) -> Runner:
        raise Unavailable("it is not installed")

    own = ours("ours", plan)
    found = side_by_side([own, Entrant(name="a", make=failing), Entrant(name="b", make=missing)], model, rounds=1)
    assert isinstance(found[0], PeerResult)
    assert found[1:] == [
        PeerSkipped(name="a", reason="failed: KeyError: 'no such thing'"),
        PeerSkipped(name="b", reason="it is not installed"),
    ]
    with pytest.raises(KeyError):  # with nothing to compare with, nothing can be said
        side_by_side([Entrant(name="a", make=failing), own], model)
    with pytest.raises(InputError, match="rounds is 0; it must be at least 1"):
        side_by_side([own], model, rounds=0)


def test_who_finds_no_room_beside_the_others_is_left_out(model: Model) -> None:
    plan = plan_of(model, offload=False)
    good, own = peer(NONE, plan), ours("ours", plan)

    def make(model: Model, seeded: bool) -> Runner:
        return good.make(model, seeded) if seeded else Full(good.make(model, seeded), 3)

    first, full, other = side_by_side([own, Entrant(name="full", make=make), good], model, rounds=3)
    assert full == PeerSkipped(name="full", reason=NO_ROOM)
    for one in (first, other):
        assert isinstance(one, PeerResult) and len(one.step_times_ns) == 3
    with pytest.raises(torch.OutOfMemoryError):
        side_by_side([Entrant(name="full", make=make), own], model, rounds=3)


def test_peers_are_seeded_where_losses_are_compared_alone(model: Model) -> None:
    plan = plan_of(model, offload=False)
    asked = []

    def make(model: Model, seeded: bool) -> Runner:
        asked.append(seeded)
        return peer(NONE, plan).make(model, seeded)

    side_by_side([ours("ours", plan), Entrant(name="none", make=make)], model, rounds=1)
    assert asked == [True, False]
