"""Layers that keep state of every kind, by name, and what tests of state do with them."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as data_field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from loadahead.executor.model.state import ModuleState, Slot

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


def count_calls(m: Any, x: torch.Tensor) -> Any:
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
    "number": (count_calls, lambda: {"calls": 0}),
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

# Torch warns of its own old forms, which users have all the same.
TORCH_WARNS = [
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
