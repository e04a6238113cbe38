"""Cuts a model of blocks, as it is published, into layers that run one after the other.

The layers are what comes before the blocks, each block, and the modules after them. Where these are is no table of
families: one run of the model shows which blocks feed each other, what else each is called with, and what becomes of
the last one's output. What a run does not show to be so is refused, and the layers have to train what the model trains
(:mod:`loadahead.executor.model.trained_alike`).

What comes before the blocks runs by the model's own code, up to its first block (:class:`Front`). Masks, positions and
tables that blocks are called with are made there, and travel along beside the hidden state.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves

from loadahead.executor.model.calling import ask_for_no_cache, called
from loadahead.executor.model.context import autocast
from loadahead.executor.model.errors import model_errors_in_one_line
from loadahead.executor.model.state import ModuleState
from loadahead.executor.model.trained_alike import Trial, difference, tried
from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.numbers import has_numbers
from loadahead.sim.errors import InputError

# What an output that is no tensor holds for the loss, by its name.
_OUTPUTS = ("logits", "last_hidden_state")
_ADVICE = (
    "give the layers that are run one after the other, nn.Sequential(*layers), in which a layer may be a module of "
    "your own that runs a part of this model"
)
# Nodes of torch's own views, which hand a gradient on as it is where they show all of a tensor.
_VIEWS = frozenset(f"{name}Backward0" for name in ("Slice", "View", "Alias", "Expand", "AsStrided", "UnsafeView"))
_running = threading.local()


def has_blocks(model: object) -> bool:
    """Return whether a model may be one of blocks: a module that holds a list of modules."""
    if not isinstance(model, nn.Module) or isinstance(model, nn.Sequential | nn.ModuleList):
        return False
    return any(isinstance(part, nn.ModuleList) and len(part) for part in model.modules())


def cut_at_blocks(model: nn.Module, value: Any, cast: torch.dtype | None = None) -> nn.Sequential:
    """Return a model's layers, which share its weights; InputError where one run of it does not show them.

    ``value`` is a microbatch's input: a tensor, or a mapping of the model's keywords. ``cast`` is autocast's type where
    the model is trained under it. The model is afterwards as it was, but that its configs ask for no cache.
    """
    name = type(model).__name__
    ask_for_no_cache(model)
    weights = dict(model.named_parameters())
    numbers = all(map(has_numbers, (*weights.values(), *model.buffers())))
    records: list[_Record] = []
    layers = nn.Sequential()

    def run_model() -> torch.Tensor:
        records.append(_Record(model, value))
        return records[-1].output

    def run_layers() -> torch.Tensor:
        made = value
        for at, layer in enumerate(layers):
            made = layer(made)
            if at == 0:
                _require_own_weights(name, layer, made, weights)
        return output_of(made, name)

    def trial(of_layers: bool) -> Trial:
        where = (
            f"when it is run in layers, of which each gets the hidden state of the one before ({name})"
            if of_layers
            else f"on the data's input ({name})"
        )
        with model_errors_in_one_line(where), _unchanged(model), _autocast(weights, cast):
            return tried(run_layers if of_layers else run_model, model, numbers)

    theirs = trial(of_layers=False)
    record, records = records[0], []
    chain = record.chain()
    layers.extend(_layers(model, record, chain))
    unlike = None if numbers else record.unlinked(chain)
    if unlike is None:
        uses = Counter(id(weight) for layer in layers for weight in layer.parameters())
        counts = {key: uses[id(weight)] for key, weight in weights.items()}
        unlike = difference(theirs, trial(of_layers=True), counts, lambda: trial(of_layers=False))
    if unlike is not None:
        raise InputError(f"the model, {name}, {unlike}; {_ADVICE}")
    return layers


def kind_of(layer: nn.Module) -> str:
    """Return what people know a layer by: its class, or what it is of a model that was cut."""
    if isinstance(layer, Block):
        return type(layer.block).__name__
    return "embedding" if isinstance(layer, Front) else "head" if isinstance(layer, Head) else type(layer).__name__


class Front(nn.Module):
    """Runs a model up to its first block; returns the hidden state and what else blocks are called with."""

    def __init__(self, shell: nn.Module, at: int | str) -> None:
        super().__init__()
        self.shell, self.at = shell, at

    def forward(self, value: Any) -> tuple[Any, list[tuple[list[Any], dict[str, Any]]]]:
        """Return the first block's hidden state, and the different calls of blocks without it."""
        calls: list[tuple[list[Any], dict[str, Any]]] = []
        outer, _running.calls = getattr(_running, "calls", None), calls
        try:
            called(self.shell, value)
        except _Reached as reached:
            return reached.hidden, calls
        finally:
            _running.calls = outer
        raise RuntimeError("no block is reached, which one was when the model was cut")


