"""Finds all slots by walking what modules hold: registered tensors, attributes, and the plain objects in these."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn

from loadahead.executor.model.state.handles import is_generator
from loadahead.executor.model.state.objects import attributes_of, is_object
from loadahead.executor.model.state.places import NameInDict, NameInObject, NameInScript, Place, RequiresGrad, Slot

# How deep objects in objects, and modules in containers are followed.
_MOST_OBJECTS, _MOST_HIDDEN = 5, 3
# What nn.Module itself keeps for every module: its dictionaries and hooks.
_MODULE_NAMES: Final = (frozenset(nn.Module().__dict__) | {"_compiled_call_impl"}) - {"training"}


def slots_of(layers: Sequence[nn.Module], first: int) -> Iterator[Slot]:
    """Yield all slots of layers, those of a module or an object once; ``first`` is the first layer's number."""
    seen: set[int] = set()
    own = {id(layer) for layer in layers}
    waiting = deque((layer, f"layer {first + index}") for index, layer in enumerate(layers))
    while waiting:
        for module, path in list(_modules(*waiting.popleft(), seen)):
            for outer in _module_slots(module, path):
                for slot in _with_objects(outer, seen):
                    yield slot
                    # A module that holds the unit is the model, or the part of it around the unit.
                    waiting.extend(
                        (hidden, where)
                        for hidden, where in _hidden_modules(slot.place.get(), slot.path.replace(": ", "."))
                        if id(hidden) not in seen and not any(id(child) in own for child in hidden.modules())
                    )


def _modules(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[nn.Module, str]]:
    """Yield a module and those registered in it, each once, with their paths."""
    module = module.__dict__.get("_actual_script_module", module)  # of a traced module
    if id(module) in seen:
        return
    seen.add(id(module))
    yield module, path
    for name, child in module._modules.items():
        if child is not None:
            # torch.compile wraps a module; its user knows it by the path of the wrapper.
            yield from _modules(child, path if name == "_orig_mod" else f"{path}.{name}", seen)


def _module_slots(module: nn.Module, path: str) -> Iterator[Slot]:
    """Yield the slots of a module's own parameters, buffers and attributes."""
    if isinstance(module, torch.jit.ScriptModule):
        names = [("parameter", name) for name in dict(module._parameters)]
        names += [("buffer", name) for name in dict(module._buffers)]
        registered = {name for _, name in names}
        kind = getattr(module, "_concrete_type", None)
        attributes = set(kind.get_attributes()) - registered - _MODULE_NAMES if kind is not None else ()
        for what, name in (*names, *(("", name) for name in sorted(attributes))):
            yield _slot(module, f"{path}: {name}", NameInScript(module, name), (id(module), name), what)
        return
    for what, names_of in (("parameter", module._parameters), ("buffer", module._buffers)):
        for name, tensor in names_of.items():
            yield _named(module, path, names_of, name, what)
            if what == "parameter" and tensor is not None:
                flag = RequiresGrad(names_of, name)
                yield _slot(module, f"{path}: {name}.requires_grad", flag, ("requires_grad", id(names_of), name))
    if type(module).__module__.startswith("torch._dynamo"):
        return
    for name in [name for name in module.__dict__ if name not in _MODULE_NAMES]:
        yield _named(module, path, module.__dict__, name)


def _named(module: nn.Module, path: str, names: dict[str, Any], name: str, kind: str = "") -> Slot:
    return _slot(module, f"{path}: {name}", NameInDict(names, name), (id(names), name), kind)


def _slot(module: nn.Module, path: str, place: Place, key: tuple[object, ...], kind: str = "") -> Slot:
    if not kind:
        value = place.get()
        kind = "tensor" if isinstance(value, torch.Tensor) else "generator" if is_generator(value) else "value"
    return Slot(path, kind, place=place, key=key, module=module)


def _with_objects(slot: Slot, seen: set[int], depth: int = 0) -> Iterator[Slot]:
    """Yield a slot, and those of the attributes of a plain object in it, each object once."""
    yield slot
    value = slot.place.get()
    if not is_object(value) or id(value) in seen or depth == _MOST_OBJECTS:
        return
    seen.add(id(value))
    for name in list(attributes_of(value)):
        place = NameInObject(slot.place.get, name)
        inner = _slot(slot.module, f"{slot.path}.{name}", place, (*slot.key, name))
        yield from _with_objects(inner, seen, depth + 1)


def _hidden_modules(value: Any, path: str, depth: int = 0) -> Iterator[tuple[nn.Module, str]]:
    """Yield modules that hang on an attribute without being registered, with their paths."""
    if isinstance(value, nn.Module):
        yield value, path
    elif isinstance(value, (list, tuple, dict)) and depth < _MOST_HIDDEN:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for at, item in list(pairs):
            yield from _hidden_modules(item, f"{path}[{at!r}]", depth + 1)
