"""What a FORWARD changes in its modules is found, and a second run on the values from before leaves no trace."""

from __future__ import annotations

import gc
import io
import itertools
import random
import threading
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as data_field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from loadahead.executor.state import ModuleState, Slot
from loadahead.sim.errors import InputError

Pair = namedtuple("Pair", "first second")
WIDTH = 4


@dataclass
class Tally:
    """Is a plain object of the user's."""

    count: int = 0
    seen: list[int] = data_field(default_factory=list)


class Slotted:
    """Is one that keeps its attributes in slots."""

    __slots__ = ("__count", "steps")

    def __init__(self) -> None:
        self.__count, self.steps = 0, [0]

    def step(self) -> int:
        self.__count += 1
        self.steps.append(self.__count)
        return len(self.steps)


class OwnList(list[Any]):
    """Is a list whose own methods nobody but its user may call."""

    def clear(self) -> None:
        raise AssertionError("not yours")

    def __setitem__(self, at: Any, value: Any) -> None:
        raise AssertionError("not yours")


class Keeps(nn.Module):
    """Has state, and a step that changes it and returns a number that depends on it."""

    def __init__(self, step: Callable[[Any, torch.Tensor], Any], **state: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.step = step
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and name.startswith("buffer"):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x) + self.step(self, x)
        return out


# -- Ways to keep state: a step of each, by name -----------------------------------------------------------------------


def _in_place(m: Any, x: torch.Tensor) -> Any:
    m.buffer.mul_(0.9).add_(x.detach().mean(0))
    return m.buffer.clone()


def _rebound_buffer(m: Any, x: torch.Tensor) -> Any:
    m.buffer = m.buffer + 1
    return m.buffer


def _through_data(m: Any, x: torch.Tensor) -> Any:
    m.buffer.data.add_(1.0)
    return m.buffer.sum().item()


def _attribute_tensor(m: Any, x: torch.Tensor) -> Any:
    m.cache = x.detach() if m.cache is None else m.cache + x.detach()
    return m.cache


def _parameter(m: Any, x: torch.Tensor) -> Any:
    with torch.no_grad():
        m.weight.mul_(1.5)
    return m.weight * 1.0


def _number(m: Any, x: torch.Tensor) -> Any:
    m.calls += 1
    return m.calls / 7


def _list(m: Any, x: torch.Tensor) -> Any:
    m.calls.append(len(m.calls))
    return sum(m.calls)


def _nested(m: Any, x: torch.Tensor) -> Any:
    inner = m.cache["a"][1]
    inner["n"] = inner.get("n", 0) + 1
    inner["t"].add_(1)
    return inner["n"] * inner["t"].clone()


def _dict_cache(m: Any, x: torch.Tensor) -> Any:
    if len(m.cache) > 2:
        m.cache.clear()
    m.cache[len(m.cache)] = x.detach().clone()
    return sum(m.cache.values())


def _rebound_list(m: Any, x: torch.Tensor) -> Any:
    m.cache = [*m.cache[-2:], x.detach()]
    return sum(m.cache) + len(m.cache)


def _counter(m: Any, x: torch.Tensor) -> Any:
    m.counter.update("ab")
    m.default["x"].append(m.counter["a"])
    m.recent.append(m.counter["b"])
    m.members.add(len(m.recent) + len(m.members))
    m.ordered.move_to_end(next(iter(m.ordered)))
    return sum(m.recent) + len(m.default["x"]) + sum(m.members) + next(iter(m.ordered))


def _tuple(m: Any, x: torch.Tensor) -> Any:
    m.pair = Pair(m.pair.first + 1, (m.pair.second[0] + x.detach().sum(),))
    return m.pair.first * m.pair.second[0]


def _object(m: Any, x: torch.Tensor) -> Any:
    m.tally.count += 2
    m.tally.seen.append(m.tally.count)
    m.names.hits += m.slotted.step()
    return sum(m.tally.seen) + m.names.hits


def _new_object(m: Any, x: torch.Tensor) -> Any:
    m.tally = Tally(m.tally.count + 1, [*m.tally.seen, 1])
    return m.tally.count + len(m.tally.seen)


def _objects_in_list(m: Any, x: torch.Tensor) -> Any:
    m.tallies[0].count += 1
    m.own.append(1)
    return m.tallies[0].count * len(m.own)


def _appears(m: Any, x: torch.Tensor) -> Any:
    if not hasattr(m, "late"):
        m.late = 1.0
    m.late *= 3
    return m.late


def _comes_and_goes(m: Any, x: torch.Tensor) -> Any:
    if hasattr(m, "flag"):
        del m.flag
        return 1.0
    m.flag = True
    return 2.0


def _generators(m: Any, x: torch.Tensor) -> Any:
    drawn = m.python.random() + m.new.random() + m.old.random_sample() + m.bits.random_raw() % 7
    return torch.rand(WIDTH, generator=m.torch) + drawn


def _arrays(m: Any, x: torch.Tensor) -> Any:
    m.array += 1.0
    m.bytes.append(1)
    return float(m.array.sum()) + len(m.bytes)


