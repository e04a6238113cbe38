"""The stand-in for CUDA: its clock, its allocator and its record, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from loadahead.sim.ir.kinds import Queue
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu
from tests.support.gpu_record import HOST, Alloc, Block, Free, HostRange, HostWait, Launch, Record, Sync, Wait

# One byte takes one ns everywhere, a kernel 10 ns before its first.
GPU = FakeGpu(
    call_ns=0,
    launch_ns=0,
    kernel_ns=10,
    memory_bandwidth=10**9,
    flop_rate=10**9,
    d2h_bandwidth=10**9,
    h2d_bandwidth=10**9 // 2,
    d2h_latency_ns=100,
    h2d_latency_ns=200,
)


def make(**changes: int) -> FakeCuda:
    return FakeCuda(replace(GPU, **changes))


def device_bytes(fake: FakeCuda, nbytes: int) -> torch.Tensor:
    with fake.using(fake.stream(Queue.COMPUTE)):
        return torch.empty(nbytes, dtype=torch.uint8)


def pinned_bytes(fake: FakeCuda, nbytes: int) -> torch.Tensor:
    slab = fake.pin(nbytes)
    assert slab is not None
    return slab


def block(at: int, segment: int = 1) -> Block:
    """The ``at``-th of a segment's smallest blocks."""
    return Block(segment, 512 * at, 512 * (at + 1))


def tail_ns(fake: FakeCuda, queue: Queue) -> int:
    return fake.stream(queue).tail_ns


