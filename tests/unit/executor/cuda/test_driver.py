"""torch's side of the driver, as far as it shows without a GPU: which CUDA calls it makes with what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from loadahead.executor.cuda import driver as module
from loadahead.executor.cuda.driver import Driver, TorchDriver, require_cuda
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Queue

PAGE = 4096


class Runtime:
    """``torch.cuda.cudart()``: registers memory, or refuses."""

    def __init__(self, answer: int = 0) -> None:
        self.answer = answer
        self.registered: dict[int, int] = {}

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:
        if not self.answer:
            self.registered[address] = nbytes
        return self.answer

    def cudaHostUnregister(self, address: int) -> int:
        del self.registered[address]
        return 0


class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.enable_timing = enable_timing
        self.at_ms = 0.0

    def record(self, stream: Any = None) -> None:
        self.at_ms = CLOCK["ms"]

    def synchronize(self) -> None:
        return None

    def elapsed_time(self, end: Event) -> float:
        return end.at_ms - self.at_ms


CLOCK = {"ms": 0.0}


def sleep(cycles: int) -> None:
    """A GPU of 2 cycles per ns."""
    CLOCK["ms"] += cycles / 2e6
    SLEPT.append(cycles)


SLEPT: list[int] = []
CURRENT: list[Any] = []  # torch's current streams, one after the other


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    found = Runtime()
    cuda = SimpleNamespace(cudart=lambda: found, Event=Event, _sleep=sleep, Stream=lambda device: object())
    monkeypatch.setattr(module, "_cuda", cuda)
    for name in ("_STREAMS", "_PINNED", "_SPIN_SPEED"):
        monkeypatch.setattr(module, name, {})
    monkeypatch.setattr(module, "_UNUSED", [])
    monkeypatch.setattr(module, "require_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    CURRENT[:] = ["mine"]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: CURRENT[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", CURRENT.append)
    monkeypatch.setenv(module._CUBLAS_KEY, "as it was")
    SLEPT.clear()
    return found


@pytest.mark.parametrize("nbytes", [1, 512, PAGE, 3 * PAGE + 17])
def test_pinned_memory_has_exactly_its_size_and_begins_on_a_page(runtime: Runtime, nbytes: int) -> None:
    """torch's own pinned allocator would have rounded up to a power of two."""
    driver = TorchDriver()
    slab = driver.pin(nbytes)
    assert slab is not None
    assert slab.shape == (nbytes,)
    assert slab.dtype == torch.uint8
    assert slab.data_ptr() % PAGE == 0
    assert runtime.registered == {slab.data_ptr(): nbytes}
    driver.unpin(slab)
    driver.unpin(slab)  # nothing to give back twice
    again = driver.pin(nbytes)
    assert again is not None
    assert again.data_ptr() == slab.data_ptr()
    assert runtime.registered == {slab.data_ptr(): nbytes}


def test_pinned_memory_is_kept_for_the_next_run_and_no_more_than_that(runtime: Runtime) -> None:
    """To pin takes long. What is too small for the next run goes back to the system before more is pinned."""
    driver = TorchDriver()
    first = driver.pin(3 * PAGE)
    assert first is not None
    driver.unpin(first)
    smaller = driver.pin(PAGE)
    assert smaller is not None
    assert (smaller.data_ptr(), len(smaller)) == (first.data_ptr(), PAGE)
    beside = driver.pin(PAGE)
    assert beside is not None
    assert sorted(runtime.registered.values()) == [PAGE, 3 * PAGE]
    driver.unpin(smaller)
    driver.unpin(beside)
    larger = driver.pin(4 * PAGE)
    assert larger is not None
    assert list(runtime.registered.values()) == [4 * PAGE]