class Block(nn.Module):
    """Runs a block on the hidden state and the rest of its call; hands on the rest, unless it is the last."""

    def __init__(self, block: nn.Module, at: int | str, call: int, last: bool) -> None:
        super().__init__()
        self.block, self.at, self.call, self.last = block, at, call, last

    def forward(self, value: tuple[Any, Any]) -> Any:
        """Return the hidden state after the block, with the rest of all calls."""
        hidden, calls = value
        args, keywords = calls[self.call]
        if isinstance(self.at, int):
            out = self.block(*args[: self.at], hidden, *args[self.at :], **keywords)
        else:
            out = self.block(*args, **{self.at: hidden}, **keywords)
        made = out[0] if isinstance(out, tuple) else out
        return made if self.last else (made, calls)


class Head(nn.Sequential):
    """Runs the modules after the blocks, one on what the other makes."""


class _Reached(BaseException):
    """Ends a run where the last call that is wanted is made; it is no Exception, so that no model catches it."""

    def __init__(self, hidden: Any) -> None:
        self.hidden = hidden


class _Catch(nn.Module):
    """Stands for a block in the model that runs up to it, and notes what it is called with.

    The model may read what its blocks are and hold: that is the block's own.

    Args:
        noted: whether its call is another than those before it.
        last: whether no later block's is.
        values: how many values the block returns in a tuple; None where it returns the hidden state itself.
    """

    def __init__(self, block: nn.Module, at: int | str, noted: bool, last: bool, values: int | None) -> None:
        super().__init__()
        self.training = block.training
        # Hidden from torch and from who looks for what modules hold: the block's weights are no part of this.
        self.caught_block = partial(_itself, block)
        self.caught_at, self.caught_noted, self.caught_last, self.caught_values = at, noted, last, values

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Hand on the hidden state, and None for what else the block returns; note the rest of the call."""
        hidden, rest = _taken_apart(args, keywords, self.caught_at)
        if self.caught_noted:
            _running.calls.append(rest)
        if self.caught_last:
            raise _Reached(hidden)
        return hidden if self.caught_values is None else (hidden, *[None] * (self.caught_values - 1))

    def __getattr__(self, name: str) -> Any:
        """Return the block's attribute."""
        if "caught_block" not in self.__dict__:  # while it is made or copied
            return super().__getattr__(name)
        return getattr(self.caught_block(), name)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the block's parameters."""
        return self.caught_block().parameters(recurse)

    def buffers(self, recurse: bool = True) -> Iterator[torch.Tensor]:
        """Return the block's buffers."""
        return self.caught_block().buffers(recurse)

    def __iter__(self) -> Iterator[Any]:
        """Return what the block iterates over."""
        return iter(self.caught_block())  # type: ignore[call-overload,no-any-return]

    def __getitem__(self, at: Any) -> Any:
        """Return what the block has there."""
        block: Any = self.caught_block()
        return block[at]

    def __len__(self) -> int:
        """Return how much the block holds."""
        return len(self.caught_block())  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        """Return whether the block counts as true."""
        return bool(self.caught_block())


def _itself(block: nn.Module) -> nn.Module:
    return block


