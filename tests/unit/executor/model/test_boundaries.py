"""One microbatch tells what passes between units, what they draw and what they change; and it leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from loadahead.executor.model.boundaries import DATA, Handed, is_same, trace_boundaries
from loadahead.executor.tensors.layout import Layout
from loadahead.executor.tensors.randomness import Draws, global_states
from loadahead.executor.tensors.values import CONSTANT, handed_place
from loadahead.sim.errors import InputError
from tests.support.models import Masked, Scale, Unmasked
from tests.support.units import mean, one, only, traced, units_of

X = torch.linspace(-1.0, 1.0, 16).reshape(2, 8)
LAYOUT = Layout.of(X)
MASK = torch.tensor([1.0, 0.0] * 4)


class Does(nn.Module):
    """Does what a function says."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, given: Any) -> Any:
        return self.function(given)


def linear() -> nn.Linear:
    return nn.Linear(8, 8)


# ---- forms ----


def test_a_chain_of_single_tensors() -> None:
    units = units_of(linear(), nn.Flatten(0), nn.Unflatten(0, (2, 8)))
    found = traced(units, X)
    flat = Layout((16,), (1,), torch.float32)
    assert [form.layouts for form in found.forms] == [(LAYOUT,), (LAYOUT,), (flat,)]
    assert [form.needs for form in found.forms] == [(False,), (True,), (True,)]
    assert all(form.single for form in found.forms)
    assert (found.handed, found.frozen) == ((), 0)
    assert [unit.form for unit in units] == list(found.forms)
    assert [unit.out for unit in units] == [*found.forms[1:], None]


def test_ids_need_no_gradient_wherever_they_pass() -> None:
    ids = torch.tensor([1, 2])
    embedding = nn.Embedding(5, 8)
    units = units_of(
        Does(lambda ids: (ids, ids * 2)),
        Does(lambda pair: embedding(pair[0]) + embedding(pair[1])),
        linear(),
    )
    units[1].layers[0].add_module("embedding", embedding)
    found = traced(units, ids)
    # The ids themselves pass the first unit unchanged, and so are handed on.
    assert [form.needs for form in found.forms] == [(), (False,), (True,)]
    assert [form.places for form in found.forms] == [(handed_place(0),), (handed_place(0), 0), (0,)]
    assert found.handed == (Handed(Layout.of(ids), DATA, 1),)
    assert found.frozen == 1


def test_tuples_lists_dictionaries_and_what_is_no_tensor() -> None:
    units = units_of(
        linear(),
        Does(lambda x: {"x": [x.sin(), x.cos()], "n": 3, "none": None, "text": "a"}),
        Does(lambda given: given["x"][0] * given["n"] + given["x"][1]),
    )
    form = traced(units, X).forms[2]
    assert form.places == (0, 1, CONSTANT, CONSTANT, CONSTANT)
    assert (form.layouts, form.needs) == ((LAYOUT, LAYOUT), (True, True))
    assert not form.single


def test_a_tensor_that_stands_twice_is_one() -> None:
    units = units_of(linear(), Does(lambda x: (x.sin(),) * 2), Does(lambda pair: pair[0] * pair[1]))
    form = traced(units, X).forms[2]
    assert (form.places, form.layouts) == ((0, 0), (LAYOUT,))


def test_the_next_unit_is_called_with_one_tensor_where_there_was_one() -> None:
    seen: list[bool] = []

    def both(pair: Any) -> Any:
        seen.append(pair[0] is pair[1])
        return pair[0] + pair[1]

    traced(units_of(linear(), Does(lambda x: (x, x)), Does(both)), X)
    assert seen == [True]


def test_strides_are_those_of_the_output() -> None:
    units = units_of(linear(), Does(lambda x: x.t()), Does(lambda x: x[:, :1].expand(8, 3)), Does(lambda x: x.sum()))
    found = traced(units, X)
    assert found.forms[2].layouts == (Layout((8, 2), (1, 8), torch.float32),)
    # What does not fill its memory becomes contiguous.
    assert found.forms[3].layouts == (Layout((8, 3), (3, 1), torch.float32),)


def test_the_next_unit_sees_the_strides_of_what_was_made() -> None:
    """Kernels may compute other bits from other strides: the boundary is read as plain training would read it."""
    seen: list[tuple[Any, ...]] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(x.shape), x.stride(), x.storage_offset()))
        return x.sin()

    def cut(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)[:, 1:9]

    units = units_of(linear(), Does(cut), Does(look), linear())
    traced(units, X)
    made = units[1].forward(0, units[0].forward(0, one(X), 0, None).value, 0, None)
    units[2].forward(0, made.value, 0, None)
    units[2].recompute(0, made.value, None)
    assert seen == [((2, 8), (16, 1), 1)] * 3
    assert made.value.nbytes == 2 * 8 * 4