class TestClock:
    def test_streams_run_side_by_side(self) -> None:
        fake = make()
        compute, d2h = fake.stream(Queue.COMPUTE), fake.stream(Queue.D2H)
        with fake.using(compute):
            fake.spin(70)
            with fake.using(d2h):
                fake.spin(50)
            fake.spin(5)
        assert (fake.host_ns(), compute.tail_ns, d2h.tail_ns) == (0, 75, 50)
        fake.synchronize()
        assert fake.host_ns() == 75

    def test_an_event_makes_a_stream_wait_for_what_came_before_it(self) -> None:
        fake = make()
        compute, d2h = fake.stream(Queue.COMPUTE), fake.stream(Queue.D2H)
        event, begin, end = fake.event(timing=False), fake.event(timing=True), fake.event(timing=True)
        with fake.using(compute):
            fake.spin(30)
            fake.record(event, compute)
            fake.spin(1000)
        fake.wait(d2h, event)
        fake.record(begin, d2h)
        with fake.using(d2h):
            fake.spin(4)
        fake.record(end, d2h)
        fake.synchronize()
        assert (d2h.tail_ns, fake.elapsed_ns(begin, end), fake.host_ns()) == (34, 4, 1030)

    def test_the_host_takes_time_and_the_device_cannot_start_earlier(self) -> None:
        fake = make(call_ns=1, launch_ns=20)
        compute = fake.stream(Queue.COMPUTE)
        with fake.using(compute):  # 1
            fake.spin(3)  # launched at 21, done at 24
            fake.spin(3)  # launched at 41, done at 44
        assert fake.host_ns() == 42  # another stream is current again
        event = fake.event(timing=True)  # 43
        fake.record(event, compute)  # 44
        assert (fake.host_ns(), compute.tail_ns, event.at_ns) == (44, 44, 44)
        fake.wait(fake.stream(Queue.D2H), event)
        fake.synchronize()
        assert fake.host_ns() == 46

    def test_an_event_on_an_idle_stream_takes_place_when_it_is_recorded(self) -> None:
        fake = make(call_ns=7)
        start, end = fake.event(timing=True), fake.event(timing=True)
        for event in (start, end):
            fake.record(event, fake.stream(Queue.H2D))
        assert (start.at_ns, fake.elapsed_ns(start, end)) == (21, 7)

    def test_elapsed_time_of_what_cannot_tell(self) -> None:
        fake = make()
        compute = fake.stream(Queue.COMPUTE)
        done, never, mute = fake.event(timing=True), fake.event(timing=True), fake.event(timing=False)
        with fake.using(compute):
            fake.spin(5)
        fake.record(done, compute)
        fake.record(mute, compute)
        with pytest.raises(RuntimeError, match="not taken place yet"):
            fake.elapsed_ns(done, done)
        fake.synchronize()
        assert fake.elapsed_ns(done, done) == 0
        with pytest.raises(RuntimeError, match="never recorded"):
            fake.elapsed_ns(done, never)
        with pytest.raises(RuntimeError, match="without timing"):
            fake.elapsed_ns(mute, done)

    def test_copies_of_one_direction_share_an_engine(self) -> None:
        fake = make()
        slab, a = pinned_bytes(fake, 100), device_bytes(fake, 40)
        with fake.using(fake.stream(Queue.D2H)):
            fake.copy(slab[:40], a)  # 100 + 40
        with fake.using(fake.stream(Queue.SEND)):
            fake.copy(slab[40:80], a)  # after the other
        with fake.using(fake.stream(Queue.H2D)):
            fake.copy(a, slab[:40])  # 200 + 2 * 40, beside both
        ends = [tail_ns(fake, queue) for queue in (Queue.D2H, Queue.SEND, Queue.H2D)]
        assert (ends, fake.host_ns()) == ([140, 280, 280], 0)

    def test_a_copy_on_the_device_is_a_kernel(self) -> None:
        fake = make()
        a, b = device_bytes(fake, 30), device_bytes(fake, 30)
        with fake.using(fake.stream(Queue.COMPUTE)):
            fake.copy(a, b)
        assert tail_ns(fake, Queue.COMPUTE) == 10 + 60
        assert fake.entries[-1] == Launch("compute", "copy device to device", reads=(block(1),), writes=(block(0),))

    def test_pageable_memory_makes_the_host_wait(self) -> None:
        fake = make()
        a, slab = device_bytes(fake, 40), torch.zeros(40, dtype=torch.uint8)
        with fake.using(fake.stream(Queue.D2H)):
            fake.copy(slab, a)
        assert fake.host_ns() == 140
        assert isinstance(fake.entries[-1], HostWait)

    def test_a_full_queue_makes_the_host_wait(self) -> None:
        fake = make(launch_ns=1, queue_limit=2)
        with fake.using(fake.stream(Queue.COMPUTE)):
            hosts = []
            for _ in range(4):
                fake.spin(100)
                hosts.append(fake.host_ns())
        # Launched at 1, done at 101; queued behind; then there is room at 101 and, one launch on, at 201.
        assert (hosts, tail_ns(fake, Queue.COMPUTE)) == ([1, 2, 101, 201], 401)

    def test_operators(self) -> None:
        fake = make(launch_ns=1)
        with fake.using(fake.stream(Queue.COMPUTE)):
            a = torch.empty(4, 4)  # no kernel
            b = torch.zeros(4, 4)  # 10 + 64, launched at 2
            a.view(16)[2:].t()  # no kernel
            a.copy_(b)  # 10 + 128
            a.mul_(2)  # 10 + 64: what is written is counted once
            torch.relu(a)  # 10 + 128
        assert (fake.host_ns(), tail_ns(fake, Queue.COMPUTE)) == (8, 2 + 74 + 138 + 74 + 138)

    def test_arithmetic_counts_where_it_takes_longer(self) -> None:
        fake = make()
        with fake.using(fake.stream(Queue.COMPUTE)):
            a = torch.empty(10, 20)
            a @ torch.empty(20, 30)
        assert tail_ns(fake, Queue.COMPUTE) == 10 + max(4 * (200 + 600 + 300), 2 * 10 * 20 * 30)

    def test_nested_streams_count_an_operator_once(self) -> None:
        fake = make(launch_ns=1)
        a = device_bytes(fake, 10)
        with fake.using(fake.stream(Queue.D2H)), fake.using(fake.stream(Queue.COMPUTE)):
            a.fill_(1)
        assert [tail_ns(fake, queue) for queue in (Queue.COMPUTE, Queue.D2H)] == [2 + 20, 0]

    def test_a_backward_pass_is_seen(self) -> None:
        fake = make()
        weight = torch.ones(8, requires_grad=True)
        weight.grad = torch.zeros(8)
        with fake.using(fake.stream(Queue.COMPUTE)):
            (weight * 3).sum().backward()
        assert weight.grad.tolist() == [3.0] * 8
        home = fake.memory.home(weight.grad)
        assert home is not None
        last = [entry for entry in fake.entries if isinstance(entry, Launch)][-1]
        assert last.writes == (home.block,)

    def test_two_runs_take_the_same_time(self) -> None:
        def run() -> tuple[int, list[object]]:
            fake = FakeCuda()
            with fake.using(fake.stream(Queue.COMPUTE)):
                a = torch.ones(100)
                for _ in range(10):
                    a = a * 2 + a
            fake.synchronize()
            return fake.host_ns(), list(fake.entries)

        assert run() == run()


