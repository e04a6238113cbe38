"""Peers train the same model on the same data: their gradients equal plain training's, bit for bit."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from loadahead.executor.links import Links
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.base import Peer, Unavailable, import_optional
from loadahead.executor.peers.emulated import emulated_save_on_cpu
from loadahead.executor.peers.plain import PLAIN
from loadahead.executor.peers.run import PeerResult, PeerSkipped, run_peer
from loadahead.executor.peers.training import PeerTraining, passes_of
from loadahead.executor.torch_settings import single_threaded
from loadahead.executor.training.oracle import PlainTraining, pass_orders, same_bits
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, tiny_spec, workload_of

ON_CPU = [peer for peer in PEERS.values() if not peer.needs_cuda]


def plan_of(workload: Workload, **policy: Any) -> Plan:
    return build_plan(workload, Policy(**{"ranks": len(workload.stages), "microbatches": 3} | policy))


def in_short(plan: Plan) -> str:
    return " ".join(f"{'B' if one.backward else 'F'}{one.microbatch}" for one in passes_of(plan))


def assert_trains_as_plainly(peer: Peer, **policy: Any) -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = plan_of(workload, **policy)
    with single_threaded():
        session = Session(spec, workload, (0,), microbatches=plan.microbatches)
        oracle = PlainTraining(session, *pass_orders(plan))
        training = PeerTraining(peer, spec, workload, passes_of(plan), torch.device("cpu"), seeded=True)
        for step in range(3):
            batches = training.batches(step)
            theirs = oracle.train(step, batches)
            loss, _ = training.train(step, batches)
            assert loss == sum(theirs)
            for mine, their in zip(training.parameters, oracle.named.values(), strict=True):
                assert mine.grad is not None and their.grad is not None
                assert same_bits(mine.grad, their.grad)
            oracle.optimize()


def test_passes_are_in_the_plans_order() -> None:
    workload = workload_of(tiny_spec())
    assert in_short(plan_of(workload, pipeline="interleaved")) == "F0 B0 F1 B1 F2 B2"
    assert in_short(plan_of(workload, pipeline="simple")) == "F0 F1 F2 B0 B1 B2"
    assert in_short(plan_of(workload, pipeline="simple", active_microbatches=2)) == "F0 F1 B0 F2 B1 B2"


def test_plans_of_several_ranks_are_refused() -> None:
    with pytest.raises(InputError, match="one rank"):
        passes_of(plan_of(workload_of(tiny_spec(), 2)))


@pytest.mark.parametrize(
    "policy", [{"pipeline": "interleaved"}, {"pipeline": "simple"}, {"pipeline": "simple", "active_microbatches": 2}]
)
@pytest.mark.parametrize("peer", [*ON_CPU, PLAIN, emulated_save_on_cpu(Links.of(HARDWARE))], ids=lambda one: one.name)
def test_gradients_equal_plain_trainings(peer: Peer, policy: dict[str, Any]) -> None:
    assert_trains_as_plainly(peer, **policy)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_run_or_skipped_with_a_reason(name: str) -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    found = run_peer(name, spec, workload, passes_of(plan_of(workload)), steps=2)
    if PEERS[name] not in ON_CPU:
        reasons = {
            "trl": "needs a CUDA device: it asks torch.accelerator for its streams",
            "deepspeed": "needs a CUDA device: on a CPU it leaves every tensor where it is",
        }
        assert found == PeerSkipped(name=name, reason=reasons[name])
        return
    assert isinstance(found, PeerResult)
    assert len(found.step_times_ns) == 2 and min(found.step_times_ns) > 0
    assert len(found.losses) == 4
    # On a CPU what is offloaded lies in the same memory.
    assert (found.peak_device_bytes is None) == PEERS[name].offloads


def test_more_microbatches_in_flight_need_more_memory() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)
    peaks = []
    for pipeline in ("interleaved", "simple"):
        found = run_peer("none", spec, workload, passes_of(plan_of(workload, pipeline=pipeline)), steps=1)
        assert isinstance(found, PeerResult) and found.peak_device_bytes is not None
        peaks.append(found.peak_device_bytes)
    boundaries = sum(unit.boundary_bytes for unit in workload.stages[0])
    # Two more microbatches in flight, give or take a loss and what a kernel needs meanwhile.
    assert peaks[1] - peaks[0] == pytest.approx(2 * boundaries, rel=0.1)


# ---- packages that need a GPU, by stand-ins that keep count ----


class Counting(saved_tensors_hooks):
    """Stands for another package's manager: hands tensors out by number, and must get all of them back."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.Tensor] = {}
        self.packed = self.entered = self.marked = 0
        super().__init__(self._pack, lambda key: self.kept.pop(key))

    def __enter__(self) -> None:
        self.entered += 1
        super().__enter__()

    def _pack(self, tensor: torch.Tensor) -> int:
        self.packed += 1
        self.kept[self.packed] = tensor
        return self.packed

    def mark(self, tensor: torch.Tensor) -> None:
        self.marked += 1


MODULES = {
    "trl": ("trl.models.activation_offloading", "OffloadActivations"),
    "deepspeed": ("deepspeed.runtime.activation_checkpointing.offload_activations", "CheckpointHiddenStatesOffload"),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    """Stand-ins for both packages; the managers made."""
    managers: list[Counting] = []

    def manager() -> Counting:
        managers.append(Counting())
        return managers[-1]

    for path, name in [*MODULES.values(), ("accelerate", "PartialState")]:
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        setattr(sys.modules[path], name, object if name == "PartialState" else manager)
    return managers


@pytest.mark.parametrize("pipeline", ["interleaved", "simple"])
@pytest.mark.parametrize("name", MODULES)
def test_each_microbatch_in_flight_has_a_manager(name: str, pipeline: str, made: list[Counting]) -> None:
    assert_trains_as_plainly(PEERS[name], pipeline=pipeline)
    assert len(made) == (1 if pipeline == "interleaved" else 3)
    steps, microbatches, units = 3, 3, 4
    assert sum(manager.entered for manager in made) == steps * microbatches
    assert sum(manager.marked for manager in made) == (steps * microbatches * units if name == "deepspeed" else 0)
    # The units' inputs are what is saved outside checkpoints, and a placeholder of torch's own for each.
    assert sum(manager.packed for manager in made) >= steps * microbatches * units
    assert not any(manager.kept for manager in made)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"^no_such_package is not installed$"):
        import_optional("no_such_package", "no_such_package.part", "Name")
    with pytest.raises(Unavailable, match=r"^the installed json has no json\.decoder\.Offload$"):
        import_optional("json", "json.decoder", "Offload")
    with pytest.raises(Unavailable, match=r"^json\.nothing cannot be imported: ModuleNotFoundError"):
        import_optional("json", "json.nothing", "Offload")
