"""Defines the CUDA calls that the backend makes, and makes them by torch.

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

# The backend does not look into a queue's stream or an event.
Stream = Any
Event = Any

# cuBLAS is deterministic only with a workspace of fixed size, which has to be chosen before its first use:
# docs.nvidia.com/cuda/cublas, "Results reproducibility". It is set for all runs, so that all take the same memory.
_CUBLAS_KEY, _CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
# The spinning kernel's speed is measured over this many cycles, some milliseconds on any GPU of today.
_SPIN_CYCLES = 10_000_000
_MOST_SPINS, _SPINS_AGREE = 10, 0.05
# Addresses that are multiples of this can be registered everywhere.
_PAGE = 4096


class Driver(Protocol):
    """Is CUDA as the backend uses it, for one device; "current" means of the calling thread.

    Device tensors are made by torch's own functions on ``device`` while a stream is current, and freed by dropping
    them. Between :meth:`enter` and :meth:`leave` the current stream is the backend's to choose.
    """

    device: torch.device

    def stream(self, queue: Queue) -> Stream:
        """Return the queue's stream: the compute queue's is the one that was current when the driver was made.

        The others stay the same for the life of the process.
        """

    def event(self, *, timing: bool) -> Event:
        """Return a new event; without timing it orders work and does not tell when."""

    def enter(self, stream: Stream) -> Stream:
        """Make the stream current until :meth:`leave`, and return the one that was."""

    def switch(self, stream: Stream) -> None:
        """Make another stream current between :meth:`enter` and :meth:`leave`."""

    def leave(self, previous: Stream) -> None:
        """Make the stream current again that was so before :meth:`enter`."""

    def using(self, stream: Stream) -> AbstractContextManager[None]:
        """Let the stream be current inside the context."""

    def record(self, event: Event, stream: Stream) -> None:
        """Let the event take place once all that was put on the stream so far has ended."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Let what is put on the stream from now on start after the event."""

    def elapsed_ns(self, start: Event, end: Event) -> int:
        """Return the device time in ns between two timing events that have taken place."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on the current stream; the host does not wait. Either side may be pinned host memory."""

    def spin(self, nanoseconds: int) -> None:
        """Keep the current stream busy for about that long, with next to no use of memory."""

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do; raises what went wrong there."""

    def host_ns(self) -> int:
        """Return the time of the host's clock in ns."""

    def pin(self, nbytes: int) -> torch.Tensor | None:
        """Return pinned host memory of exactly that size, uint8; None where it cannot be had."""

    def unpin(self, slab: torch.Tensor) -> None:
        """Give memory from :meth:`pin` back; nothing may be copying it."""

    def requested(self) -> int:
        """Return the bytes that tensors have asked for and hold on the device now."""

    def peak_requested(self) -> int:
        """Return the most of :meth:`requested` since :meth:`reset_peaks`."""

    def allocated(self) -> int:
        """Return the bytes of the blocks that the allocator gave them: never fewer than they asked for."""

    def peak_allocated(self) -> int:
        """Return the most of :meth:`allocated` since :meth:`reset_peaks`."""

    def peak_reserved(self) -> int:
        """Return the most bytes that the allocator held of the device since :meth:`reset_peaks`."""

    def reset_peaks(self) -> None:
        """Begin all peaks anew."""

    def memory_bytes(self) -> int:
        """Return the bytes that tensors can have now: what is free, and what the allocator holds.

        What the CUDA context, libraries and other processes hold is not among them; so ask after a warm-up.
        """

    def describe(self) -> dict[str, Any]:
        """Return device and versions, for evidence."""


def choose_cublas_workspace() -> None:
    """Set the workspace; call it before the process's first matmul on a GPU, as torch looks only then."""
    os.environ.setdefault(_CUBLAS_KEY, _CUBLAS_WORKSPACE)


