"""Changes process-wide settings of torch and Python for a run, and puts them back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread per operator, so that queues are the only parallelism; put back the random state as well."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


@contextmanager
def on_device(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Choose CUDA kernels that give the same bits every time, or else the fastest; the CPU's always do.

    The device's random state is put back.
    """
    if device.type != "cuda":
        yield
        return
    state = torch.cuda.get_rng_state(device)
    try:
        with _kernels(deterministic):
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
