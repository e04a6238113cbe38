"""Equal bits have equal digests, other bits others, wherever the numbers lie; and nobody's memory is measured by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from loadahead.executor.tensors.digests import digest
from loadahead.executor.tensors.meter import StorageMeter

TYPES = [
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


def numbers(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(24).remainder(2 if dtype == torch.bool else 24).reshape(2, 3, 4).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_equal_bits_have_equal_digests_wherever_they_lie(dtype: torch.dtype) -> None:
    tensor = numbers(dtype)
    known = digest(tensor)
    assert known is not None
    larger = torch.zeros(3, 5, 6, dtype=dtype)
    larger[1:, 1:4, 1:5] = tensor
    turned = tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for same in (tensor.clone(), larger[1:, 1:4, 1:5], turned, tensor.clone().requires_grad_(dtype.is_floating_point)):
        assert digest(same) == known


@pytest.mark.parametrize("dtype", TYPES)
def test_any_element_counts(dtype: torch.dtype) -> None:
    tensor = numbers(dtype)
    seen = {digest(tensor)}
    for at in itertools.product(range(2), range(3), range(4)):
        other = tensor.clone()
        other[at] = not other[at] if dtype == torch.bool else float(abs(other[at].to(torch.complex64))) + 24.0
        seen.add(digest(other))
    assert len(seen) == 25


def test_any_bit_counts() -> None:
    """Zeros of two signs differ, and so do NaNs of two payloads."""
    patterns = [0, 0x80000000, 0x7FC00000, 0x7FC00001, 0x7F800000, 1]
    tensors = [torch.tensor([pattern - 2**32 * (pattern >> 31)], dtype=torch.int32) for pattern in patterns]
    assert len({digest(tensor.view(torch.float32)) for tensor in tensors}) == len(patterns)


def test_the_order_counts() -> None:
    assert digest(torch.tensor([1.0, 2.0])) != digest(torch.tensor([2.0, 1.0]))
    square = torch.arange(4.0).reshape(2, 2)
    assert digest(square) != digest(square.t())


def test_numbers_alone_have_a_digest() -> None:
    assert digest(torch.tensor(1.5)) == digest(torch.tensor(1.5)) != digest(torch.tensor(2.5))
    assert digest(torch.tensor(1.5)) is not None


def test_lazy_conjugates_and_negatives_are_what_they_stand_for() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert digest(tensor.conj()) == digest(tensor.conj().resolve_conj()) != digest(tensor)
    assert digest(tensor.conj().imag) == digest(torch.tensor([-2.0, 4.0]))


def test_a_weight_is_a_tensor() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert digest(weight) == digest(torch.ones(3))


class Odd(torch.Tensor):
    pass


ODD: dict[str, Callable[[], torch.Tensor]] = {
    "scratch": lambda: torch.ones(3, dtype=torch.uint8),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "mkldnn": lambda: torch.ones(3, 3).to_mkldnn(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "meta": lambda: torch.ones(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "subclass": lambda: torch.ones(3).as_subclass(Odd),
    "empty": lambda: torch.ones(0, 4),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_of_some_kinds_nobody_can_tell(kind: str) -> None:
    assert digest(ODD[kind]()) is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(100),
        torch.ones(10, 10).t(),
        torch.ones(10, 10)[:, ::3],
        torch.ones(100, dtype=torch.bfloat16),
        torch.ones(100, dtype=torch.complex128),
        torch.tensor(1.0),
        torch.ones(10, dtype=torch.complex64).conj(),
        torch.ones(10, dtype=torch.complex64).conj().imag,
    ],
    ids=["dense", "turned", "gaps", "bfloat16", "complex", "alone", "conjugate", "negative"],
)
def test_no_meter_sees_it(tensor: torch.Tensor) -> None:
    """Nor is the tensor another afterwards."""
    version, meter = tensor._version, StorageMeter([tensor])
    with meter:
        digest(tensor)
    assert meter.peak == meter.live == meter.resident
    assert tensor._version == version
