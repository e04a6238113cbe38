"""Work is counted where torch counts it, else estimated; and it is said which."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.work import WorkCounter

X, IDS, TABLE = torch.ones(2, 8), torch.tensor([1, 2, 3]), torch.ones(5, 7)


def counted(work: Any) -> tuple[int, bool]:
    counter = WorkCounter()
    with counter:
        work()
    return counter.flops, counter.counted


def test_matrix_products_are_counted() -> None:
    layer = nn.Linear(8, 4)
    assert counted(lambda: layer(X)) == (2 * 2 * 8 * 4, True)
    conv = nn.Conv1d(3, 5, 3)
    assert counted(lambda: conv(torch.ones(2, 3, 10))) == (2 * 2 * 8 * 3 * 5 * 3, True)


def test_beside_them_nothing_else_is() -> None:
    layer = nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.LayerNorm(4))
    assert counted(lambda: layer(X)) == (2 * 2 * 8 * 4, True)


@pytest.mark.parametrize(
    ("work", "elements"),
    [
        (lambda: X.sin(), 16),
        (lambda: X.sin().cos(), 32),
        (lambda: X.sum(), 1),
        (lambda: (X + 1.0).t().contiguous()[1:], 16 + 16),  # a view takes no work, a copy does
        (lambda: X.t()[1:], 0),
        (lambda: X.max(1), 2 + 2),
        (lambda: nn.functional.embedding(IDS, TABLE), 3 * 7),
        (lambda: None, 0),
    ],
)
def test_what_torch_does_not_count_is_its_elements(work: Any, elements: int) -> None:
    assert counted(work) == (elements, False)


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)], ids=["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("grad", [True, False])
def test_recurrent_layers_are_estimated_from_their_weights(kind: Any, gates: int, layers: int, grad: bool) -> None:
    """Two FLOPs for each weight and element of the sequence: that is what its matrix products take."""
    steps, batch, width, hidden = 7, 3, 8, 5
    layer = kind(width, hidden, num_layers=layers)
    weights = gates * hidden * (width + hidden) + (layers - 1) * gates * hidden * 2 * hidden
    with torch.set_grad_enabled(grad):
        flops, sure = counted(lambda: layer(torch.ones(steps, batch, width)))
    assert flops == 2 * steps * batch * weights
    if kind is nn.LSTM:
        assert not sure


def test_a_recurrent_layer_and_others_add_up() -> None:
    layer, head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 2)
    flops, sure = counted(lambda: head(layer(torch.ones(3, 7, 8))[0]))
    assert flops == 2 * 21 * (20 * 8 + 20 * 5) + 2 * 21 * 5 * 2
    assert not sure


def test_a_counter_counts_from_its_first_moment_to_its_last() -> None:
    layer = nn.Linear(8, 4)
    layer(X)
    counter = WorkCounter()
    with counter:
        layer(X)
    layer(X)
    assert counter.flops == 2 * 2 * 8 * 4


def test_what_fails_inside_passes_and_warnings_are_as_before() -> None:
    filters = list(warnings.filters)
    with pytest.raises(KeyError), WorkCounter():
        raise KeyError
    assert warnings.filters == filters