def test_where_pinning_fails_there_is_none(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.answer = 2
    cleared: list[torch.device] = []
    monkeypatch.setattr(module, "_clear_last_error", cleared.append)
    assert TorchDriver().pin(PAGE) is None
    assert cleared == [torch.device("cuda", 0)]  # or the next kernel would report it as its own


def test_no_bytes_need_no_pinning(runtime: Runtime) -> None:
    slab = TorchDriver().pin(0)
    assert slab is not None
    assert slab.shape == (0,)
    assert runtime.registered == {}


def test_streams_live_as_long_as_the_process(runtime: Runtime) -> None:
    """Memory of torch's allocator belongs to the stream it was taken on."""
    first, second = TorchDriver(), TorchDriver()
    assert first.stream(Queue.D2H) is second.stream(Queue.D2H)
    assert len({id(first.stream(queue)) for queue in Queue}) == len(Queue)


def test_compute_goes_to_the_stream_that_is_current_when_the_driver_is_made(runtime: Runtime) -> None:
    """The default stream cannot be captured into a graph; the caller's own can."""
    driver = TorchDriver()
    CURRENT.append("another")
    assert driver.stream(Queue.COMPUTE) == "mine"
    assert TorchDriver().stream(Queue.COMPUTE) == "another"


def test_a_stream_is_current_until_it_is_left(runtime: Runtime) -> None:
    driver = TorchDriver()
    CURRENT.append("callers")
    previous = driver.enter("compute")
    driver.switch("d2h")
    driver.switch("compute")
    driver.leave(previous)
    assert CURRENT == ["mine", "callers", "compute", "d2h", "compute", "callers"]
    with pytest.raises(KeyError), driver.using("h2d"):
        raise KeyError("broken")
    assert CURRENT[-2:] == ["h2d", "callers"]


@pytest.mark.parametrize(("allocator", "figures"), [("native", (700, 900)), ("cudaMallocAsync", (1024, 1536))])
def test_bytes_are_those_that_tensors_ask_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, allocator: str, figures: tuple[int, int]
) -> None:
    """Other allocators than torch's own count none of them: there it is whole blocks."""
    requested = (700, 900) if allocator == "native" else (0, 0)
    stats = {
        "requested_bytes": {"all": dict(zip(("current", "peak"), requested, strict=True))},
        "allocated_bytes": {"all": {"current": 1024, "peak": 1536}},
    }
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda device: stats)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: allocator)
    driver = TorchDriver()
    assert (driver.requested(), driver.peak_requested()) == figures


def test_memory_is_what_tensors_can_have(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    assert TorchDriver().memory_bytes() == 1300


def test_spinning_takes_as_long_as_asked(runtime: Runtime) -> None:
    driver = TorchDriver()
    driver.spin(1_000)
    driver.spin(3_000)
    assert SLEPT[-2:] == [2_000, 6_000]
    assert len(SLEPT) == 4  # its speed is measured once, and two agree


def test_spinning_is_measured_until_the_clock_has_risen(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    cycles_per_ms = iter([0.3e6, 0.8e6, 1.95e6, 2e6, 2e6, 2e6])

    def warming(cycles: int) -> None:
        CLOCK["ms"] += cycles / next(cycles_per_ms)
        SLEPT.append(cycles)

    monkeypatch.setattr(module._cuda, "_sleep", warming)
    TorchDriver().spin(1_000)
    assert SLEPT[-1] == pytest.approx(2_000, rel=0.06)
    assert len(SLEPT) == 5


def test_events_tell_nanoseconds(runtime: Runtime) -> None:
    driver = TorchDriver()
    start, end = driver.event(timing=True), driver.event(timing=True)
    driver.record(start, "stream")
    CLOCK["ms"] += 1.25
    driver.record(end, "stream")
    assert driver.elapsed_ns(start, end) == 1_250_000
    assert not driver.event(timing=False).enable_timing


def test_a_chosen_cublas_workspace_stays(runtime: Runtime) -> None:
    TorchDriver()
    assert module.os.environ[module._CUBLAS_KEY] == "as it was"


def test_a_workspace_of_fixed_size_is_chosen_else(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(module._CUBLAS_KEY)
    TorchDriver()
    assert module.os.environ[module._CUBLAS_KEY] == module._CUBLAS_WORKSPACE


@pytest.mark.parametrize(
    ("built_for", "words"),
    [(None, "is built without CUDA"), ("12.8", "with CUDA 12.8 finds no device or no driver")],
)
def test_without_a_gpu_it_says_why(monkeypatch: pytest.MonkeyPatch, built_for: str | None, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(InputError, match=words) as caught:
        require_cuda()
    assert "\n" not in str(caught.value)


def test_torch_has_what_the_driver_calls() -> None:
    """Names that torch does not document."""
    assert callable(torch.cuda._sleep)  # type: ignore[attr-defined]
    assert callable(torch.cuda.cudart)
    assert isinstance(torch.utils.deterministic.fill_uninitialized_memory, bool)  # type: ignore[attr-defined]


def test_it_is_a_driver(runtime: Runtime) -> None:
    made: Driver = TorchDriver()
    public = {name for name in vars(Driver) if not name.startswith("_")} - {"device"}
    assert public <= set(dir(made))