def require_cuda() -> None:
    """Raise an InputError in one line that says why, where torch finds no NVIDIA GPU."""
    if torch.cuda.is_available():
        return
    if torch.version.cuda is None:
        why = f"this torch, {torch.__version__}, is built without CUDA"
    else:
        why = f"torch {torch.__version__} with CUDA {torch.version.cuda} finds no device or no driver"
    raise InputError(f"device is 'cuda', and there is no NVIDIA GPU to use: {why}; use cpu, or a machine with a GPU")


# This alias has no type, since torch.cuda is only partly typed.
_cuda: Any = torch.cuda
# Streams live as long as the process: memory of torch's allocator belongs to the stream it was taken on.
_STREAMS: dict[tuple[int, Queue], torch.cuda.Stream] = {}
# Pinned memory outlives a run, since pinning takes about a second for every few GB: in use, by address, and not in use.
_PINNED: dict[int, torch.Tensor] = {}
_UNUSED: list[torch.Tensor] = []
_SPIN_SPEED: dict[int, float] = {}


class TorchDriver:
    """Implements :class:`Driver` by torch, on the current CUDA device and, for compute, its current stream."""

    def __init__(self) -> None:
        require_cuda()
        choose_cublas_workspace()
        self.device = torch.device("cuda", torch.cuda.current_device())
        # The caller's own stream can be captured into a graph; the legacy default stream cannot.
        self._compute = torch.cuda.current_stream(self.device)

    def stream(self, queue: Queue) -> torch.cuda.Stream:
        """Return the queue's stream: the compute queue's is the one that was current when the driver was made.

        The others stay the same for the life of the process.
        """
        if queue == Queue.COMPUTE:
            return self._compute
        key = (self.device.index, queue)
        if key not in _STREAMS:
            _STREAMS[key] = _cuda.Stream(self.device)
        return _STREAMS[key]

    def event(self, *, timing: bool) -> torch.cuda.Event:
        """Return a new event; without timing it orders work and does not tell when."""
        made: torch.cuda.Event = _cuda.Event(enable_timing=timing)
        return made

    def enter(self, stream: torch.cuda.Stream) -> torch.cuda.Stream:
        """Make the stream torch's current one until :meth:`leave`, and return the one that was."""
        previous = torch.cuda.current_stream(self.device)
        torch.cuda.set_stream(stream)
        return previous

    def switch(self, stream: torch.cuda.Stream) -> None:
        """Make another stream current between :meth:`enter` and :meth:`leave`; torch's own context takes far longer."""
        torch.cuda.set_stream(stream)

    def leave(self, previous: torch.cuda.Stream) -> None:
        """Make the stream current again that was so before :meth:`enter`."""
        torch.cuda.set_stream(previous)

    @contextmanager
    def using(self, stream: torch.cuda.Stream) -> Iterator[None]:
        """Make the stream torch's current one inside the context."""
        previous = self.enter(stream)
        try:
            yield
        finally:
            self.leave(previous)

    def record(self, event: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
        """Let the event take place once all that was put on the stream so far has ended."""
        event.record(stream)

    def wait(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        """Let what is put on the stream from now on start after the event."""
        stream.wait_event(event)

    def elapsed_ns(self, start: torch.cuda.Event, end: torch.cuda.Event) -> int:
        """Return the device time in ns between two timing events that have taken place."""
        return round(float(start.elapsed_time(end)) * 1e6)  # torch gives milliseconds

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on the current stream; the host does not wait. Either side may be pinned host memory."""
        target.copy_(source, non_blocking=True)

    def spin(self, nanoseconds: int) -> None:
        """Keep the current stream busy for about that long, with next to no use of memory."""
        _cuda._sleep(max(1, round(nanoseconds * self._spin_speed())))

    def _spin_speed(self) -> float:
        """Return cycles per ns of the spinning kernel, measured once for the process; this drains the stream.

        An idle GPU's clock is slow and rises while the first of these run: so until two agree, and the quickest counts.
        """
        index = self.device.index
        if index not in _SPIN_SPEED:
            speeds = [self._measured_spin()]
            while len(speeds) < _MOST_SPINS:
                speeds.append(self._measured_spin())
                if abs(speeds[-1] / speeds[-2] - 1) < _SPINS_AGREE:
                    break
            _SPIN_SPEED[index] = max(speeds)
        return _SPIN_SPEED[index]

    def _measured_spin(self) -> float:
        start, end = self.event(timing=True), self.event(timing=True)
        start.record()
        _cuda._sleep(_SPIN_CYCLES)
        end.record()
        end.synchronize()
        return _SPIN_CYCLES / max(1, self.elapsed_ns(start, end))

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do; raises what went wrong there."""
        torch.cuda.synchronize(self.device)

    def host_ns(self) -> int:
        """Return the time of the host's clock in ns."""
        return time.perf_counter_ns()

    def pin(self, nbytes: int) -> torch.Tensor | None:
        """Return registered memory of torch's CPU allocator: the pinned allocator rounds up to powers of two.

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
        """Give memory from :meth:`pin` back; nothing may be copying it."""
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

    def requested(self) -> int:
        """Return the bytes that tensors have asked for and hold on the device now."""
        return self._requested("current")

    def peak_requested(self) -> int:
        """Return the most of :meth:`requested` since :meth:`reset_peaks`."""
        return self._requested("peak")

    def _requested(self, which: str) -> int:
        # The nested form is read as it comes; torch.cuda.memory_stats flattens and sorts all of it first.
        stats = torch.cuda.memory_stats_as_nested_dict(self.device)
        # Allocators other than torch's own count whole blocks alone.
        counted = "requested_bytes" if torch.cuda.get_allocator_backend() == "native" else "allocated_bytes"
        return int(stats[counted]["all"][which])

    def allocated(self) -> int:
        """Return the bytes of the blocks that the allocator gave them: never fewer than they asked for."""
        return int(torch.cuda.memory_allocated(self.device))

    def peak_allocated(self) -> int:
        """Return the most of :meth:`allocated` since :meth:`reset_peaks`."""
        return int(torch.cuda.max_memory_allocated(self.device))

    def peak_reserved(self) -> int:
        """Return the most bytes that the allocator held of the device since :meth:`reset_peaks`."""
        return int(torch.cuda.max_memory_reserved(self.device))

    def reset_peaks(self) -> None:
        """Begin all peaks anew."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def memory_bytes(self) -> int:
        """Return the bytes that tensors can have now: what is free, and what the allocator holds."""
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free) + int(torch.cuda.memory_reserved(self.device))

    def describe(self) -> dict[str, Any]:
        """Return device and versions, for evidence."""
        properties = torch.cuda.get_device_properties(self.device)
        return {
            "gpu": properties.name,
            "gpu_memory_bytes": int(properties.total_memory),
            "gpu_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "gpu_driver": _driver_version(),
        }


def _take_unused(nbytes: int) -> torch.Tensor | None:
    """Return the smallest slab that is large enough; where there is none, give all to the system, return None."""
    large_enough = [at for at, slab in enumerate(_UNUSED) if len(slab) >= nbytes]
    if large_enough:
        return _UNUSED.pop(min(large_enough, key=lambda at: len(_UNUSED[at])))
    while _UNUSED:
        _cuda.cudart().cudaHostUnregister(_UNUSED.pop().data_ptr())
    return None


def _clear_last_error(device: torch.device) -> None:
    """Take the error that a failed cudaHostRegister leaves behind, or torch would report it at the next kernel."""
    with suppress(RuntimeError):
        torch.zeros(1, device=device)


def _driver_version() -> str | None:
    """Return the version in /proc/driver/nvidia/version; None where that cannot be read."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as lines:
            return lines.readline().partition("Kernel Module")[2].split()[0]
    except (OSError, IndexError):
        return None
