"""What one torch operator would do on a GPU: which tensors it reads and writes, and how long a kernel takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """A made-up GPU. Times in ns, bandwidths in bytes/s, rates in operations/s.

    Attributes:
        call_ns: host time of an event, a wait, a change of stream.
        launch_ns: host time of an operator or a copy.
        kernel_ns: device time of a kernel beyond what its bytes and its arithmetic take.
        taken_bytes: of the device's memory, what the context and libraries hold and no tensor can have.
        queue_limit: kernels that a stream takes before the host has to wait.
    """

    call_ns: int = 1_000
    launch_ns: int = 4_000
    kernel_ns: int = 2_000
    memory_bandwidth: int = 1_000 * SECOND
    flop_rate: int = 10_000 * SECOND
    d2h_bandwidth: int = 25 * SECOND
    h2d_bandwidth: int = 25 * SECOND
    d2h_latency_ns: int = 10_000
    h2d_latency_ns: int = 10_000
    queue_limit: int = 1024
    memory_bytes: int = 80 * 2**30
    taken_bytes: int = 600 * 2**20

    def kernel_time(self, call: Call) -> int:
        """The longer of moving the bytes and doing the arithmetic."""
        moving = sum([tensor.nbytes for tensor in (*call.reads, *call.writes)])
        return self.kernel_ns + max(_time(moving, self.memory_bandwidth), _time(call.flops(), self.flop_rate))

    def copy_time(self, direction: str, nbytes: int) -> int:
        """``direction`` is d2h or h2d."""
        if direction == "d2h":
            return self.d2h_latency_ns + _time(nbytes, self.d2h_bandwidth)
        return self.h2d_latency_ns + _time(nbytes, self.h2d_bandwidth)


@dataclass(slots=True)  # not frozen, which takes thrice as long to make
class Call:
    """One operator with what it was given and what it returned.

    Attributes:
        given: all tensors that go in.
        reads: those that the device looks at and leaves as they are.
        writes: tensors that go in and change, and new ones that come out filled.
        made: new tensors that come out, filled or not.
        waits: the host needs a result before it can go on.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    given: tuple[torch.Tensor, ...]
    reads: tuple[torch.Tensor, ...]
    writes: tuple[torch.Tensor, ...]
    made: tuple[torch.Tensor, ...]
    waits: bool

    @classmethod
    def of(cls, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Call:
        changed = _changed(func)
        given = dict(zip(_names(func), args, strict=False)) | kwargs
        before: list[torch.Tensor] = []
        mutated: list[torch.Tensor] = []
        for name, value in given.items():
            _gather(value, mutated if name in changed else before)
        known = {_storage(tensor) for tensor in before + mutated}
        made = [tensor for tensor in _tensors(out) if _storage(tensor) not in known]
        filled = [] if _only_allocates(func) else made
        waits = _waits(func, given)
        reads = before if filled or mutated or waits else []
        writes = (*mutated, *filled)
        return cls(func, args, kwargs, out, (*before, *mutated), tuple(reads), writes, tuple(made), waits)

    @property
    def name(self) -> str:
        return _name(self.func)

    @property
    def kernel(self) -> bool:
        """Whether the device has anything to do; views and bare allocations are the host's alone."""
        return bool(self.writes) or self.waits

    def flops(self) -> int:
        count = flop_registry.get(self.func.overloadpacket)
        return 0 if count is None else int(count(*self.args, **self.kwargs, out_val=self.out))


def _time(amount: int, rate: int) -> int:
    return -(-amount * SECOND // rate)


def _tensors(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[torch.Tensor]) -> None:
    """Add the tensors of an operator's argument or result: it is one, or holds some in lists and tuples, or none.

    There are hundreds of thousands of calls in a test, of which torch's tree_leaves would take a third.
    """
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, list | tuple):
        for one in value:
            _gather(one, found)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@cache
def _name(func: Any) -> str:
    return str(func)


@cache
def _names(func: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)


@cache
def _changed(func: Any) -> frozenset[str]:
    """Arguments that the operator writes to, by its schema."""
    return frozenset(a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write)


@cache
def _only_allocates(func: Any) -> bool:
    return func._schema.name.startswith(("aten::empty", "aten::new_empty"))


def _waits(func: Any, given: Mapping[str, Any]) -> bool:
    """Whether the result's value or shape depends on data; with indices it does only where one is a mask."""
    if "indices" in given:
        return any(tensor.dtype == torch.bool for tensor in _tensors(given["indices"]))
    return _depends_on_data(func)


@cache
def _depends_on_data(func: Any) -> bool:
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