def test_autocast_makes_the_types() -> None:
    found = traced(units_of(linear(), linear(), dtype=torch.bfloat16), X)
    assert [form.layouts[0].dtype for form in found.forms] == [torch.float32, torch.bfloat16]


# ---- tensors that are handed on ----


def test_a_mask_of_the_data_is_handed_on_to_its_last_reader() -> None:
    units = units_of(Masked(), Masked(), Unmasked(), linear())
    found = traced(units, (X, MASK))
    assert found.handed == (Handed(Layout.of(MASK), DATA, 2),)
    assert found.handed[0].readers == (0, 1, 2)
    assert [form.places for form in found.forms] == [(0, handed_place(0))] * 3 + [(0,)]
    assert [form.handed for form in found.forms] == [(0,)] * 3 + [()]
    assert all(form.layouts == (LAYOUT,) for form in found.forms)


def test_what_the_first_unit_alone_reads_is_its_boundarys_own() -> None:
    units = units_of(Unmasked(), linear())
    found = traced(units, (X, MASK))
    assert found.handed == ()
    assert found.forms[0].layouts == (LAYOUT, Layout.of(MASK))


def test_what_a_unit_makes_for_the_next_alone_is_the_boundarys_own() -> None:
    units = units_of(linear(), Does(lambda x: (x, (x > 0).float())), Unmasked(), linear())
    found = traced(units, X)
    assert found.handed == ()
    assert (found.forms[2].layouts, found.forms[2].needs) == ((LAYOUT, LAYOUT), (True, False))


def test_what_a_unit_makes_for_several_is_handed_on() -> None:
    units = units_of(
        linear(),
        Does(lambda x: (x, x.sum(0).detach())),
        Masked(),
        Does(lambda pair: (pair[1], pair[0] * 2)),
        Does(lambda pair: pair[1] * pair[0]),
    )
    found = traced(units, X)
    assert found.handed == (Handed(Layout((8,), (1,), torch.float32), 1, 4),)
    assert found.handed[0].readers == (1, 2, 3, 4)
    assert [form.places for form in found.forms[2:]] == [(0, handed_place(0))] * 2 + [(handed_place(0), 0)]


def test_a_changed_mask_is_another() -> None:
    units = units_of(
        Masked(),
        Does(lambda pair: (pair[0], pair[1] * 1.0)),
        Masked(),
        Unmasked(),
    )
    found = traced(units, (X, MASK))
    assert found.handed == (Handed(Layout.of(MASK), DATA, 1), Handed(Layout.of(MASK), 1, 3))
    assert [form.places for form in found.forms] == [(0, handed_place(0))] * 2 + [(0, handed_place(1))] * 2


def test_a_tensor_with_a_gradient_is_a_part_of_every_boundary() -> None:
    """A skip connection over several units: each boundary has it, and its gradient."""
    units = units_of(
        linear(),
        Does(lambda x: (x.sin(), x)),
        Does(lambda pair: (pair[0].cos(), pair[1])),
        Does(lambda pair: pair[0] + pair[1]),
    )
    found = traced(units, X)
    assert found.handed == ()
    assert [form.needs for form in found.forms[2:]] == [(True, True)] * 2


def test_the_same_mask_in_two_places_is_one() -> None:
    units = units_of(
        Does(lambda given: (given[0], given[1], given[1])),
        Does(lambda given: (given[0] * given[2], given[1])),
        Unmasked(),
        linear(),
    )
    found = traced(units, (X, MASK))
    assert found.handed == (Handed(LAYOUT, DATA, 1), Handed(Layout.of(MASK), DATA, 2))
    assert found.forms[1].places == (handed_place(0), handed_place(1), handed_place(1))


def test_is_same() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert is_same(x, x) and is_same(x, x.detach()) and is_same(x, x.view(2, 3))
    for other in (x.clone(), x.t(), x[:1], x.view(3, 2), x.view(torch.int32)):
        assert not is_same(x, other)
    assert not is_same(x.flatten()[:3], x.flatten()[3:])


# ---- frozen fronts ----


def frozen_linear() -> nn.Module:
    return linear().requires_grad_(False)


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [
        (lambda: (linear(), linear(), linear()), 0),
        (lambda: (frozen_linear(), linear(), linear()), 1),
        (lambda: (frozen_linear(), frozen_linear(), linear()), 2),
        (lambda: (linear(), frozen_linear(), linear()), 0),
        (lambda: (linear(), Does(torch.Tensor.detach), linear()), 2),
        (lambda: (linear(), linear(), Does(torch.Tensor.detach)), 3),
        (lambda: (linear(), Does(lambda x: x > 0), Does(torch.Tensor.float), linear()), 3),
    ],
)
def test_frozen_fronts(layers: Any, frozen: int) -> None:
    """Below a boundary without a gradient nothing is trained, even if it could be."""
    found = traced(units_of(*layers()), X)
    assert found.frozen == frozen
    if frozen < len(found.forms):
        assert not any(found.forms[frozen].needs)