class TestMemory:
    def test_whole_grains_are_counted(self) -> None:
        fake = make()
        a = device_bytes(fake, 1)
        b = device_bytes(fake, 513)
        assert (fake.requested(), fake.allocated()) == (514, 512 + 1024)
        fake.reset_peaks()
        del a
        assert (fake.allocated(), fake.peak_allocated()) == (1024, 512 + 1024)
        assert (fake.requested(), fake.peak_requested()) == (513, 514)
        del b
        fake.reset_peaks()
        assert (fake.allocated(), fake.peak_allocated(), fake.peak_reserved()) == (0, 0, 2 << 20)

    def test_a_freed_block_is_handed_out_again(self) -> None:
        fake = make()
        a, b = device_bytes(fake, 100), device_bytes(fake, 200)
        del a, b
        c = device_bytes(fake, 600)
        assert fake.entries == [
            Alloc("compute", block(0), "aten.empty.memory_format"),
            Alloc("compute", block(1), "aten.empty.memory_format"),
            Free("compute", block(0)),
            Free("compute", block(1)),
            Alloc("compute", Block(1, 0, 1024), "aten.empty.memory_format"),
        ]
        assert (len(c), fake.requested(), fake.allocated(), fake.peak_reserved()) == (600, 600, 1024, 2 << 20)

    def test_pools_are_per_stream(self) -> None:
        fake = make()
        a = device_bytes(fake, 100)
        del a
        with fake.using(fake.stream(Queue.H2D)):
            b = torch.empty(100)
        assert fake.entries[-1] == Alloc("h2d", block(0, segment=2), "aten.empty.memory_format")
        del b
        assert fake.entries[-1] == Free("h2d", block(0, segment=2))
        device_bytes(fake, 100)
        assert Alloc("compute", block(0), "aten.empty.memory_format") in fake.entries[-2:]

    def test_views_and_saved_tensors_keep_their_block(self) -> None:
        fake = make()
        with fake.using(fake.stream(Queue.COMPUTE)):
            a = torch.ones(100, requires_grad=True)
            loss = (a * a).exp().sum()
            piece = a.detach()[3:]
        assert fake.allocated() == 3 * 512  # a, what exp returned and keeps, the sum
        del a
        assert fake.allocated() == 3 * 512
        del loss
        assert fake.allocated() == 512
        del piece
        assert fake.allocated() == 0

    def test_what_was_there_before(self) -> None:
        fake = make()
        weight, other = torch.ones(200), torch.ones(10)
        fake.adopt([weight, weight[:4]])
        assert fake.allocated() == 1024
        with fake.using(fake.stream(Queue.COMPUTE)):
            other.mul_(2)
        assert fake.allocated() == 1024 + 512
        del weight, other
        assert fake.allocated() == 0

    def test_a_number_on_its_own_is_the_hosts(self) -> None:
        """As in an optimizer, which counts its steps on the host and looks at the count."""
        fake = make()
        count = torch.tensor(0.0)
        with fake.using(fake.stream(Queue.COMPUTE)):
            count += 1
            assert (count + 1).item() == 2.0
        assert (fake.allocated(), tail_ns(fake, Queue.COMPUTE)) == (0, 0)
        assert {entry.stream for entry in fake.entries if isinstance(entry, Launch)} == {HOST}
        assert not any(isinstance(entry, HostWait) for entry in fake.entries)

    def test_a_tensor_of_no_bytes_has_no_memory(self) -> None:
        fake = make()
        nothing = device_bytes(fake, 0)
        assert (fake.entries, fake.allocated(), len(nothing)) == ([], 0, 0)

    def test_pinned_memory(self) -> None:
        fake = make()
        slab = pinned_bytes(fake, 777)
        assert (len(slab), slab.untyped_storage().nbytes(), fake.memory.pinned) == (777, 777, 777)
        fake.unpin(slab)
        assert fake.memory.pinned == 0
        fake.pinnable = False
        assert fake.pin(5) is None


