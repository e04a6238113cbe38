"""Every backend: queues in order, waits, links that take their time, and failures that leave nothing running."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from loadahead.executor.backends import BACKENDS, Backend, Link, make_backend
from loadahead.executor.tensors.layout import Layout
from loadahead.sim.errors import InputError

FLAT = Layout((4,), (1,), torch.float32)


# Queues of the cuda backend are a device's: test_cuda_recorded.py and tests/gpu ask this of it in its own terms.
THREADED = sorted(set(BACKENDS) - {"cuda"})


@pytest.fixture(params=THREADED)
def backend(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    made = make_backend(request.param)
    yield made
    made.close()


def issue(backend: Backend, items: list[tuple[int, list[int], object]]) -> None:
    """(queue, waits, work) per operation."""
    backend.begin(len(items), {edge for _, waits, _ in items for edge in waits})
    for op, (queue, waits, work) in enumerate(items):
        for edge in waits:
            backend.wait(queue, edge)
        backend.launch(queue, op, work)  # type: ignore[arg-type]
        backend.record(queue, op)


def test_queues_run_in_order_and_waits_hold(backend: Backend) -> None:
    seen: list[int] = []

    def work(op: int, seconds: float = 0.0) -> object:
        return lambda: (time.sleep(seconds), seen.append(op))

    issue(
        backend,
        [(0, [], work(0, 0.02)), (0, [], work(1)), (1, [0], work(2, 0.01)), (0, [2], work(3)), (2, [2], work(4))],
    )
    measured = backend.finish()
    assert seen[0] == 0
    assert seen.index(1) < seen.index(3)
    assert seen.index(2) < min(seen.index(3), seen.index(4))
    start, end = measured.start_ns, measured.end_ns
    assert start[1] >= end[0]
    assert start[2] >= end[0]
    assert start[3] >= end[2]
    assert end[0] - start[0] >= 20e6
    assert measured.step_time_ns >= 30e6


def test_queues_run_at_once(backend: Backend) -> None:
    meeting = threading.Barrier(2, timeout=300)
    issue(backend, [(0, [], meeting.wait), (1, [], meeting.wait)])
    backend.finish()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_after_a_failure_the_queues_are_empty_and_the_next_step_runs(backend: Backend, error: BaseException) -> None:
    seen: list[str] = []

    def fails() -> None:
        raise error

    issue(backend, [(0, [], fails), (1, [0], lambda: seen.append("skipped")), (0, [1], lambda: seen.append("too"))])
    with pytest.raises(type(error)):
        backend.finish()
    assert seen == []
    issue(backend, [(0, [], lambda: seen.append("next")), (1, [0], lambda: seen.append("step"))])
    backend.finish()
    assert seen == ["next", "step"]


def test_no_thread_stays(backend: Backend) -> None:
    issue(backend, [(queue, [], lambda: None) for queue in range(5)])
    backend.finish()
    backend.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loadahead")]


def test_closing_with_a_step_half_issued(backend: Backend) -> None:
    seen: list[int] = []
    issue(backend, [(0, [], lambda: seen.append(1)), (1, [0], lambda: seen.append(2))])
    backend.close()
    assert seen == []


def test_a_copy_takes_no_less_than_the_link_says(backend: Backend) -> None:
    """How much longer it takes is for tests/times."""
    source, target = torch.arange(1000.0), torch.zeros(1000)
    link = Link(bandwidth=400_000, latency_ns=5_000_000)  # 4000 bytes: 10 ms
    issue(backend, [(0, [], lambda: backend.copy(target, source, link))])
    measured = backend.finish()
    assert torch.equal(source, target)
    assert measured.step_time_ns >= 15e6


@pytest.mark.parametrize(
    ("bandwidth", "latency", "nbytes", "duration"),
    [(10**9, 0, 1, 1), (3, 0, 1, 333_333_334), (None, 7, 10**9, 7), (10**9, 20, 5, 25)],
)
def test_a_links_time_is_rounded_up(bandwidth: int | None, latency: int, nbytes: int, duration: int) -> None:
    assert Link(bandwidth=bandwidth, latency_ns=latency).duration_ns(nbytes) == duration


@pytest.mark.parametrize("device", THREADED)
def test_poison_fills_what_no_one_may_read(device: str) -> None:
    poisoned = make_backend(device, poisoned=True)
    taken, freed, ids = poisoned.acquire(FLAT), torch.zeros(2, 2), torch.zeros(3, dtype=torch.int64)
    poisoned.release(freed)
    poisoned.release(ids)
    assert taken.isnan().all()
    assert freed.isnan().all()
    assert (ids == -1).all()
    half = Layout((4,), (1,), torch.bfloat16)
    assert poisoned.acquire(half).isnan().all()
    poisoned.close()


def test_an_unknown_device_is_one_line() -> None:
    with pytest.raises(InputError, match=r"device is 'tpu'; it must be one of cpu, cuda"):
        make_backend("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_cuda_is_one_line() -> None:
    with pytest.raises(InputError, match=r"device is 'cuda', and there is no NVIDIA GPU to use: .*; use cpu"):
        make_backend("cuda")