def _alias(m: Any, x: torch.Tensor) -> Any:
    m.buffer.add_(1)
    return m.buffer_too + m.everywhere[0] + m.pair[1][0] + m.names.tensor + m.table["t"]


def _view(m: Any, x: torch.Tensor) -> Any:
    m.buffer[0, 1].add_(1)
    return m.row.clone() + m.buffer.sum()


def _output(m: Any, x: torch.Tensor) -> Any:
    m.aux = (m.linear.weight**2).sum()
    m.losses = [m.aux, (m.aux * 2,)]
    m.calls += 1
    return m.aux * m.calls


def _outputs_with_others(m: Any, x: torch.Tensor) -> Any:
    m.stats["last"] = (m.linear.weight**2).sum()
    m.stats["count"] += 1
    return m.stats["last"] * m.stats["count"]


def _hidden_module(m: Any, x: torch.Tensor) -> Any:
    return m.hidden[0](x).detach()


def _cycle(m: Any, x: torch.Tensor) -> Any:
    m.ring.append(len(m.ring))
    return len(m.ring[0])


def _ring() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def _aliases() -> dict[str, Any]:
    t = torch.zeros(WIDTH)
    return {
        "buffer": t,
        "buffer_too": t,
        "everywhere": [t],
        "pair": (1, (t,)),
        "names": SimpleNamespace(tensor=t),
        "table": {"t": t},
    }


def _views() -> dict[str, Any]:
    whole = torch.randn(3, WIDTH)
    return {"buffer": whole[:2].t(), "row": whole[1]}


KEEPERS: dict[str, tuple[Callable[[Any, torch.Tensor], Any], Callable[[], dict[str, Any]]]] = {
    "buffer in place": (_in_place, lambda: {"buffer": torch.zeros(WIDTH)}),
    "buffer rebound": (_rebound_buffer, lambda: {"buffer": torch.zeros(WIDTH)}),
    "buffer through data": (_through_data, lambda: {"buffer": torch.zeros(WIDTH)}),
    "bfloat16 buffer": (_rebound_buffer, lambda: {"buffer": torch.zeros(WIDTH, dtype=torch.bfloat16)}),
    "attribute": (_attribute_tensor, lambda: {"cache": None}),
    "parameter": (_parameter, lambda: {"weight": nn.Parameter(torch.ones(WIDTH))}),
    "number": (_number, lambda: {"calls": 0}),
    "list": (_list, lambda: {"calls": []}),
    "nested": (_nested, lambda: {"cache": {"a": [0, {"t": torch.zeros(WIDTH)}]}}),
    "dict cache": (_dict_cache, lambda: {"cache": {}}),
    "list rebound": (_rebound_list, lambda: {"cache": []}),
    "collections": (
        _counter,
        lambda: {
            "counter": Counter(),
            "default": defaultdict(list),
            "recent": deque(maxlen=3),
            "members": set(),
            "ordered": OrderedDict.fromkeys([1, 2, 3]),
        },
    ),
    "tuple": (_tuple, lambda: {"pair": Pair(0, (torch.zeros(()),))}),
    "object": (
        _object,
        lambda: {"tally": Tally(), "names": SimpleNamespace(hits=0), "slotted": Slotted()},
    ),
    "object rebound": (_new_object, lambda: {"tally": Tally()}),
    "objects in a list": (_objects_in_list, lambda: {"tallies": [Tally()], "own": OwnList()}),
    "attribute that appears": (_appears, dict),
    "attribute that comes and goes": (_comes_and_goes, dict),
    "generators": (
        _generators,
        lambda: {
            "python": random.Random(1),
            "new": np.random.default_rng(2),
            "old": np.random.RandomState(3),
            "bits": np.random.MT19937(4),
            "torch": torch.Generator().manual_seed(5),
        },
    ),
    "arrays": (_arrays, lambda: {"array": np.zeros(3), "bytes": bytearray(b"ab")}),
    "aliases": (_alias, _aliases),
    "views": (_view, _views),
    "output": (_output, lambda: {"aux": None, "losses": None, "calls": 0}),
    "outputs with others": (_outputs_with_others, lambda: {"stats": {"last": None, "count": 0}}),
    "hidden module": (_hidden_module, lambda: {"hidden": [nn.BatchNorm1d(WIDTH)]}),
    "cycle": (_cycle, lambda: {"ring": _ring()}),
}


