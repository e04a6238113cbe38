"""What the link's bench makes of times: the fit by hand, and the figures of a stand-in whose figures are known."""

from __future__ import annotations

import pytest

from loadahead.executor.calibration.copies import DIRECTIONS, LinkBench, duplex, fit
from loadahead.sim.ir.kinds import Queue
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu

GB = 1_000_000_000


def test_two_points_make_a_line() -> None:
    """10 us and 1 ns per byte."""
    found = fit([1_000, 100_000], [11_000, 110_000])
    assert (found.latency_ns, found.bandwidth, found.worst_error) == (10_000, GB, 0.0)


def test_errors_count_by_their_share() -> None:
    """Ten percent too long at one size of many, large or small, moves the line by the same share."""
    sizes = [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
    times = [5_000 + size / 2 for size in sizes]
    found = fit(sizes, [*times[:4], times[4] * 1.1])
    assert 0.02 < found.worst_error < 0.1
    assert found.latency_ns == pytest.approx(5_000, rel=0.1)
    assert found.bandwidth == pytest.approx(2 * GB, rel=0.1)


def test_no_latency_is_below_nothing() -> None:
    found = fit([1_000, 2_000, 3_000], [900, 2_000, 3_100])
    assert found.latency_ns == 0
    assert found.bandwidth == pytest.approx(GB, rel=0.05)


@pytest.mark.parametrize(
    ("alone", "both", "found"),
    [
        ((25 * GB, 25 * GB), (1.0, 1.01), None),
        ((25 * GB, 25 * GB), (0.98, 1.0), None),  # within noise
        ((25 * GB, 25 * GB), (0.96, 0.44), (35 * GB, 1000, 458)),  # an A100: 24 GB/s out, 11 GB/s in
        ((20 * GB, 20 * GB), (0.5, 0.5), (20 * GB, 1000, 1000)),
    ],
)
def test_what_both_directions_share(
    alone: tuple[int, int], both: tuple[float, float], found: tuple[int, int, int] | None
) -> None:
    shared = duplex(dict(zip(DIRECTIONS, alone, strict=True)), dict(zip(DIRECTIONS, both, strict=True)))
    assert (shared and (shared.duplex, shared.d2h_weight, shared.h2d_weight)) == found


SIZES = (4_096, 65_536, 1 << 20)


def bench_of(gpu: FakeGpu, pinnable: bool = True) -> tuple[LinkBench, FakeCuda]:
    fake = FakeCuda(gpu)
    fake.pinnable = pinnable
    return LinkBench(fake, SIZES, repeats=3), fake


@pytest.mark.parametrize("launch_ns", [0, 4_000, 30_000])
@pytest.mark.parametrize(("d2h", "h2d"), [(25 * GB, 12 * GB), (GB, 2 * GB)])
def test_bandwidth_and_latency_are_found_however_slow_the_host(d2h: int, h2d: int, launch_ns: int) -> None:
    gpu = FakeGpu(
        launch_ns=launch_ns, d2h_bandwidth=d2h, h2d_bandwidth=h2d, d2h_latency_ns=9_000, h2d_latency_ns=13_000
    )
    bench, fake = bench_of(gpu)
    for queue, bandwidth, latency in ((Queue.D2H, d2h, 9_000), (Queue.H2D, h2d, 13_000)):
        found, points = bench.alone(queue, pinned=True)
        assert found.bandwidth == pytest.approx(bandwidth, rel=1e-3)
        assert found.latency_ns == pytest.approx(latency, abs=2)
        assert [(point["bytes"], point["count"]) for point in points] == [(size, 3) for size in SIZES]
    bench.close()
    assert fake.memory.pinned == 0


def test_directions_that_do_not_share_are_found_not_to() -> None:
    bench, _ = bench_of(FakeGpu(d2h_bandwidth=10 * GB, h2d_bandwidth=20 * GB))
    assert bench.both() == pytest.approx(dict.fromkeys(DIRECTIONS, 1.0))


def test_without_pinned_memory_copies_are_measured_pageable() -> None:
    bench, _ = bench_of(FakeGpu(), pinnable=False)
    assert not bench.pinned
    found, _ = bench.alone(Queue.D2H, pinned=False)
    assert found.bandwidth > 0