def test_a_model_of_which_nothing_is_trained_is_planned_as_if_its_input_were() -> None:
    found = traced(units_of(frozen_linear(), frozen_linear()), (X, torch.tensor([1, 2]))[0])
    assert found.frozen == 0
    assert [form.needs for form in found.forms] == [(True,), (True,)]
    found = traced(units_of(Does(lambda given: given[0]), frozen_linear()), (X, torch.tensor([1, 2])))
    assert found.forms[0].needs == (True, False)


def test_a_front_with_a_detach_in_the_middle_runs() -> None:
    """What its units make may have a gradient, as it had when traced; its last boundary has none."""
    units = units_of(linear(), linear(), Does(torch.Tensor.detach), linear())
    found = traced(units, X)
    value = one(X)
    for unit in units[: found.frozen]:
        value = unit.forward_alone(value, 0).value
    assert torch.equal(only(value), units[1].layers[0](units[0].layers[0](X)))
    assert not only(value).requires_grad


def test_a_front_under_no_grad_is_frozen() -> None:
    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    assert traced(units_of(Quiet(), linear()), X).frozen == 1


def test_one_tensor_with_a_gradient_is_enough() -> None:
    units = units_of(
        linear(),
        Does(lambda x: (x.detach(), x.sum())),
        Does(lambda pair: pair[0] * pair[1]),
    )
    found = traced(units, X)
    assert found.frozen == 0
    assert found.forms[2].needs == (False, True)


# ---- what units draw ----


class Draws3(nn.Module):
    """Draws from the generators named."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = x * {"torch": lambda: float(torch.rand(())), "python": random.random, "numpy": np.random.rand}[name]()
        return x


NAMES = ("torch", "python", "numpy")


def test_what_units_draw_is_noted() -> None:
    units = units_of(
        linear(), nn.Dropout(0.5), *(Draws3(name) for name in NAMES), Draws3(*NAMES), nn.Dropout(0.5).eval()
    )
    traced(units, X)
    none = Draws(False, False, False)
    each = [Draws(*(name == own for own in NAMES)) for name in NAMES]
    assert [unit.draws for unit in units] == [none, Draws(True), *each, Draws(True, True, True), none]


def test_units_run_under_their_own_seeds() -> None:
    outs: list[torch.Tensor] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        outs.append(x.clone())
        return x

    traced(units_of(nn.Dropout(0.5), Does(look), linear()), X)
    torch.manual_seed(100)
    assert torch.equal(outs[0], nn.functional.dropout(X, 0.5))


def test_pythons_and_numpys_numbers_are_those_of_the_seed() -> None:
    drawn: list[float] = []

    def draw(x: torch.Tensor) -> torch.Tensor:
        drawn.extend((random.random(), float(np.random.rand())))
        return x.sin()

    units = units_of(Does(draw), linear())
    traced(units, X)
    units[0].forward(0, one(X), 100, None)
    assert drawn[:2] == drawn[2:]


# ---- no trace ----


class Keeper(nn.Module):
    """Changes all it has: buffers, numbers, containers."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("scale", torch.ones(8))
        self.count, self.seen = 0, [1.0]
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.seen.append(float(x.detach().sum()))
        self.scale.mul_(1.5)
        self.last = x.detach().clone()
        return self.norm(x) * self.scale  # type: ignore[no-any-return]

    def state(self) -> tuple[Any, ...]:
        return self.count, list(self.seen), self.last, {k: v.clone() for k, v in self.state_dict().items()}


