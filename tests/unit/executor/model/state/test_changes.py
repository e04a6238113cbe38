"""What a FORWARD changes in its modules is found, named as its user knows it, and refused if it cannot be put back."""

from __future__ import annotations

import io
import itertools
import random
import threading
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.state import ModuleState
from loadahead.sim.errors import InputError
from tests.support.stateful_layers import TORCH_WARNS, WIDTH, Keeps, changes, count_calls, inputs, layer

pytestmark = TORCH_WARNS


def test_paths_are_those_of_the_user() -> None:
    experts = nn.ModuleDict({"experts": nn.ModuleList([Keeps(count_calls, calls=0)])})

    class Routes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = experts["experts"]

        def forward(self, x: torch.Tensor) -> Any:
            return self.experts[0](x)  # type: ignore[index]

    found = changes(nn.Sequential(nn.BatchNorm1d(WIDTH)), Routes(), layer("object"), layer("hidden module"), first=2)
    assert {path: slot.kind for path, slot in found.items()} == {
        "layer 2.0: running_mean": "buffer",
        "layer 2.0: running_var": "buffer",
        "layer 2.0: num_batches_tracked": "buffer",
        "layer 3.experts.0: calls": "value",
        "layer 4: tally.count": "value",
        "layer 4: tally.seen": "value",
        "layer 4: names.hits": "value",
        "layer 4: slotted._Slotted__count": "value",
        "layer 4: slotted.steps": "value",
        "layer 5.hidden[0]: running_mean": "buffer",
        "layer 5.hidden[0]: running_var": "buffer",
        "layer 5.hidden[0]: num_batches_tracked": "buffer",
    }


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("nothing", []),
        ("weight norm", []),
        ("old weight norm", ["weight"]),
        ("spectral norm", ["_u", "_v"]),
        ("aliases", ["buffer"]),
        ("object rebound", ["tally"]),
        ("attribute that appears", ["late"]),
        ("shared module", ["running_mean", "running_var", "num_batches_tracked", "generator", "generator"]),
        ("compiled", ["running_mean", "running_var", "num_batches_tracked"]),
        (
            "scripted",
            ["buffer", "calls", "history", "spare", "table", "running_mean", "running_var", "num_batches_tracked"],
        ),
        ("parameter", ["weight"]),
    ],
)
def test_each_change_is_named_once(name: str, paths: list[str]) -> None:
    found = changes(layer(name))
    assert sorted(path.rpartition(": ")[2] for path in found) == sorted(paths)
    assert all("_orig_mod" not in path for path in found)


def test_equal_values_are_no_change() -> None:
    """NaNs of the same bits are equal, zeros of other signs are not; new equal tuples are no change."""

    def step(m: Any, x: torch.Tensor) -> Any:
        m.nan, m.pair, m.buffer[0] = float("nan"), (1, "a"), float("nan")
        m.zero = -0.0
        return 0.0

    found = changes(Keeps(step, nan=float("nan"), zero=0.0, pair=(1, "a"), buffer=torch.full((2,), float("nan"))))
    assert list(found) == ["layer 0: zero"]


@pytest.mark.parametrize(
    ("make", "use", "cause"),
    [
        (lambda: itertools.count(), next, "an iterator"),
        (lambda: iter([1, 2]), next, "an iterator"),
        (lambda: (i for i in range(3)), next, "an iterator"),
        (lambda: io.StringIO(), lambda file: file.write("a"), "a file"),
        (lambda: torch.eye(2).to_sparse(), lambda t: t.mul_(2), "a tensor of a kind"),
    ],
)
def test_what_cannot_be_put_back_is_refused(make: Any, use: Any, cause: str) -> None:
    def step(m: Any, x: torch.Tensor) -> Any:
        use(m.thing)
        return 0.0

    module = Keeps(step, thing=make())
    (slot,) = changes(module).values()
    assert (slot.path, slot.restorable) == ("layer 0: thing", False) and slot.cause.startswith(cause)
    state = ModuleState([module], "0.1")
    with pytest.raises(InputError, match=r"unit 0\.1 changes layer 0: thing in FORWARD: a") as raised:
        state.watch([slot])
    assert "\n" not in str(raised.value) and state.watched == ()


def test_what_nobody_can_see_into_is_left_alone() -> None:
    def step(m: Any, x: torch.Tensor) -> Any:
        with m.lock:
            return m.default.initial_seed() * 0 + torch.rand((), generator=m.default)

    module = Keeps(step, lock=threading.Lock(), default=torch.default_generator, module=random, call=len)
    assert changes(module) == {}


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
def test_odd_tensors_do_no_harm() -> None:
    lazy = nn.LazyLinear(WIDTH)
    module = Keeps(
        lambda m, x: 0.0,
        meta=torch.empty(3, device="meta"),
        buffer_sparse=torch.eye(2).to_sparse(),
        quantized=torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        nested=torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
        expanded=torch.ones(1).expand(5),
        empty=torch.empty(0, 3),
        conjugate=torch.ones(2, dtype=torch.complex64).conj(),
    )
    with torch.inference_mode():
        module.inference = torch.ones(2)
    state = ModuleState([module, lazy], "0.1")
    start = state.everything()
    assert state.changed_since(start) == ()
    state.cheap_marks()
    with state.at(start):
        assert lazy.has_uninitialized_params()
    state.put_back(start)


def test_a_model_on_meta_is_counted_too() -> None:
    with torch.device("meta"):
        module, x = nn.BatchNorm1d(WIDTH), torch.randn(3, WIDTH)
    state = ModuleState([module], "0.1")
    start = state.everything()
    module(x)
    state.watch(state.changed_since(start))
    assert state.nbytes >= 8


def test_a_module_that_knows_its_model_does_not_bring_it_in() -> None:
    """A layer may point back at the model; other units' state is not this unit's."""
    layers = [nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)]
    model = nn.Sequential(*layers)
    layers[0].__dict__["model"] = model
    state = ModuleState(layers[:1], "0.0")
    start = state.everything()
    model(inputs(1)[0])
    assert {slot.path.partition(":")[0] for slot in state.changed_since(start)} == {"layer 0"}