class Noisy(nn.Module):
    """Is a layer for TorchScript, with state of each kind that it has."""

    # TorchScript wants types here, and not their names, which this file's annotations are.
    __annotations__ = {"calls": int, "history": list[int], "table": dict[str, torch.Tensor]}

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.calls, self.spare = nn.BatchNorm1d(WIDTH), 0, torch.zeros(WIDTH)
        self.history: list[int] = []
        self.table = {"t": torch.zeros(WIDTH)}
        self.buffer = nn.Buffer(torch.zeros(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.history.append(self.calls)
        self.buffer = self.buffer + 1  # type: ignore[assignment]
        self.spare += 1
        self.table["t"] = self.table["t"] + 1
        count = float(self.calls + len(self.history))
        out: torch.Tensor = self.norm(x) * count + self.buffer + self.spare.clone() + self.table["t"]
        return out


class AddsNoise(nn.Module):
    """Draws from torch's generator of its own, and shares a counter."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.shared, self.generator = shared, torch.Generator().manual_seed(7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.shared(x) + torch.rand(x.shape, generator=self.generator)
        return out


def _compiled() -> nn.Module:
    return torch.compile(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH)), backend="eager")  # type: ignore[return-value]


def _shares() -> nn.Module:
    shared = nn.BatchNorm1d(WIDTH)
    return nn.Sequential(AddsNoise(shared), AddsNoise(shared))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "shared module": _shares,
    "scripted": lambda: torch.jit.script(Noisy()),
    "traced": lambda: torch.jit.trace(nn.Sequential(nn.BatchNorm1d(WIDTH)), torch.randn(3, WIDTH), check_trace=False),  # type: ignore[no-untyped-call]
    "compiled": _compiled,
    "nothing": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
    **{name: lambda step=step, state=state: Keeps(step, **state()) for name, (step, state) in KEEPERS.items()},  # type: ignore[misc]
}

pytestmark = [
    # Torch warns of its own old forms, which users have all the same.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.spectral_norm:FutureWarning"),
]


def layer(name: str) -> nn.Module:
    torch.manual_seed(len(name))
    return LAYERS[name]()


def run(layers: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for each in layers:
        x = each(x)
    return x


def inputs(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(6, WIDTH, generator=generator) for _ in range(count)]


def watching(layers: list[nn.Module]) -> ModuleState:
    """Return the state of a unit of which one FORWARD was tried and undone."""
    state = ModuleState(layers, "0.1")
    start = state.everything()
    run(layers, inputs(1)[0])
    state.watch(state.changed_since(start))
    state.put_back(start)
    assert state.changed_since(start) == ()
    return state


def changes(*layers: nn.Module, first: int = 0) -> dict[str, Slot]:
    """Return what one FORWARD changes, by path."""
    state = ModuleState(layers, "0.1", first)
    start = state.everything()
    run(list(layers), inputs(1)[0])
    return {slot.path: slot for slot in state.changed_since(start)}


def picture(value: Any, seen: set[int]) -> Any:
    """Return all that can be told of a value, identities and versions too; written without the code under test."""
    if isinstance(value, torch.Tensor):
        return id(value), value._version, value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    if id(value) in seen and not isinstance(value, (int, str, float, type(None))):
        return id(value)
    seen.add(id(value))
    if isinstance(value, nn.Module):
        if isinstance(value, torch.jit.ScriptModule):
            names = ("calls", "history", "spare", "table") if hasattr(value, "calls") else ()
            script = [picture(getattr(value, name), set()) for name in names if name not in ("history", "table")]
            script += [list(value.history), value.table["t"]._version] if names else []
            return id(value), script, [picture(tensor, seen) for tensor in value.state_dict(keep_vars=True).values()]
        return id(value), [(name, picture(item, seen)) for name, item in sorted(value.__dict__.items())]
    if isinstance(value, dict):
        return id(value), [(key, picture(item, seen)) for key, item in value.items()]
    if isinstance(value, tuple):
        return [picture(item, seen) for item in value]
    if isinstance(value, (list, deque, set)):
        return id(value), [picture(item, seen) for item in value]
    if isinstance(value, (Tally, SimpleNamespace)):
        return id(value), picture(value.__dict__, seen)
    if isinstance(value, Slotted):
        return id(value), value.steps
    if isinstance(value, np.ndarray):
        return id(value), value.tolist()
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, np.random.Generator):
        return id(value), repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return id(value), repr(value.get_state())
    if isinstance(value, np.random.BitGenerator):
        return id(value), repr(value.state)
    return value if isinstance(value, (int, float, str, bytes, bytearray)) else id(value)


def pictures(layers: list[nn.Module]) -> list[Any]:
    """Return pictures of the layers; what they hold must live on for identities to mean something."""
    return [picture(each, set()) for each in layers]


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


# -- What is said of changes -------------------------------------------------------------------------------------------


def test_paths_are_those_of_the_user() -> None:
    experts = nn.ModuleDict({"experts": nn.ModuleList([Keeps(_number, calls=0)])})

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


# -- Bytes and layouts -------------------------------------------------------------------------------------------------


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


def test_weights_in_a_watched_container_are_not_copied() -> None:
    def step(m: Any, x: torch.Tensor) -> Any:
        m.used.append(m.linear.weight)
        return len(m.used)

    module = Keeps(step, used=[])
    check_replay([module], [1, 0], microbatches=2)
    assert watching([module]).nbytes == 0


def test_a_unit_without_state_costs_nothing() -> None:
    state = watching([layer("nothing")])
    assert state.watched == () and state.nbytes == 0 and state.before() is state.before()
    assert state.at(state.before()) is state.at(state.before())


# -- Marks -------------------------------------------------------------------------------------------------------------


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
