"""Runs torch's own Python for CUDA streams, contexts and events, with the calls into C that it makes left out.

So what a host spends in Python on streams can be timed without a GPU: ``torch.cuda.stream`` alone is some microseconds.
What stands in for a C function is written in C itself where Python has a callable that does nothing as quickly, and
keeps the current stream, which torch's code reads and puts back.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

# DeviceType::CUDA of c10/core/DeviceType.h
_CUDA = 1


def _always(value: Any) -> Callable[[], Any]:
    """Return a function without arguments that runs no Python."""
    return repeat(value).__next__


class _EventBase(SimpleNamespace):
    """Takes any keywords, as ``torch._C._CudaEventBase`` does; a builtin is no method and does not see the event."""

    record = wait = id
    query = _always(True)
    synchronize = _always(None)
    __hash__ = object.__hash__


class _StreamBase(torch.Stream):  # type: ignore[misc]
    """Is made of numbers alone, in C."""

    cuda_stream = 0


def _streams_module() -> Any:
    """Return torch's module of streams and events once more, over the bases that stand in."""
    path = torch.cuda.streams.__file__
    spec = importlib.util.spec_from_file_location("torch.cuda.streams", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bases = {"_CudaStreamBase": _StreamBase, "_CudaEventBase": _EventBase}
    with ExitStack() as stack:
        for name, base in bases.items():
            stack.enter_context(patch.object(torch._C, name, base, create=True))
        spec.loader.exec_module(module)
    return module


class IdleCuda:
    """Is one GPU that takes no calls and no time.

    Attributes:
        streams: torch's module, whose ``Stream`` and ``Event`` these are while it is installed.
    """

    def __init__(self) -> None:
        self.streams = _streams_module()
        self._current = (0, 0, _CUDA)
        self._calls: dict[str, Any] = {
            "_has_cuda": True,
            "_cuda_getDeviceCount": _always(1),
            "_cuda_getDevice": _always(0),
            "_cuda_getCurrentStream": lambda index: self._current,
            "_cuda_getDefaultStream": {0: (0, 0, _CUDA), None: (0, 0, _CUDA)}.__getitem__,
            "_cuda_setStream": self._set_stream,
            "_cuda_setDevice": id,
            "_cuda_exchangeDevice": abs,
            "_cuda_maybeExchangeDevice": abs,
            "_cuda_synchronize": _always(None),
            "_cuda_isCurrentStreamCapturing": _always(False),
        }

    def stream(self, number: int) -> Any:
        """Return the stream of that number; 0 is the default one."""
        with self.installed():
            return self.streams.Stream(stream_id=number, device_index=0, device_type=_CUDA)

    def _set_stream(self, stream_id: int, device_index: int, device_type: int) -> None:
        self._current = (stream_id, device_index, device_type)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let ``torch.cuda`` find this GPU inside; all is put back after."""
        with ExitStack() as stack:
            for name, call in self._calls.items():
                stack.enter_context(patch.object(torch._C, name, call, create=True))
            in_module = {
                "Stream": self.streams.Stream,
                "Event": self.streams.Event,
                "_initialized": True,
                "_is_in_bad_fork": _always(False),
                "_exchange_device": abs,
                "_maybe_exchange_device": abs,
            }
            for name, value in in_module.items():
                stack.enter_context(patch.object(torch.cuda, name, value))
            yield

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count what is asked of torch inside, where this GPU is installed; times then mean nothing."""
        counts: Counter[str] = Counter()
        context = torch.cuda.StreamContext

        def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **more: Any) -> Any:
                counts[name] += 1
                return call(*args, **more)

            return wrapped

        def record(event: Any, *args: Any) -> None:
            counts["events recorded"] += 1
            if not hasattr(event, "_created"):
                event._created = True
                counts["events created"] += 1

        enter = counted("contexts entered", context.__enter__)
        switch = counted("stream switches", self._set_stream)
        wait = counted("waits", lambda *args: None)
        with (
            patch.object(context, "__enter__", enter),
            patch.object(torch._C, "_cuda_setStream", switch),
            patch.object(_EventBase, "wait", wait),
            patch.object(_EventBase, "record", record),
        ):
            yield counts
