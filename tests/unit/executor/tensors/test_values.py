"""What passes between units is put together again as it was, and each tensor lies alone in its memory."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.values import (
    CONSTANT,
    Description,
    Form,
    Value,
    View,
    handed_number,
    handed_place,
    over,
    owned,
    plain_tensor,
    storages,
    views_of,
)
from loadahead.sim.errors import InputError
from tests.support.units import one, single_form

X, Y, IDS = torch.arange(6.0).reshape(2, 3), torch.ones(4, dtype=torch.float64), torch.tensor([1, 2, 3])
MASK, TABLE = torch.tensor([True, False]), torch.eye(2)
F32, F64, I64 = Layout.of(X), Layout.of(Y), Layout.of(IDS)
Named = namedtuple("Named", ["x", "rest"])


def form_of(value: Any, places: tuple[int, ...], layouts: tuple[Layout, ...] = (F32,), needs: Any = (True,)) -> Form:
    return Form(tree_flatten(value)[1], places, layouts, needs)


# A value, the places of its leaves, the form's own layouts; MASK and TABLE are handed on, as numbers 0 and 1.
STRUCTURES: list[tuple[Any, tuple[int, ...], tuple[Layout, ...]]] = [
    (X, (0,), (F32,)),
    ((X, IDS), (0, 1), (F32, I64)),
    ([X, [Y, (IDS,)]], (0, 1, 2), (F32, F64, I64)),
    ({"b": X, "a": (Y, 3)}, (0, 1, CONSTANT), (F32, F64)),
    (OrderedDict(b=X, a="text"), (0, CONSTANT), (F32,)),
    (Named(X, None), (0, CONSTANT), (F32,)),
    ((X, X, Y), (0, 0, 1), (F32, F64)),
    ((X, MASK, 1.5, TABLE, MASK), (0, handed_place(0), CONSTANT, handed_place(1), handed_place(0)), (F32,)),
    ((MASK, X), (handed_place(0), 0), (F32,)),
    (MASK, (handed_place(0),), ()),
    ((), (), ()),
]


def same(one_value: Any, other: Any) -> bool:
    """The same objects in the same structure."""
    leaves, spec = tree_flatten(one_value)
    others, other_spec = tree_flatten(other)
    return spec == other_spec and all(a is b or (a == b) is True for a, b in zip(leaves, others, strict=True))


@pytest.mark.parametrize(("value", "places", "layouts"), STRUCTURES)
def test_a_value_is_taken_apart_and_put_together(value: Any, places: tuple[int, ...], layouts: Any) -> None:
    form = form_of(value, places, layouts, (True,) * len(layouts))
    parts = form.take_apart(value, "the model's unit 0.1")
    assert tuple(map(Layout.of, parts.own)) == layouts
    assert set(parts.handed) == set(form.handed)
    assert all(tensor is (MASK, TABLE)[number] for number, tensor in parts.handed.items())
    assert all(not isinstance(constant, torch.Tensor) for constant in parts.constants)
    assert same(form.build(parts.own, parts.handed, parts.constants), value)


def test_one_tensor_twice_is_one_tensor() -> None:
    """It is copied, moved and freed once, and stays one and the same for the next layer."""
    form = form_of((X, X), (0, 0))
    first, second = form.build((X,), {}, ())
    assert first is second is X
    assert form.take_apart((Y, Y), "unit").own == (Y,)
    with pytest.raises(InputError, match=r"unit 0\.1 returns two tensors where it returned one tensor twice when it"):
        form.take_apart((X, X.clone()), "the model's unit 0.1")


def test_places_of_what_is_handed_on() -> None:
    for number in range(5):
        assert handed_number(handed_place(number)) == number
        assert handed_place(number) < CONSTANT
    assert handed_number(CONSTANT) < handed_number(handed_place(0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((X, IDS, 3), "returns tuple of 3 values, and it returned tuple of 2 values when it was traced"),
        ([X, IDS], "returns list of 2 values, and it returned tuple of 2 values"),
        ({"x": X}, "returns dict of 1 values, and it returned tuple of 2 values"),
        (X, "returns one value, and it returned tuple of 2 values"),
        ((X, 3), "returns a value of type int in a place in which a tensor was when it was traced"),
        ((None, IDS), "returns a value of type NoneType in a place in which a tensor was"),
    ],
)
def test_another_structure_is_one_line(value: Any, words: str) -> None:
    form = form_of((X, IDS), (0, 1), (F32, I64), (True, False))
    with pytest.raises(InputError) as caught:
        form.take_apart(value, "the model's unit 0.1")
    assert str(caught.value).startswith(f"the model's unit 0.1 {words}")
    assert "for every microbatch" in str(caught.value) and "\n" not in str(caught.value)


def test_a_tensor_in_the_place_of_a_number_is_one_line() -> None:
    form = form_of((X, 3), (0, CONSTANT))
    with pytest.raises(InputError, match=r"returns a value of type Tensor in a place in which no tensor was"):
        form.take_apart((X, torch.tensor(3)), "unit")


def test_constants_may_differ_between_microbatches() -> None:
    form = form_of((X, 3, "text"), (0, CONSTANT, CONSTANT))
    assert form.take_apart((X, 4, None), "unit").constants == (4, None)


def test_bytes_and_gradients_of_a_form() -> None:
    form = form_of((X, IDS, Y, MASK), (0, 1, 2, handed_place(0)), (F32, I64, F64), (True, False, True))
    assert (form.nbytes, form.gradient_bytes) == (24 + 24 + 32, 24 + 32)
    assert form.gradient_layouts == (F32, F64)
    assert form.handed == (0,)
    assert not form.single
    assert form.text == "float32[2, 3] and int64[3] and float64[4]"
    assert single_form(X).single
    assert not form_of((X,), (0,)).single
    assert form_of(MASK, (handed_place(0),), (), ()).text == "no tensor"
    assert not form_of(MASK, (handed_place(0),), (), ()).single


# ---- memory ----


def turned() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3).t()


def test_a_description_reads_memory_as_it_was_written() -> None:
    """A microbatch may have other strides than the traced one: what lies in its memory is read with its own."""
    memory = Value((torch.empty(3, 2), torch.empty(3, dtype=torch.int64)))
    source = Value((turned(), IDS), (7,), frozenset({0}))
    target = source.described().over(memory.tensors)
    assert target.constants == (7,) and target.absent == {0}
    for mine, theirs in zip(target.tensors, source.tensors, strict=True):
        mine.copy_(theirs)
        assert torch.equal(mine, theirs) and mine.stride() == theirs.stride()
    assert storages(target.tensors) == storages(memory.tensors)
    assert torch.equal(memory.tensors[0].flatten(), torch.arange(6.0))
    assert target.nbytes == memory.nbytes == 24 + 24


def test_memory_of_another_type_and_shape_is_filled() -> None:
    memory = torch.empty(24, dtype=torch.uint8)
    mine = over(memory, F32)
    mine.copy_(X)
    assert Layout.of(mine) == F32
    assert not mine._is_view()
    assert torch.equal(memory.view(torch.float32), X.flatten())
    same_layout = torch.empty(2, 3)
    assert storage_id(over(same_layout, F32)) == storage_id(same_layout)


def test_the_number_of_tensors_must_be_that_of_the_memory() -> None:
    with pytest.raises(ValueError, match="zip"):
        Description((F32, I64)).over((torch.empty(6),))


def test_a_value_of_one_tensor_has_its_storages_bytes() -> None:
    assert one(torch.ones(100)[:3]).nbytes == 400
    assert Value(()).nbytes == 0
    assert Value(()).described() == Description(())


def test_what_is_alone_already_is_not_copied() -> None:
    tensors = torch.ones(3), turned()
    assert all(mine is theirs for mine, theirs in zip(owned(tensors, frozenset()), tensors, strict=True))


def test_outputs_that_share_memory_get_memory_of_their_own() -> None:
    x = torch.arange(8.0)
    tensors = (x, x.view(2, 4), x[:4], x[4:].clone())
    out = owned(tensors, frozenset())
    assert out[0] is x and out[3] is tensors[3]
    assert len(storages(out)) == 4
    assert [t.untyped_storage().nbytes() for t in out] == [32, 32, 16, 16]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(out, tensors, strict=True))


def test_memory_of_others_is_not_taken() -> None:
    weight, x = torch.ones(3), torch.ones(4)
    for tensors in ((weight,), (weight, x), (x, weight.view(3, 1))):
        out = owned(tensors, storages([weight]))
        assert storages([weight]) & storages(out) == frozenset()
        assert len(storages(out)) == len(tensors)


GRID = torch.arange(32.0).reshape(4, 8)


@pytest.mark.parametrize(
    ("tensor", "view"),
    [
        (GRID, None),
        (GRID.t(), None),
        (GRID[2:], None),  # begins where a cache line does
        (GRID[:, :3], View((8, 1), 0)),
        (GRID[1:], View((8, 1), 8)),
        (GRID[:, ::2], View((8, 2), 0)),
        (GRID[:, :1].expand(4, 5), View((8, 0), 0)),
        (GRID[0, 0].expand(3), View((0,), 0)),
        (GRID[1:3, 2:5].t(), View((1, 8), 10)),
        (torch.arange(8)[1:], None),  # integers are exact
        (torch.ones(0, 3)[:, :2], None),
    ],
)
def test_what_has_gaps_is_read_as_it_lay(tensor: torch.Tensor, view: View | None) -> None:
    """It is moved without them, in as many bytes as it has."""
    assert View.of_tensor(tensor) == view or tensor.numel() == 0
    value = Value(owned([tensor], frozenset()), views=views_of([tensor]))
    assert value.nbytes == tensor.numel() * tensor.element_size()
    (made,) = value.described().over([memory.clone() for memory in value.tensors]).as_made()
    assert torch.equal(made, tensor)
    if view is not None:
        assert (made.stride(), made.storage_offset()) == (tensor.stride(), view.offset)
        assert storage_id(made) != storage_id(value.tensors[0])


def test_without_gaps_the_tensors_are_the_memory_itself() -> None:
    value = Value((X, IDS), views=views_of([X, IDS]))
    assert value.views == ()
    assert value.as_made() is value.tensors
    mixed = Value(owned([X, GRID[:, :3]], frozenset()), views=views_of([X, GRID[:, :3]]))
    first, second = mixed.as_made()
    assert first is X and second.stride() == (8, 1)


# ---- kinds of tensors ----


class Odd(torch.Tensor):
    pass


ODD: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse ": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "nested ": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "mkldnn": lambda: torch.ones(3, 3).to_mkldnn(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "Odd": lambda: torch.ones(3).as_subclass(Odd),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_odd_kinds_of_tensors_are_one_line(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        plain_tensor(ODD[kind](), "the model's unit 0.1")
    words = (
        f"the model's unit 0.1 returns a {kind.strip()} tensor; only dense, strided tensors can be moved and planned"
    )
    assert str(caught.value) == words


@dataclass
class Output:
    """Stands for an output class that torch does not look into."""

    x: torch.Tensor


@pytest.mark.parametrize("value", [Output(X), 3, None, [X], "text"])
def test_what_is_no_tensor_is_one_line(value: Any) -> None:
    words = rf"^the data returns a value of type {type(value).__name__}; it must return a tensor$"
    with pytest.raises(InputError, match=words):
        plain_tensor(value, "the data")


def test_plain_tensors_pass() -> None:
    for tensor in (X, IDS, turned(), nn.Parameter(X.clone()), torch.ones(()), torch.ones(2, dtype=torch.complex64)):
        assert plain_tensor(tensor, "unit") is tensor
