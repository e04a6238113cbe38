"""The CUDA calls that the backend makes, and torch's way to make them.

The backend (:mod:`loadahead.executor.backends.cuda`) knows CUDA only through :class:`Driver`, so that tests can put a
stand-in in its place which records every call and keeps a clock of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

import torch

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Queue

# A queue's stream and an event, opaque to the backend.
Stream = Any
Event = Any

# cuBLAS is deterministic only with a workspace of fixed size, which has to be chosen before its first use:
# docs.nvidia.com/cuda/cublas, "Results reproducibility". Chosen for all runs, so that all take the same memory.
_CUBLAS_KEY, _CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
# Cycles of the spinning kernel by which its speed is found: some milliseconds on any GPU of today.
_SPIN_CYCLES = 10_000_000
_MOST_SPINS, _SPINS_AGREE = 10, 0.05
# What cudaHostRegister can rely on everywhere.
_PAGE = 4096


class Driver(Protocol):
    """CUDA as the backend uses it. One device; "current" means of the calling thread.

    Device tensors are made by torch's own functions on ``device`` while a stream is current, and freed by dropping
    them.
    """

    device: torch.device

    def stream(self, queue: Queue) -> Stream:
        """The queue's stream, the same one for the life of the process; the compute queue's is the default stream."""

    def event(self, *, timing: bool) -> Event:
        """A new event; without timing it orders and does not tell when."""

    def using(self, stream: Stream) -> AbstractContextManager[None]:
        """Inside, the stream is current."""

    def record(self, event: Event, stream: Stream) -> None:
        """The event takes place once all that was put on the stream so far has ended."""

    def wait(self, stream: Stream, event: Event) -> None:
        """What is put on the stream from now on starts after the event."""

    def elapsed_ns(self, start: Event, end: Event) -> int:
        """Device time between two timing events that have taken place."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on the current stream; the host does not wait. Either side may be pinned host memory."""

    def spin(self, nanoseconds: int) -> None:
        """Keep the current stream busy for about that long, with next to no use of memory."""

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do; raises what went wrong there."""

    def host_ns(self) -> int:
        """The host's clock."""

    def pin(self, nbytes: int) -> torch.Tensor | None:
        """Pinned host memory of exactly that size, uint8; None where it cannot be had."""

    def unpin(self, slab: torch.Tensor) -> None:
        """Give memory from :meth:`pin` back; nothing may be copying it."""

    def allocated(self) -> int:
        """Bytes that tensors hold on the device now."""

    def peak_allocated(self) -> int:
        """The most of :meth:`allocated` since :meth:`reset_peaks`."""

    def peak_reserved(self) -> int:
        """The most that the allocator held of the device since :meth:`reset_peaks`."""

    def reset_peaks(self) -> None:
        """Both peaks begin anew."""

    def memory_bytes(self) -> int:
        """Capacity of the device."""

    def describe(self) -> dict[str, Any]:
        """Device and versions, for evidence."""


def choose_cublas_workspace() -> None:
    """To be called before the first matmul of the process on a GPU: torch looks only then."""
    os.environ.setdefault(_CUBLAS_KEY, _CUBLAS_WORKSPACE)


def require_cuda() -> None:
    """InputError, one line that says why, where torch finds no NVIDIA GPU."""
    if torch.cuda.is_available():
        return
    if torch.version.cuda is None:
        why = f"this torch, {torch.__version__}, is built without CUDA"
    else:
        why = f"torch {torch.__version__} with CUDA {torch.version.cuda} finds no device or no driver"
    raise InputError(f"device is 'cuda', and there is no NVIDIA GPU to use: {why}; use cpu, or a machine with a GPU")


# torch.cuda is only partly typed.
_cuda: Any = torch.cuda
# Streams live as long as the process: memory of torch's allocator belongs to the stream it was taken on.
_STREAMS: dict[tuple[int, Queue], torch.cuda.Stream] = {}
# Pinned memory outlives a run, since pinning takes about a second for every few GB: in use, by address, and not in use.
_PINNED: dict[int, torch.Tensor] = {}
_UNUSED: list[torch.Tensor] = []
_SPIN_SPEED: dict[int, float] = {}


