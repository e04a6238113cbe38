"""A second run on the values from before gives the same and leaves no trace."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from loadahead.executor.model.state import ModuleState
from tests.support.pictures import pictures
from tests.support.stateful_layers import LAYERS, TORCH_WARNS, WIDTH, Keeps, inputs, layer, run, watching

pytestmark = TORCH_WARNS


def check_replay(layers: list[nn.Module], order: list[int], microbatches: int) -> None:
    """Check that each RECOMPUTE in this order gives FORWARD's very output, and that none leaves a trace."""
    state, batch = watching(layers), inputs(microbatches)
    befores, outs = [], []
    for x in batch:
        expected = state.nbytes
        befores.append(state.before())
        assert befores[-1].nbytes == expected
        outs.append(run(layers, x).detach().clone())
    after = pictures(layers)
    for microbatch in order:
        with state.at(befores[microbatch]):
            again = run(layers, batch[microbatch])
        assert torch.equal(again, outs[microbatch])
        assert pictures(layers) == after


@pytest.mark.parametrize("name", LAYERS)
def test_a_second_run_gives_the_same_and_leaves_no_trace(name: str) -> None:
    check_replay([layer(name)], [3, 0, 2, 1], microbatches=4)


def test_weights_in_a_watched_container_are_not_copied() -> None:
    def step(m: Any, x: torch.Tensor) -> Any:
        m.used.append(m.linear.weight)
        return len(m.used)

    module = Keeps(step, used=[])
    check_replay([module], [1, 0], microbatches=2)
    assert watching([module]).nbytes == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_layers_replay_in_any_order(data: st.DataObject) -> None:
    """Between FORWARDs there are RECOMPUTEs of earlier microbatches, as in a pipeline."""
    names = data.draw(
        st.lists(st.sampled_from([name for name in LAYERS if name != "compiled"]), min_size=1, max_size=4)
    )
    layers = [layer(name) for name in names]
    if data.draw(st.booleans()):
        layers.append(layers[0])
    microbatches = data.draw(st.integers(1, 4))
    state, batch = watching(layers), inputs(microbatches)
    befores: dict[int, Any] = {}
    outs: list[torch.Tensor] = []

    def recompute() -> None:
        microbatch = data.draw(st.sampled_from(sorted(befores)))
        before = pictures(layers)
        with state.at(befores.pop(microbatch)):
            again = run(layers, batch[microbatch])
        assert torch.equal(again, outs[microbatch])
        assert pictures(layers) == before

    for microbatch, x in enumerate(batch):
        befores[microbatch] = state.before()
        outs.append(run(layers, x).detach().clone())
        if data.draw(st.booleans()):
            recompute()
    while befores:
        recompute()


@pytest.mark.parametrize("name", LAYERS)
def test_a_run_that_is_put_back_was_never_there(name: str) -> None:
    layers = [layer(name)]
    state = ModuleState(layers, "0.1")
    start, x = state.everything(), inputs(1)[0]
    first = run(layers, x).detach().clone()
    run(layers, x)
    # Two such FORWARDs are a round.
    assert (state.changed_since(start) == ()) == (name in ("nothing", "weight norm", "attribute that comes and goes"))
    state.put_back(start)
    assert state.changed_since(start) == ()
    assert torch.equal(run(layers, x), first)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_inside_leaves_no_trace(name: str, error: type[BaseException]) -> None:
    layers = [layer(name)]
    state, x = watching(layers), inputs(1)[0]
    before = state.before()
    run(layers, x)
    after = pictures(layers)

    def fails() -> None:
        with state.at(before):
            run(layers, x)
            raise error

    with pytest.raises(error):
        fails()
    assert pictures(layers) == after


def test_autograd_does_not_notice() -> None:
    """BatchNorm saves its running statistics for BACKWARD: they must not be written between it and FORWARD."""
    layers = [layer("batch norm")]
    state, x = watching(layers), inputs(1)[0]
    before = state.before()
    out = run(layers, x)
    with state.at(before):
        run(layers, x)
    out.sum().backward()  # type: ignore[no-untyped-call]


def test_a_module_that_notices_the_swap_is_as_it_was() -> None:
    """An LSTM looks whether its weights are still the same, and else lists them anew."""
    module = nn.LSTM(WIDTH, WIDTH)
    state, x = ModuleState([module], "0.1"), inputs(1)[0]
    start = state.everything()
    with torch.no_grad():
        module.weight_ih_l0.mul_(2)  # type: ignore[operator]
    state.watch(state.changed_since(start))
    before, first = state.before(), module(x)[0]
    after = pictures([module])
    with state.at(before):
        assert module._flat_weights[0] is module.weight_ih_l0
        assert torch.equal(module(x)[0], first)
    assert pictures([module]) == after


def test_an_object_that_forward_replaced_is_as_it_was() -> None:
    """It hangs nowhere in the module any more, and somebody else may hold it."""
    module = layer("object rebound")
    state, x = watching([module]), inputs(1)[0]
    tally, before = module.tally, state.before()
    module(x)
    with state.at(before):
        assert module.tally is tally
        tally.count = 99  # type: ignore[union-attr]
    assert module.tally is not tally and tally.count == 0  # type: ignore[union-attr]


def test_putting_back_writes_only_what_changed() -> None:
    module = layer("buffer in place")
    state = ModuleState([module], "0.1")
    start, versions = state.everything(), [p._version for p in module.parameters()]
    buffer = module.buffer
    module(inputs(1)[0])
    state.put_back(start)
    assert module.buffer is buffer and torch.equal(buffer, torch.zeros(WIDTH))  # type: ignore[arg-type]
    assert [p._version for p in module.parameters()] == versions


def test_copies_go_with_their_last_holder() -> None:
    """A plan counts them until RECOMPUTE ends, and RECOMPUTE may end with an exception."""
    module = layer("batch norm")
    state = watching([module])
    held: list[weakref.ref[torch.Tensor]] = []

    def recompute(before: Any) -> None:
        with suppress(KeyboardInterrupt), state.at(before):
            held.extend(map(weakref.ref, module.buffers()))
            raise KeyboardInterrupt

    gc.disable()
    try:
        recompute(state.before())
        assert [tensor() for tensor in held] == [None] * 3
    finally:
        gc.enable()
