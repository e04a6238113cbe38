"""Process-wide settings of torch and Python that a run changes, and puts back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread per operator, so that queues are the only parallelism; the random state is put back as well."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect now and not inside: a collection in a timed step would be charged to whatever ran then."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
