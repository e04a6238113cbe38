"""A plan's ranks train alike whatever moves what they send: within the process, or as processes would."""

from __future__ import annotations

import threading
from functools import cache

import pytest
import torch

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.links import Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.operations import Operations
from loadahead.executor.replay.plan_match import stage_ranks
from loadahead.executor.tensors.values import Description, Value
from loadahead.executor.torch_settings import single_threaded
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.session import Session
from loadahead.executor.transport.base import Arrival, HandedKey, Transport
from loadahead.executor.transport.in_process import InProcess
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, Masked, Unmasked, given_spec, masked_data, tiny_spec, workload_of
from tests.support.units import compared

MICROBATCHES = 3
MODELS = {
    "plain": tiny_spec(),
    "masked": given_spec(Masked(), Masked(norm=True), Masked(), Unmasked(), data=masked_data),
}


class Posted:
    """Does as processes do: a receive is posted, a send leaves in bytes, and a wait puts them where they belong."""

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}
        self.posted: list[Arrival] = []
        self.sent: dict[int, tuple[Description, list[bytes]]] = {}
        self.by_rank: dict[HandedKey, torch.Tensor] = {}
        self.arrived = threading.Condition()

    def begin_step(self, values: dict[int, Value]) -> None:
        self.values, self.posted, self.sent, self.by_rank = values, [], {}, {}

    def receive(self, arrival: Arrival) -> None:
        assert arrival.source != arrival.target
        self.posted.append(arrival)

    def send(self, arrival: Arrival, source: Value) -> bool:
        if arrival not in self.posted:
            return False
        raw = [t.contiguous().view(torch.uint8).numpy().tobytes() for t in map(torch.Tensor.flatten, source.tensors)]
        self.sent[arrival.buffer] = source.described(), raw
        return True

    def wait(self, arrival: Arrival) -> None:
        described, raw = self.sent.pop(arrival.buffer)
        self.posted.remove(arrival)
        value = described.over(self.values[arrival.buffer].tensors)
        for tensor, data in zip(value.tensors, raw, strict=True):
            tensor.copy_(torch.frombuffer(bytearray(data), dtype=tensor.dtype).reshape(tensor.shape))
        self.values[arrival.buffer] = value

    def carry(self, key: HandedKey, tensor: torch.Tensor) -> None:
        self.by_rank[key] = tensor.clone()

    def carried(self, key: HandedKey) -> torch.Tensor:
        return self.by_rank[key]


@cache
def workload(name: str, ranks: int) -> Workload:
    return workload_of(MODELS[name], ranks)


def trained(spec: ModelSpec, cut: Workload, plan: Plan, transport: Transport | None) -> float:
    """The largest difference from plain training in two steps."""
    backend = CpuBackend(poisoned=True)
    session = Session(spec, cut, stage_ranks(plan, cut), microbatches=MICROBATCHES)
    plain = PlainTraining(session, *pass_orders(plan))
    operations = Operations(plan, session.in_units, session, backend, Links.of(HARDWARE), transport)
    try:
        worst = 0.0
        # As a run does: with more threads an operator may add up in another order.
        with single_threaded():
            for step in range(2):
                batches = session.batches(step, MICROBATCHES)
                run = replay(operations, step, batches)
                worst = max(worst, compared(step, session, plain, run.losses, batches))
        return worst
    finally:
        backend.close()


@pytest.mark.parametrize("pipeline", ["1f1b", "simple"])
@pytest.mark.parametrize(("name", "ranks"), [("plain", 2), ("plain", 4), ("masked", 2)])
def test_as_processes_do(name: str, ranks: int, pipeline: str) -> None:
    """A mask is handed on beside what is sent."""
    cut = workload(name, ranks)
    plan = build_plan(cut, Policy(ranks=ranks, microbatches=MICROBATCHES, horizon=1, pipeline=pipeline))
    transport = Posted()
    assert trained(MODELS[name], cut, plan, transport) == 0.0
    assert transport.posted == [] and transport.sent == {}


def test_a_send_whose_receive_is_not_posted_is_told() -> None:
    cut = workload("plain", 2)
    plan = build_plan(cut, Policy(ranks=2, microbatches=MICROBATCHES, horizon=1))

    class Deaf(Posted):
        def receive(self, arrival: Arrival) -> None:
            return None

    with pytest.raises(InputError, match=r"SEND_ACTIVATION 0\.1\.0 uses buffer .*, which is not on the device then"):
        trained(MODELS["plain"], cut, plan, Deaf())


def test_every_arrival_is_of_the_ranks_that_send_and_receive() -> None:
    cut = workload("plain", 4)
    plan = build_plan(cut, Policy(ranks=4, microbatches=MICROBATCHES, horizon=1))
    backend = CpuBackend()
    session = Session(MODELS["plain"], cut, stage_ranks(plan, cut), microbatches=MICROBATCHES)
    operations = Operations(plan, session.in_units, session, backend, Links.of(HARDWARE))
    backend.close()
    assert isinstance(operations.transport, InProcess)
    ops = list(plan)
    step = {Kind.SEND_ACTIVATION: 1, Kind.SEND_GRADIENT: -1}
    assert operations.arrivals
    for send, arrival in operations.arrivals.items():
        assert (arrival.source, arrival.target) == (ops[send].rank, ops[send].rank + step[ops[send].kind])
