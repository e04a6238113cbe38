"""Changes process-wide settings of torch and Python for a run, and puts them back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from loadahead.executor.tensors.randomness import globals_kept

# Threads, random state, kernels and garbage collection are the whole process': one run at a time may change them.
_lock = threading.RLock()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread per operator, so that queues are the only parallelism; put back all random states as well.

    A backward pass runs in the thread that asks for it: on a GPU autograd would hand it to a thread of its own and
    back, which takes time in every BACKWARD, and that thread's libraries would take workspaces of their own. The
    caller's autocast, no_grad and inference mode do not reach inside. Another thread waits until this one is done.
    """
    with _lock:
        threads, state, dtype = torch.get_num_threads(), torch.get_rng_state(), torch.get_default_dtype()
        torch.set_num_threads(1)
        try:
            with _plain_modes(), globals_kept():
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
            torch.set_default_dtype(dtype)


@contextmanager
def _plain_modes() -> Iterator[None]:
    """Enable gradients, without autocast, and run backward passes in the thread that asks for them."""
    in_this_thread: Any = torch.autograd.set_multithreading_enabled
    with ExitStack() as stack:
        for mode in (torch.inference_mode(False), torch.enable_grad(), in_this_thread(False)):
            stack.enter_context(mode)
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def reset_process(dtype: torch.dtype) -> None:
    """Set what layers of several ranks may have left in the process, which set and put it back at the same time."""
    torch.set_default_dtype(dtype)
    cache: Any = torch.nn.utils.parametrize
    cache._cache_enabled, cache._cache = 0, {}


def uncompiled() -> AbstractContextManager[None]:
    """Run layers of ``torch.compile`` as they are written.

    Under a dispatch mode, which sees every operator, torch would not compile them, then or ever after.
    """
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def autocasts() -> Iterator[list[bool]]:
    """Return a list that is empty as long as nobody enters an enabled autocast; layers may have one of their own."""
    kind: Any = torch.autocast
    enter, seen = kind.__enter__, []

    def noticed(self: Any) -> Any:
        if self._enabled:
            seen.append(True)
        return enter(self)

    kind.__enter__ = noticed
    try:
        yield seen
    finally:
        kind.__enter__ = enter


def compiled_layers(module: nn.Module) -> list[str]:
    """Return the names of the module's parts that ``torch.compile`` has compiled, or will."""
    return [
        name
        for name, part in module.named_modules()
        if type(part).__name__ == "OptimizedModule" or getattr(part, "_compiled_call_impl", None) is not None
    ]


@contextmanager
def on_device(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Choose CUDA kernels that give the same bits every time, or else the fastest; the CPU's always do.

    The device's random state is put back.
    """
    with device_random_state_kept(device), _kernels(deterministic) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def device_random_state_kept(device: torch.device) -> Iterator[None]:
    """Put a CUDA device's random state back; the CPU's is put back by :func:`single_threaded`."""
    if device.type != "cuda":
        yield
        return
    state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(state, device)


@contextmanager
def _kernels(deterministic: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    module: Any = torch.utils.deterministic
    filled = module.fill_uninitialized_memory
    # It must not only warn: attention would then keep to its kernels that do not give the same bits.
    torch.use_deterministic_algorithms(deterministic)
    # Filling what torch.empty returns would cost one more kernel for each.
    module.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        module.fill_uninitialized_memory = filled


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage now and not inside: a collection in a timed step would be charged to whatever ran then.

    The oldest objects are left out: to look through a process's modules takes longer than many a step.
    """
    enabled = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
