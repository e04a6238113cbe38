"""Boundaries lie alone in storages of exactly their bytes, and keep their strides where they can."""

from __future__ import annotations

import pytest
import torch

from loadahead.executor.tensors.layout import Layout, as_bytes, is_dense, own_storage, storage_id


def bytes_held(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def test_a_tensor_of_its_own_is_not_copied() -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    assert own_storage(tensor) is tensor
    assert own_storage(tensor.t()).data_ptr() == tensor.data_ptr()


def test_a_view_of_more_is_cut_out() -> None:
    whole = torch.arange(10.0)
    own = own_storage(whole[2:4])
    assert own.tolist() == [2.0, 3.0]
    assert bytes_held(own) == 8


def test_an_alias_is_copied() -> None:
    x = torch.arange(4.0)
    own = own_storage(x.view(2, 2), {storage_id(x)})
    assert own.data_ptr() != x.data_ptr()
    assert own.tolist() == [[0.0, 1.0], [2.0, 3.0]]


def test_an_expanded_tensor_becomes_contiguous() -> None:
    own = own_storage(torch.ones(3, 1).expand(3, 5))
    assert own.is_contiguous()
    assert bytes_held(own) == 60


def test_a_turned_tensor_keeps_its_strides() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    own = own_storage(x, {storage_id(x)})
    assert own.stride() == x.stride()
    assert torch.equal(own, x)
    assert torch.equal(as_bytes(own).view(torch.float32), torch.arange(24.0))


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.zeros(2, 3), True),
        (torch.zeros(2, 3).t(), True),
        (torch.zeros(4, 4)[:, :2], False),
        (torch.zeros(3, 1).expand(3, 2), False),
        (torch.zeros(()), True),
        (torch.zeros(2, 1, 3).transpose(0, 1), True),
    ],
)
def test_dense(tensor: torch.Tensor, dense: bool) -> None:
    assert is_dense(tensor) is dense


def test_a_layout_makes_the_same_memory_again() -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.bfloat16).transpose(0, 2)
    layout = Layout.of(x)
    assert layout.nbytes == 48
    assert Layout.of(layout.empty(torch.device("cpu"))) == layout
    assert str(layout) == "bfloat16[4, 3, 2]"