@dataclass(slots=True, eq=False)
class _Call:
    """Holds one call of a module: what it was called with and what it returned."""

    module: nn.Module
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    outer: nn.Module | None
    # Whether gradients were on, and the types under autocast.
    gradients: bool
    casts: tuple[Any, ...]
    out: Any = None
    # The hooks on the hidden state when it was made.
    hooks: int = 0

    @property
    def made(self) -> Any:
        return self.out[0] if isinstance(self.out, tuple) and self.out else self.out

    def given(self, place: int | str) -> Any:
        """Return what this call has in a place."""
        return self.args[place] if isinstance(place, int) else self.keywords[place]

    def place_of(self, hidden: Any) -> int | str | None:
        """Return where this call has a tensor; None where it has it nowhere, or in several places."""
        pairs: list[tuple[int | str, Any]] = [*enumerate(self.args), *self.keywords.items()]
        found = [place for place, value in pairs if _is_handed(value, hidden)]
        return found[0] if len(found) == 1 else None


@dataclass(slots=True)
class _Chain:
    """Holds the blocks' calls in order, the name of the list that they are in, and where the hidden state stands."""

    name: str
    calls: list[_Call]
    at: int | str = 0
    # Which of the different calls each block gets.
    different: list[int] = field(default_factory=list)


class _Record:
    """Runs a model once, and holds the calls of its modules in order: all but those inside a list's modules."""

    def __init__(self, model: nn.Module, value: Any) -> None:
        self._model = model
        self.lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
        inner = {id(part) for one in self.lists.values() for block in one for part in _inside(block)}
        members = {id(block) for one in self.lists.values() for block in one}
        self.calls: list[_Call] = []
        self._open: list[_Call] = []
        self._casts = _casts()
        hooks = []
        for module in {id(part): part for part in model.modules()}.values():
            if id(module) not in inner or id(module) in members:
                hooks.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
                hooks.append(module.register_forward_hook(self._after, with_kwargs=True))
        try:
            self.output = output_of(called(model, value), type(model).__name__)
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        outer = self._open[-1].module if self._open else None
        call = _Call(module, args, dict(keywords), outer, torch.is_grad_enabled(), _casts())
        self.calls.append(call)
        self._open.append(call)

    def _after(self, module: nn.Module, args: Any, keywords: Any, out: Any) -> None:
        call = self._open.pop()
        assert call.module is module, "calls end in the order in which they began"
        call.out, call.hooks = out, _hooks_on(call.made)

    def chain(self) -> _Chain:
        """Return the longest list whose modules run one after the other, each once; InputError where there is none."""
        found = [chain for name, one in self.lists.items() if (chain := self._chain_of(name, one)) is not None]
        if not found:
            names = ", ".join(list(self.lists)[:4])
            other = next((kind for one in self.lists.values() if (kind := self._other_output(one))), None)
            if other is not None:
                raise InputError(
                    f"the model, {type(self._model).__name__}, has blocks that return {other}; supported are blocks "
                    f"that return the hidden state, a tensor, or a tuple that begins with it; {_ADVICE}"
                )
            raise InputError(
                f"the model, {type(self._model).__name__}, has no list of modules that feed each other, each run once "
                f"(its lists are {names}); {_ADVICE}"
            )
        chain = max(found, key=lambda one: (len(one.calls), -one.name.count(".")))
        for number, call in enumerate(chain.calls):
            more = call.out[1:] if isinstance(call.out, tuple) else ()
            for later in self.calls[self.calls.index(call) + 1 :]:
                if any(_is_handed(given, one) for given in tree_leaves((later.args, later.keywords)) for one in more):
                    raise InputError(
                        f"the model, {type(self._model).__name__}, hands on more of its blocks than the hidden state: "
                        f"{type(later.module).__name__} gets another of the {len(call.out)} values that block {number} "
                        f"returns, which is not supported; {_ADVICE}"
                    )
        kinds: list[list[Any]] = []
        for call in chain.calls:
            leaves, spec = tree_flatten(_taken_apart(call.args, call.keywords, chain.at)[1])
            same = [i for i, known in enumerate(kinds) if known[1] == spec and _are_same(known[0], leaves)]
            if not same:
                kinds.append([leaves, spec])
            chain.different.append(same[0] if same else len(kinds) - 1)
        return chain

    def _other_output(self, one: nn.ModuleList) -> str | None:
        """Return the kind of what a list's modules return, each run once, where no hidden state is found in it."""
        calls = [call for call in self.calls if any(call.module is block for block in one)]
        if [id(call.module) for call in calls] != [id(block) for block in one]:
            return None
        return next((type(call.out).__name__ for call in calls if not isinstance(call.made, torch.Tensor)), None)

    def _chain_of(self, name: str, one: nn.ModuleList) -> _Chain | None:
        calls = [call for call in self.calls if any(call.module is block for block in one)]
        if [id(call.module) for call in calls] != [id(block) for block in one]:
            return None
        places = [later.place_of(before.made) for before, later in zip(calls, calls[1:], strict=False)]
        place = places[0] if places else 0
        if place is None or any(other != place for other in places):
            return None
        first = calls[0].args[place] if isinstance(place, int) and calls[0].args else calls[0].keywords.get(str(place))
        return _Chain(name, calls, place) if isinstance(first, torch.Tensor) else None

    def after(self, chain: _Chain) -> list[_Call]:
        """Return the calls of modules after the blocks, one after the other; InputError where there is more."""
        number, around = self.calls.index(chain.calls[-1]), self.around(chain)
        calls: list[_Call] = []
        hidden = chain.calls[-1].made
        for call in self.calls[number + 1 :]:
            if call.outer is not None and id(call.outer) not in around:
                continue  # inside one that is taken whole
            if call.place_of(hidden) != 0 or len(call.args) != 1 or call.keywords:
                raise self._more(f"{type(call.module).__name__} is not called with what is made before it alone")
            calls.append(call)
            hidden = call.made
        if not _is_handed(self.output, hidden):
            raise self._more("its output is not what the last of its modules makes")
        return calls

    def unlinked(self, chain: _Chain) -> str | None:
        """Return what the model does to gradients or types of its layers, in words that follow "the model".

        Operators do not show that; None where it does nothing of the kind.
        """
        calls = [*chain.calls, *self.after(chain)]
        given = [call.args[0] if n >= len(chain.calls) else call.given(chain.at) for n, call in enumerate(calls)]
        for number, call in enumerate(calls):
            what = f"block {number}" if number < len(chain.calls) else type(call.module).__name__
            if not call.gradients:
                return f"runs {what} without gradients, which its layers run one after the other would have"
            if call.casts != self._casts:
                return f"runs {what} under an autocast of its own, which its layers run one after the other do not"
            after = given[number + 1] if number + 1 < len(calls) else self.output
            own = call.module._backward_hooks or call.module._backward_pre_hooks  # they put a node of theirs after it
            hooks = _hooks_on(call.made) - call.hooks + (0 if after is call.made else _hooks_on(after))
            if hooks or not (own or _has_its_gradient(after, call.made)):
                return f"changes the gradient of what {what} makes, which its layers run one after the other do not"
        return None

    def around(self, chain: _Chain) -> set[int]:
        """Return the ids of the modules that hold the blocks."""
        blocks = self.lists[chain.name]
        return {id(part) for part in self._model.modules() if any(inner is blocks for inner in part.modules())}

    def before(self, chain: _Chain) -> set[int]:
        """Return the ids of the modules that ran before the first block, and of those in them."""
        around, number = self.around(chain), self.calls.index(chain.calls[0])
        ran = [call.module for call in self.calls[:number] if id(call.module) not in around]
        return {id(part) for module in ran for part in module.modules()}

    def _more(self, what: str) -> InputError:
        return InputError(
            f"the model, {type(self._model).__name__}, does more after its blocks than to call modules one after the "
            f"other: {what}; {_ADVICE}"
        )