class TorchDriver:
    """:class:`Driver` by torch, on the current CUDA device."""

    def __init__(self) -> None:
        require_cuda()
        choose_cublas_workspace()
        self.device = torch.device("cuda", torch.cuda.current_device())

    def stream(self, queue: Queue) -> torch.cuda.Stream:
        if queue == Queue.COMPUTE:
            return torch.cuda.default_stream(self.device)
        key = (self.device.index, queue)
        if key not in _STREAMS:
            _STREAMS[key] = _cuda.Stream(self.device)
        return _STREAMS[key]

    def event(self, *, timing: bool) -> torch.cuda.Event:
        made: torch.cuda.Event = _cuda.Event(enable_timing=timing)
        return made

    @contextmanager
    def using(self, stream: torch.cuda.Stream) -> Iterator[None]:
        with torch.cuda.stream(stream):
            yield

    def record(self, event: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
        event.record(stream)

    def wait(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        stream.wait_event(event)

    def elapsed_ns(self, start: torch.cuda.Event, end: torch.cuda.Event) -> int:
        return round(float(start.elapsed_time(end)) * 1e6)  # torch gives milliseconds

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def spin(self, nanoseconds: int) -> None:
        _cuda._sleep(max(1, round(nanoseconds * self._spin_speed())))

    def _spin_speed(self) -> float:
        """Cycles per ns of the spinning kernel, measured once for the process; the stream is drained for it.

        An idle GPU's clock is slow and rises while the first of these run: so until two agree, and the quickest counts.
        """
        index = self.device.index
        if index not in _SPIN_SPEED:
            speeds = [self._one_spin()]
            while len(speeds) < _MOST_SPINS:
                speeds.append(self._one_spin())
                if abs(speeds[-1] / speeds[-2] - 1) < _SPINS_AGREE:
                    break
            _SPIN_SPEED[index] = max(speeds)
        return _SPIN_SPEED[index]

    def _one_spin(self) -> float:
        start, end = self.event(timing=True), self.event(timing=True)
        start.record()
        _cuda._sleep(_SPIN_CYCLES)
        end.record()
        end.synchronize()
        return _SPIN_CYCLES / max(1, self.elapsed_ns(start, end))

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def host_ns(self) -> int:
        return time.perf_counter_ns()

    def pin(self, nbytes: int) -> torch.Tensor | None:
        """Memory of torch's CPU allocator, registered: its own pinned allocator rounds up to powers of two.

        What an earlier run gave back is used again where it is large enough, and else given back to the system.
        """
        if not nbytes:
            return torch.empty(0, dtype=torch.uint8)
        whole = _take_unused(nbytes)
        if whole is None:
            whole = self._register(nbytes)
        if whole is None:
            return None
        _PINNED[whole.data_ptr()] = whole
        return whole[:nbytes]

    def unpin(self, slab: torch.Tensor) -> None:
        whole = _PINNED.pop(slab.data_ptr(), None) if len(slab) else None
        if whole is not None:
            _UNUSED.append(whole)

    def _register(self, nbytes: int) -> torch.Tensor | None:
        base = torch.empty(nbytes + _PAGE, dtype=torch.uint8)
        skip = -base.data_ptr() % _PAGE
        memory = base[skip : skip + nbytes].zero_()  # pages have to exist before they can be pinned
        if int(_cuda.cudart().cudaHostRegister(memory.data_ptr(), nbytes, 0)):
            _clear_last_error(self.device)
            return None
        return memory

    def allocated(self) -> int:
        return int(torch.cuda.memory_allocated(self.device))

    def peak_allocated(self) -> int:
        return int(torch.cuda.max_memory_allocated(self.device))

    def peak_reserved(self) -> int:
        return int(torch.cuda.max_memory_reserved(self.device))

    def reset_peaks(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def memory_bytes(self) -> int:
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def describe(self) -> dict[str, Any]:
        found = torch.cuda.get_device_properties(self.device)
        return {
            "gpu": found.name,
            "gpu_memory_bytes": int(found.total_memory),
            "gpu_capability": f"{found.major}.{found.minor}",
            "cuda": torch.version.cuda,
            "gpu_driver": _driver_version(),
        }


def _take_unused(nbytes: int) -> torch.Tensor | None:
    """The smallest that is large enough; where there is none, all that are too small go back to the system."""
    fitting = [at for at, slab in enumerate(_UNUSED) if len(slab) >= nbytes]
    if fitting:
        return _UNUSED.pop(min(fitting, key=lambda at: len(_UNUSED[at])))
    while _UNUSED:
        _cuda.cudart().cudaHostUnregister(_UNUSED.pop().data_ptr())
    return None


def _clear_last_error(device: torch.device) -> None:
    """A failed cudaHostRegister leaves its error behind, and torch reports it at the next kernel: let it, here."""
    with suppress(RuntimeError):
        torch.zeros(1, device=device)


def _driver_version() -> str | None:
    """As in /proc/driver/nvidia/version; None where that cannot be read."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as lines:
            return lines.readline().partition("Kernel Module")[2].split()[0]
    except (OSError, IndexError):
        return None
