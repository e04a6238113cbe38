"""Marks show which registered tensors a FORWARD writes that are not watched."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from loadahead.executor.model.state import ModuleState
from tests.support.stateful_layers import WIDTH, Keeps, inputs, layer, run, watching


def test_marks_show_what_is_written_or_replaced_unwatched() -> None:
    norm, module = nn.BatchNorm1d(WIDTH), layer("buffer rebound")
    state = ModuleState([norm, module], "0.1")
    marks = state.cheap_marks()
    assert state.changed_marks(marks) == ()
    run([norm, module], inputs(1)[0])
    changed = state.changed_marks(marks)
    assert [slot.path for slot in changed] == [
        "layer 0: num_batches_tracked",  # its kernel writes mean and variance unseen
        "layer 1: buffer",
    ]
    state.watch(changed[:1])
    marks, before = state.cheap_marks(), state.before()
    run([norm], inputs(1)[0])
    with state.at(before):
        run([norm], inputs(1)[0])
    assert state.changed_marks(marks) == ()


def test_watching_adds_up() -> None:
    layers = [nn.BatchNorm1d(WIDTH), layer("number")]
    state = ModuleState(layers, "0.1")
    start = state.everything()
    run(layers, inputs(1)[0])
    changed = state.changed_since(start)
    state.watch(changed[:1])
    state.watch(changed)
    state.watch(())
    assert set(state.watched) == set(changed)


def test_a_buffer_of_two_layers_is_watched_in_one_of_them() -> None:
    def step(m: Any, x: torch.Tensor) -> Any:
        return m.buffer.add_(1).sum()

    shared = torch.zeros(WIDTH)
    layers: list[nn.Module] = [Keeps(step, buffer=shared), Keeps(step, buffer=shared)]
    state = watching(layers)
    assert [slot.path for slot in state.watched] == ["layer 0: buffer"] and state.nbytes == 4 * WIDTH
    marks, before, x = state.cheap_marks(), state.before(), inputs(1)[0]
    out = run(layers, x)
    assert state.changed_marks(marks) == ()
    with state.at(before):
        assert torch.equal(run(layers, x), out)
    layers[1].buffer = shared + 1
    assert [slot.path for slot in state.changed_marks(marks)] == ["layer 1: buffer"]