def output_of(out: Any, name: str) -> torch.Tensor:
    """Return the tensor that a loss is computed of: the output itself, its logits, or its first tensor."""
    if isinstance(out, torch.Tensor):
        return out
    values = [out[key] for key in _OUTPUTS if key in out] if isinstance(out, Mapping) else list(out)[:1]
    if not values or not isinstance(values[0], torch.Tensor):
        raise InputError(f"the model, {name}, returns {type(out).__name__}, in which no tensor is known; {_ADVICE}")
    return values[0]


def _layers(model: nn.Module, record: _Record, chain: _Chain) -> Iterator[nn.Module]:
    after = [call.module for call in record.after(chain)]
    wanted = [chain.different.index(number) for number in range(max(chain.different) + 1)]
    catches = [
        _Catch(
            call.module, chain.at, n in wanted, n == wanted[-1], len(call.out) if isinstance(call.out, tuple) else None
        )
        for n, call in enumerate(chain.calls)
    ]
    blocks = record.lists[chain.name]
    swapped: dict[int, nn.Module] = {id(blocks): nn.ModuleList(catches)}
    ran = record.before(chain)
    swapped.update({id(module): nn.Identity() for module in after if id(module) not in ran})
    yield Front(_with(model, swapped), chain.at)
    for number, call in enumerate(chain.calls):
        yield Block(call.module, chain.at, chain.different[number], number == len(chain.calls) - 1)
    if after:
        yield Head(*after)


