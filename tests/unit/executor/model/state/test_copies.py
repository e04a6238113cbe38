"""Copies of state keep strides and shared memory, take exactly their bytes, and live no longer than they must."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.state import ModuleState
from tests.support.pictures import pictures
from tests.support.stateful_layers import WIDTH, Keeps, inputs, layer, watching


def copies(state: ModuleState) -> Iterator[torch.Tensor]:
    """Yield the watched tensors as they are inside ``at``."""
    with state.at(state.before()):
        for slot in state.watched:
            yield slot.place.get()


def test_copies_keep_strides_in_storages_of_their_bytes() -> None:
    whole = torch.zeros(5, 6)

    def step(m: Any, x: torch.Tensor) -> Any:
        m.buffer.add_(1)
        m.buffer_gaps.add_(1)
        return 0.0

    state = watching([Keeps(step, buffer=torch.zeros(2, 3, 4).permute(2, 0, 1), buffer_gaps=whole[1:3, :2])])
    dense, gaps = copies(state)
    assert dense.stride() == (1, 12, 4) and dense.untyped_storage().nbytes() == 96
    assert gaps.stride() == (6, 1) and gaps.untyped_storage().nbytes() == 4 * 8  # from the first to the last element
    assert state.nbytes == state.before().nbytes == 96 + 32


def test_tensors_that_share_memory_share_it_in_the_copies() -> None:
    state = watching([layer("views")])
    assert state.nbytes == 4 * 2 * WIDTH  # the third row of the storage is nobody's
    first, second = copies(state)
    assert first.untyped_storage()._cdata == second.untyped_storage()._cdata


def test_a_parameter_is_swapped_for_a_parameter() -> None:
    module = layer("parameter")
    module.weight.main_grad = "a mark of the user's"  # type: ignore[union-attr]
    module.weight.requires_grad_(False)
    state = watching([module])
    (weight,) = copies(state)
    assert isinstance(weight, nn.Parameter) and not weight.requires_grad
    assert weight.main_grad == "a mark of the user's"  # type: ignore[attr-defined]


def test_outputs_that_are_parked_cost_nothing_and_are_not_kept_alive() -> None:
    module = layer("output")
    state, x = watching([module]), inputs(1)[0]
    module(x)
    before, parked = state.before(), weakref.ref(module.aux)
    assert before.nbytes == state.nbytes == 0
    module(x)
    gc.collect()
    assert parked() is None


def test_a_container_that_forward_replaces_is_not_kept_alive() -> None:
    """The copies are what is counted; the tensors themselves go when FORWARD lets them go."""
    module = layer("list rebound")
    state, x = watching([module]), inputs(4)
    for each in x:
        module(each)
    before, held = state.before(), [weakref.ref(t) for t in module.cache]  # type: ignore[union-attr]
    for each in inputs(4):
        module(each)
    del x
    gc.collect()
    assert before.nbytes == 3 * 6 * WIDTH * 4
    assert [t() for t in held] == [None] * 3


def test_a_unit_without_state_costs_nothing() -> None:
    state = watching([layer("nothing")])
    assert state.watched == () and state.nbytes == 0 and state.before() is state.before()
    assert state.at(state.before()) is state.at(state.before())


# -- Buffers whose memory is their own, which have a quick way ---------------------------------------------------------


def two_counters() -> tuple[Any, ModuleState]:
    """Return a module that adds to two buffers of shape (2, 3), and its state."""

    def step(m: Any, x: torch.Tensor) -> Any:
        m.buffer.add_(1)
        m.buffer_too.add_(2)
        return m.buffer.sum() * m.buffer_too.sum()

    module = Keeps(step, buffer=torch.zeros(2, 3), buffer_too=torch.ones(2, 3))
    return module, watching([module])


def lies_transposed(module: Any) -> None:
    module.buffer.data = torch.zeros(3, 2).t()


def has_gaps_in_the_same_memory(module: Any) -> None:
    module.buffer.data = module.buffer[:, :2]


def share_memory(module: Any) -> None:
    whole = torch.zeros(3, 3)
    module.buffer.data, module.buffer_too.data = whole[:2], whole[1:]


def is_another(module: Any) -> None:
    module.old, module.buffer = module.buffer, torch.full((4,), 5.0)


def is_none(module: Any) -> None:
    module.buffer = None


def is_not_there(module: Any) -> None:
    del module.buffer


def has_a_mark(module: Any) -> None:
    module.buffer.mark = "a mark of the user's"


def has_a_gradient(module: Any) -> None:
    module.buffer_too.requires_grad_()


CHANGES = [lies_transposed, has_gaps_in_the_same_memory, share_memory, is_another, is_none, has_a_mark]


@pytest.mark.parametrize("change", [*CHANGES, is_not_there, has_a_gradient])
@pytest.mark.parametrize("watched_again", [False, True])
def test_a_buffer_that_came_to_be_otherwise_is_copied_as_it_is(
    change: Callable[[Any], None], watched_again: bool
) -> None:
    module, state = two_counters()
    change(module)
    if watched_again:
        state.watch(state.watched)
    now, after = dict(module._buffers), pictures([module])
    before = state.before()
    assert before.nbytes == state.nbytes
    with state.at(before):
        inside = dict(module._buffers)
        assert inside.keys() == now.keys()
        for name, tensor in now.items():
            copy = inside[name]
            if tensor is None:
                assert copy is None
                continue
            assert copy is not None and copy is not tensor and torch.equal(copy, tensor)
            assert copy.stride() == tensor.stride() and copy.requires_grad == tensor.requires_grad and copy.is_leaf
            assert copy.__dict__ == tensor.__dict__
            assert copy.untyped_storage()._cdata != tensor.untyped_storage()._cdata
        storages = {t.untyped_storage()._cdata for t in inside.values() if t is not None}
        assert len(storages) == len({t.untyped_storage()._cdata for t in now.values() if t is not None})
    assert pictures([module]) == after


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_run_inside_does_with_a_buffer_is_undone(change: Callable[[Any], None]) -> None:
    module, state = two_counters()
    before, after = state.before(), pictures([module])
    with state.at(before):
        change(module)
        module.late = 1
    assert pictures([module]) == after


def test_a_buffer_that_is_an_alias_by_now_is_swapped_there_too() -> None:
    """What is watched may grow; values from before that are used as they were."""
    module, state = two_counters()
    before = state.before()
    module.everywhere = [module.buffer]
    state.watch(state.watched)
    with state.at(before):
        assert module.everywhere[0] is module.buffer
    assert module.everywhere[0] is module.buffer