def equal_states(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return a[:3] == b[:3] and all(torch.equal(a[3][name], b[3][name]) for name in a[3])


def test_the_traced_run_leaves_no_trace_in_modules() -> None:
    keeper = Keeper()
    before = keeper.state()
    units = units_of(linear(), keeper, linear())
    traced(units, X)
    assert equal_states(keeper.state(), before)
    # Mean, variance, scale and the last input, of 8, 8, 8 and 16 numbers, and the count of batches.
    assert units[1].state_bytes == (8 + 8 + 8 + 16) * 4 + 8
    assert [unit.state_bytes for unit in (units[0], units[2])] == [0, 0]
    assert all(parameter.grad is None for unit in units for parameter in unit.parameters())


@pytest.mark.parametrize("fails", ["layer", "loss", "output"])
def test_nor_does_one_that_fails(fails: str) -> None:
    def boom(_: Any) -> Any:
        raise ValueError("boom")

    keeper = Keeper()
    before = keeper.state()
    last = {"layer": Does(boom), "loss": linear(), "output": Does(lambda x: "text")}[fails]
    units = units_of(linear(), keeper, last, linear()) if fails == "output" else units_of(linear(), keeper, last)
    with pytest.raises((InputError, ValueError)):
        traced(units, X, boom if fails == "loss" else mean)
    assert equal_states(keeper.state(), before)


def test_a_unit_finds_what_one_below_it_has_put_somewhere() -> None:
    """So all is put back at the end alone."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.routes: list[torch.Tensor] = []

    shared = Shared()

    class Puts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = shared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.shared.routes.append(x.detach().sum())
            return x

    class Takes(Puts):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.shared.routes.pop()

    traced(units_of(linear(), Puts(), Takes()), X)
    assert shared.routes == []


def test_all_random_states_are_put_back() -> None:
    units = units_of(linear(), Draws3(*NAMES), nn.Dropout(0.5))
    torch.manual_seed(11)
    before = torch.get_rng_state(), global_states()
    traced(units, X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert global_states() == before[1]


def test_the_data_are_not_changed() -> None:
    """A first layer may work in place; its unit is refused when it runs, and the caller's tensor stays as it was."""
    x = X.clone().requires_grad_(True)
    traced(units_of(linear(), nn.ReLU(inplace=True), linear()), x.detach())
    assert torch.equal(x, X)
    assert x.grad is None


def test_a_gradient_inside_forward_is_noted() -> None:
    def penalty(x: torch.Tensor) -> torch.Tensor:
        y = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(y.sin().sum(), y)
        return x.sin() * slope

    keeper = Keeper()
    before = keeper.state()
    units = units_of(linear(), [keeper, Does(penalty)], linear())
    traced(units, X)
    assert [unit.computes_gradients for unit in units] == [False, True, False]
    # It was run twice to find out.
    assert equal_states(keeper.state(), before)


def test_after_sees_each_unit_with_its_input() -> None:
    seen: list[tuple[int, tuple[int, ...], bool]] = []
    units = units_of(linear(), nn.Flatten(0), nn.Unflatten(0, (2, 8)))
    trace_boundaries(
        units,
        X,
        mean,
        lambda _: 0,
        lambda number, value: seen.append((number, tuple(value.shape), value.requires_grad)),
    )
    assert seen == [(0, (2, 8), False), (1, (2, 8), True), (2, (16,), True)]


# ---- what a plan cannot hold ----

Odd = type("Odd", (torch.Tensor,), {})

ODD: dict[str, Callable[[torch.Tensor], Any]] = {
    "sparse": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.as_nested_tensor([x[0], x[1, :3]]),
    "mkldnn": lambda x: x.detach().to_mkldnn(),
    "Odd": lambda x: x.as_subclass(Odd),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("inside", [False, True])
def test_odd_outputs_are_one_line(kind: str, inside: bool) -> None:
    """Alone and in a tuple."""
    odd = ODD[kind]
    layer = Does((lambda x: (x, odd(x))) if inside else odd)
    with pytest.raises(InputError) as caught:
        traced(units_of(linear(), layer, linear()), X)
    words = f"the model's unit 0.1 returns a {kind} tensor; only dense, strided tensors can be moved and planned"
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (3, "the model's unit 0.1 returns a value of type int; it must return a tensor"),
        ("text", "the model's unit 0.1 returns a value of type str; it must return a tensor"),
        ((1, 2), "the model's unit 0.1 returns no tensor, tuple; the next layer reads one"),
        ([], "the model's unit 0.1 returns no tensor, list; the next layer reads one"),
        (None, "the model's unit 0.1 returns a value of type NoneType; it must return a tensor"),
    ],
)
def test_outputs_without_a_tensor_are_one_line(output: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        traced(units_of(linear(), Does(lambda x: output), linear()), X)
    assert str(caught.value) == words


def test_sparse_data_are_one_line() -> None:
    with pytest.raises(
        InputError, match=r"^the data returns a sparse tensor; only dense, strided tensors can be moved"
    ):
        traced(units_of(Does(torch.Tensor.to_dense), linear()), X.to_sparse())


def test_a_layer_that_fails_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^the model fails in unit 0\.1: RuntimeError: "):
        traced(units_of(linear(), nn.Linear(7, 7)), X)


def test_a_change_that_cannot_be_put_back_is_refused_by_name() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = iter(range(100))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * next(self.source)

    with pytest.raises(InputError, match=r"the model's unit 0\.1 changes layer 1: source in FORWARD: .*leave no trace"):
        traced(units_of(linear(), Reads(), linear()), X)


def test_scale_layers_are_traced_as_they_are() -> None:
    """The layer that counts its calls has been called, and does not know."""
    layer = Scale()
    traced(units_of(layer, linear()), X)
    assert layer.calls == 0