def _with(module: nn.Module, swapped: Mapping[int, nn.Module]) -> nn.Module:
    """Return a module in which others stand for some; what holds none of these is the very same module."""
    if id(module) in swapped:
        return swapped[id(module)]
    if not any(id(part) in swapped for part in module.modules()):
        return module
    out = copy.copy(module)
    for name in ("_parameters", "_buffers"):
        out.__dict__[name] = dict(module.__dict__[name])
    out.__dict__["_modules"] = {n: None if m is None else _with(m, swapped) for n, m in module._modules.items()}
    return out


def _inside(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules in a module, without itself."""
    return (part for part in module.modules() if part is not module)


def _taken_apart(
    args: Sequence[Any], keywords: Mapping[str, Any], at: int | str
) -> tuple[Any, tuple[list[Any], dict[str, Any]]]:
    """Return the hidden state of a call, and the rest."""
    if isinstance(at, int):
        return args[at], ([*args[:at], *args[at + 1 :]], dict(keywords))
    return keywords[at], (list(args), {name: value for name, value in keywords.items() if name != at})


def _is_handed(value: Any, made: Any) -> bool:
    """Return whether a value is a tensor as it was made, be it by another name."""
    if not isinstance(value, torch.Tensor) or not isinstance(made, torch.Tensor):
        return False
    return value is made or (
        storage_id(value) == storage_id(made)
        and value.storage_offset() == made.storage_offset()
        and Layout.of(value) == Layout.of(made)
    )


def _are_same(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """Return whether two calls have the same tensors, and equal values beside them."""
    return len(ours) == len(theirs) and all(
        _is_handed(a, b)
        if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor)
        else a is b or (type(a) is type(b) and isinstance(a, bool | int | float | str) and a == b)
        for a, b in zip(ours, theirs, strict=True)
    )


def _has_its_gradient(value: torch.Tensor, made: torch.Tensor) -> bool:
    """Return whether a tensor as it was made, be it by another name, hands on its own gradient as it is."""
    node = value.grad_fn
    while node is not None and node is not made.grad_fn and node.name() in _VIEWS:
        node = node.next_functions[0][0]
    return node is made.grad_fn


def _hooks_on(tensor: Any) -> int:
    """Return how many hooks change a tensor's gradient."""
    return len(getattr(tensor, "_backward_hooks", None) or ())


def _casts() -> tuple[Any, ...]:
    """Return the types to which autocast brings what is computed now."""
    return tuple(torch.get_autocast_dtype(kind) for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind))


def _autocast(weights: Mapping[str, nn.Parameter], cast: torch.dtype | None) -> AbstractContextManager[None]:
    return autocast(next((weight.device for weight in weights.values()), torch.device("cpu")), cast)


def _require_own_weights(name: str, front: nn.Module, made: Any, weights: Mapping[str, nn.Parameter]) -> None:
    """Raise InputError where what is run before the blocks computes with a weight of another layer."""
    own = {id(weight) for weight in front.parameters()}
    others = {id(weight): key for key, weight in weights.items() if id(weight) not in own}
    waiting = [t.grad_fn for t in tree_leaves(made) if isinstance(t, torch.Tensor) and t.grad_fn is not None]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        other = others.get(id(getattr(node, "variable", None)))
        if other is not None:
            raise InputError(
                f"the model, {name}, computes with the weight {other} outside of the layer that it is in, which is not "
                f"supported; {_ADVICE}"
            )
        waiting.extend(following for following, _ in node.next_functions if following is not None)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Run a model under a seed, and put back what that changes in it and in torch's random numbers."""
    state = ModuleState([model], "")
    before = state.everything(trained=False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        state.put_back(before)