class TestRecord:
    def test_of_a_transfer(self) -> None:
        fake = make()
        slab, a = pinned_bytes(fake, 64), device_bytes(fake, 16)
        a.fill_(3)
        fake.entries.clear()
        fake.doing = "OFFLOAD"
        event = fake.event(timing=False)
        d2h, h2d = fake.stream(Queue.D2H), fake.stream(Queue.H2D)
        with fake.using(d2h):
            fake.copy(slab[8:24], a)
        fake.record(event, d2h)
        fake.wait(h2d, event)
        fake.synchronize()
        assert fake.entries == [
            Launch("d2h", "OFFLOAD: copy device to pinned", reads=(block(0),), writes=(HostRange(1, 8, 24),)),
            Record("d2h", 1),
            Wait("h2d", 1),
            Sync(),
        ]
        assert slab.tolist() == [0] * 8 + [3] * 16 + [0] * 40

    def test_what_an_operator_reads_and_writes(self) -> None:
        fake = make()
        a, b = device_bytes(fake, 16), device_bytes(fake, 16)
        with fake.using(fake.stream(Queue.COMPUTE)):
            a.add_(b)
            c = a + b
            torch.add(a, b, out=c)
            a.view(4, 4)
        calls = [(e.reads, e.writes) for e in fake.entries if isinstance(e, Launch)]
        first, second, third = block(0), block(1), block(2)
        assert calls == [((second,), (first,)), ((first, second), (third,)), ((first, second), (third,))]

    @pytest.mark.parametrize("look", [torch.Tensor.item, torch.nonzero, bool, lambda a: a[a > 0]])
    def test_a_look_at_the_data_makes_the_host_wait(self, look: object) -> None:
        fake = make()
        with fake.using(fake.stream(Queue.COMPUTE)):
            a = torch.ones(1)
            fake.spin(500)
            look(a)  # type: ignore[operator]
        assert [entry.stream for entry in fake.entries if isinstance(entry, HostWait)] == ["compute"]
        assert fake.host_ns() > 500

    @pytest.mark.parametrize("look", [lambda a: a[torch.zeros(1, dtype=torch.int64)], torch.sum, torch.Tensor.clone])
    def test_other_work_does_not(self, look: object) -> None:
        fake = make()
        with fake.using(fake.stream(Queue.COMPUTE)):
            look(torch.ones(4))  # type: ignore[operator]
        assert not any(isinstance(entry, HostWait) for entry in fake.entries)

    def test_a_dropped_wait_is_not_done(self) -> None:
        fake = make()
        compute, d2h = fake.stream(Queue.COMPUTE), fake.stream(Queue.D2H)
        fake.drop_waits = {1}
        event = fake.event(timing=False)
        for _ in range(2):  # counted anew in every step
            with fake.using(compute):
                fake.spin(50)
            fake.record(event, compute)
            fake.entries.clear()
            fake.wait(fake.stream(Queue.H2D), event)
            fake.wait(d2h, event)
            assert fake.entries == [Wait("h2d", event.number)]
            fake.synchronize()
        assert (d2h.tail_ns, tail_ns(fake, Queue.H2D)) == (0, 100)

    def test_a_wait_for_nothing_is_in_the_record(self) -> None:
        fake = make()
        fake.wait(fake.stream(Queue.D2H), fake.event(timing=False))
        assert (fake.entries, tail_ns(fake, Queue.D2H)) == ([Wait("d2h", 1)], 0)
