"""Runs a peer: steps to warm up, then timed ones, with the device found as the run before found it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.peers import PEERS
from loadahead.executor.peers.base import Peer, Unavailable
from loadahead.executor.peers.device import allocated, begin_peak, clear, describe, is_cuda, peak_allocated
from loadahead.executor.peers.training import Pass, PeerTraining
from loadahead.executor.torch_settings import single_threaded, without_garbage_collection
from loadahead.executor.user_code import importable_from
from loadahead.sim.workload import Workload

# This many steps come before the timed ones: they make pinned memory, streams and the allocator's blocks.
WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """Holds what a peer measured.

    Attributes:
        losses: one per step, warm-up included.
        peak_device_bytes: the most that tensors held in the timed steps; None where that cannot be told.
    """

    name: str
    step_times_ns: list[int]
    losses: list[float]
    peak_device_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSkipped:
    """Names a peer that was not run, and says why."""

    name: str
    reason: str


def run_peer(
    name: str,
    spec: ModelSpec,
    workload: Workload,
    passes: Sequence[Pass],
    *,
    device: str = "cpu",
    steps: int = 3,
    seeded: bool = False,
) -> PeerResult | PeerSkipped:
    """Train with a peer, some steps to warm up, then ``steps`` timed ones, and return what was measured.

    Returns a :class:`PeerSkipped` where the peer cannot run on this device or is not installed.

    Args:
        seeded: seed every unit as a plan's run does, so that losses and gradients can be compared where the model draws
            random numbers. It takes time that the peer by itself does not need.
    """
    peer, where = PEERS[name], torch.device(device)
    if peer.needs_cuda and not is_cuda(where):
        return PeerSkipped(name=name, reason=needs_cuda(peer))
    clear(where)
    try:
        with single_threaded(), importable_from(spec.search_path):
            before = allocated(where)
            training = PeerTraining(peer, spec, workload, passes, where, seeded=seeded)
            return _measure(peer, training, where, steps, before)
    except Unavailable as error:
        return PeerSkipped(name=name, reason=str(error))
    finally:
        clear(where)


def _measure(peer: Peer, training: PeerTraining, device: torch.device, steps: int, before: int) -> PeerResult:
    losses, times = [], []
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            begin_peak(device)
        batches = training.batches(step)
        with without_garbage_collection():
            loss, took = training.train(step, batches)
        losses.append(loss)
        if step >= WARM_UP:
            times.append(took)
    peak = peak_allocated(device)
    if peak is not None:
        peak -= before
    elif peer.peak_is_known_on_cpu:
        more = WARM_UP + steps
        _, peak = training.metered(more, training.batches(more))
    return PeerResult(name=peer.name, step_times_ns=times, losses=losses, peak_device_bytes=peak)


def needs_cuda(peer: Peer) -> str:
    """Return why a peer is skipped that runs on CUDA devices alone."""
    return f"needs a CUDA device: {peer.needs_cuda}"


def clear_device(device: str) -> None:
    """Drop what nobody refers to any more, so that the next run finds the device as this one did."""
    clear(torch.device(device))


def device_facts(device: str) -> dict[str, Any]:
    """Return machine and versions, the GPU's too where the device is one."""
    return describe(torch.device(device))
