"""save_on_cpu over an emulated link: what is saved leaves the device, and comes back by the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from loadahead.executor.backends.base import Link
from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.links import Links
from loadahead.executor.peers.base import Peer
from loadahead.executor.peers.emulated import emulated_save_on_cpu
from loadahead.executor.peers.none import NONE
from loadahead.executor.peers.plain import PLAIN
from loadahead.executor.peers.training import PeerTraining, passes_of
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.executor.torch_settings import single_threaded
from loadahead.sim.planner import Policy, build_plan
from tests.support.models import HARDWARE, tiny_spec, workload_of

LINKS = Links.of(HARDWARE)
MICROBATCHES = 4


@dataclass
class Transfers:
    """Keeps which link each transfer takes, and its bytes."""

    made: list[tuple[Link, int]] = field(default_factory=list)


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> Transfers:
    kept = Transfers()
    transfer = CpuBackend.transfer

    def noted(
        self: CpuBackend, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link, since_ns: int
    ) -> None:
        kept.made.append((link, sum(source.nbytes for source in sources)))
        transfer(self, targets, sources, link, since_ns)

    monkeypatch.setattr(CpuBackend, "transfer", noted)
    return kept


def training(peer: Peer, **policy: Any) -> PeerTraining:
    spec = tiny_spec()
    workload = workload_of(spec)
    plan = build_plan(workload, Policy(**{"ranks": 1, "microbatches": MICROBATCHES, "pipeline": "simple"} | policy))
    return PeerTraining(peer, spec, workload, passes_of(plan), torch.device("cpu"), seeded=True)


def boundary_bytes() -> int:
    return sum(unit.boundary_bytes for unit in workload_of(tiny_spec()).stages[0])


@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_every_boundary_goes_out_once_and_back_once(transfers: Transfers, pipeline: str) -> None:
    with single_threaded():
        run = training(emulated_save_on_cpu(LINKS), pipeline=pipeline)
        run.train(0, run.batches(0))
    assert LINKS.d2h is not LINKS.h2d and len(transfers.made) == 2 * MICROBATCHES * 4
    for link in (LINKS.d2h, LINKS.h2d):
        assert sum(nbytes for taken, nbytes in transfers.made if taken is link) == MICROBATCHES * boundary_bytes()
    if pipeline == "simple":  # all forward passes come first
        assert all(taken is LINKS.d2h for taken, _ in transfers.made[: MICROBATCHES * 4])


def test_boundaries_that_checkpointing_keeps_are_not_on_the_device() -> None:
    peaks = {}
    with single_threaded():
        for name, peer in {"torch": NONE, "emulated": emulated_save_on_cpu(LINKS), "plain": PLAIN}.items():
            run = training(peer)
            run.train(0, run.batches(0))
            _, peaks[name] = run.metered(1, run.batches(1))
    # Torch's checkpoint holds every microbatch's boundaries when the last one's backward pass begins. Their inputs are
    # the data, which lies where it was; one boundary is back then, and the last unit's is not let go while it runs.
    first, *others = [unit.boundary_bytes for unit in workload_of(tiny_spec()).stages[0]]
    kept = MICROBATCHES * sum(others)
    assert kept - 2 * max(others) <= peaks["torch"] - peaks["emulated"] <= kept + MICROBATCHES * first
    assert peaks["plain"] > peaks["torch"]


def test_what_is_saved_leaves_the_device_and_comes_back_with_its_bits() -> None:
    hooks = emulated_save_on_cpu(LINKS).make(torch.nn.Identity(), torch.device("cpu")).around()
    x = torch.linspace(-1, 1, 300, requires_grad=True)
    with StorageMeter([x]) as meter, hooks:
        z = x.exp()  # saves what it returns
        expected = z.detach().clone()
        total = z.sum()
        before = meter.live
        del z
        assert before - meter.live == x.nbytes  # the graph holds it, on the host
        meter.start_operation()
        (gradient,) = torch.autograd.grad(total, x)
        assert meter.peak >= meter.resident + total.nbytes + 2 * x.nbytes  # z is back, and the gradient is made
    assert torch.equal(gradient, expected)


def test_what_has_no_bytes_is_no_transfer(transfers: Transfers) -> None:
    hooks = emulated_save_on_cpu(LINKS).make(torch.nn.Identity(), torch.device("cpu")).around()
    with hooks:
        torch.empty(0, requires_grad=True).exp().sum().backward()
    assert transfers.made == []
