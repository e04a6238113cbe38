"""The bench's idle GPU runs torch's own code for streams, and leaves torch as it was."""

from __future__ import annotations

import torch

from tests.bench.idle_cuda import IdleCuda


def test_a_context_makes_its_stream_current_and_puts_the_last_one_back() -> None:
    idle = IdleCuda()
    first, second = idle.stream(3), idle.stream(5)
    with idle.installed():
        assert torch.cuda.is_available() and torch.cuda.current_stream() == idle.stream(0)
        with torch.cuda.stream(first):
            with torch.cuda.stream(second):
                assert torch.cuda.current_stream() == second
            assert torch.cuda.current_stream() == first
        torch.cuda.set_stream(second)
        assert torch.cuda.current_stream() == second


def test_torch_is_as_it_was_afterwards() -> None:
    before = torch.cuda.is_available(), torch.cuda.Stream, torch.cuda.Event, set(vars(torch._C))
    idle = IdleCuda()
    with idle.installed(), idle.counting():
        assert torch.cuda.Event is not before[2]
    assert (torch.cuda.is_available(), torch.cuda.Stream, torch.cuda.Event, set(vars(torch._C))) == before


def test_calls_are_counted() -> None:
    idle = IdleCuda()
    stream = idle.stream(1)
    with idle.installed(), idle.counting() as counts:
        event = torch.cuda.Event()
        for _ in range(3):
            event.record(stream)
        stream.wait_event(event)
        with torch.cuda.stream(stream):
            event.wait()
        torch.cuda.set_stream(stream)
    assert counts == {
        "events recorded": 3,
        "events created": 1,  # CUDA makes an event when it is first recorded
        "waits": 2,
        "contexts entered": 1,
        "stream switches": 3,  # to it and back, and by hand
    }
