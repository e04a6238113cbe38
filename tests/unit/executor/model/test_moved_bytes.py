"""What operators read and write is counted by hand, and attention's FLOPs by its closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from loadahead.executor.model.work import WorkCounter

X = torch.zeros(4, 6)
# Bytes of 4 by 6 numbers of float32.
B = 4 * 6 * 4


def counted(run: Callable[[], object]) -> WorkCounter:
    """The work of a call."""
    counter = WorkCounter()
    with counter:
        run()
    return counter


@pytest.mark.parametrize(
    ("run", "kernels", "moved"),
    [
        (lambda: X + 1.0, 1, 2 * B),
        (lambda: X + X, 1, 3 * B),
        # Views move nothing, and what is repeated is read once.
        (lambda: X.t()[1:].reshape(20).unsqueeze(0), 1, 2 * 20 * 4),
        (lambda: X.view(24).expand(3, 24), 0, 0),
        (lambda: X[0].expand(4, 6) + X, 1, 6 * 4 + 2 * B),
        # In place: both are read and one is written.
        (lambda: X.clone().add_(X), 2, 2 * B + 3 * B),
        (lambda: torch.empty(5), 0, 0),
        (lambda: X.to(torch.bfloat16), 1, B + B // 2),
        # Two rows of a table of four, by two numbers of 8 bytes.
        (lambda: functional.embedding(torch.tensor([0, 1]), X), 1, 2 * (2 * 6 * 4) + 16),
        (lambda: functional.softmax(X, -1), 1, 2 * B),
        # Statistics of four rows, and no weights.
        (lambda: functional.layer_norm(X, (6,)), 1, 2 * B + 2 * 4 * 4),
    ],
)
def test_bytes_moved_by_hand(run: Callable[[], object], kernels: int, moved: int) -> None:
    work = counted(run)
    assert (work.kernels, work.moved_bytes, work.products) == (kernels, moved, 0)


def test_products_move_nothing_beside_their_flops() -> None:
    weight, bias = torch.zeros(3, 6), torch.zeros(3)
    work = counted(lambda: functional.linear(X, weight, bias))
    assert (work.products, work.flops, work.kernels, work.moved_bytes) == (1, 2 * 4 * 6 * 3, 0, 0)


def test_attention_counts_however_it_is_computed() -> None:
    q = torch.zeros(2, 3, 8, 4, requires_grad=True)
    fused = counted(lambda: functional.scaled_dot_product_attention(q, q, q, is_causal=True))
    apart = counted(lambda: functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5, is_causal=True))
    # Two products of 8 by 8 by 4 for each of 2 sequences and 3 heads.
    assert fused.flops == apart.flops == 2 * (2 * 3) * 2 * 8 * 8 * 4
    assert (fused.products, apart.products) == (1, 2)
    assert fused.counted and fused.kernels == 0 < apart.kernels
