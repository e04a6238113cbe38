"""Which model to train, on what data, with which loss and optimizer; and loading it."""

from __future__ import annotations

import copy
import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from loadahead.executor.cuda.driver import choose_cublas_workspace
from loadahead.executor.model.blocks import cut_at_blocks, has_blocks
from loadahead.executor.model.errors import errors_without_numbers_in_one_line
from loadahead.executor.model.published import build_from_config
from loadahead.executor.model.weightless import Weightless
from loadahead.executor.shipped_models import SHIPPED_MODELS
from loadahead.executor.shipped_models.kept import KEPT, can_be_kept_on
from loadahead.executor.tensors.layout import is_dense
from loadahead.executor.tensors.numbers import has_numbers, is_fake
from loadahead.executor.tensors.randomness import Draws, seed_globals
from loadahead.executor.tensors.values import View
from loadahead.executor.user_code import find_function, importable_from
from loadahead.sim.errors import InputError, LoadaheadError, one_line
from loadahead.sim.workload import IN_MEMORY

# (input, target): a tensor each, or tensors in tuples, lists and dictionaries.
Batch = tuple[Any, Any]
BatchOf = Callable[[int, int, int], Batch]  # (step, microbatch, microbatches)
LossFunction = Callable[[Any, Any], torch.Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Modules = nn.Sequential | nn.ModuleList | Sequence[nn.Module]
# Layers that are run one after the other, or a model that is cut at its blocks.
LayersOrModel = nn.Module | Sequence[nn.Module]

_Module = TypeVar("_Module", bound=nn.Module)

OPTIMIZERS = ("adamw", "sgd")
AUTOCAST = {"none": None, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")
_CONTAINER = (
    "give the layers that are run one after the other, nn.Sequential(*layers), in which a layer may be a module of "
    "your own that runs a part of this model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelObjects:
    """What the caller gave in memory instead of naming it in a scenario; None: what the scenario says.

    Attributes:
        layers: an ``nn.Sequential``, an ``nn.ModuleList`` or a list of modules, run one after the other. Only copies of
            them are trained.
        whole: whether ``layers`` is one model that is cut at its blocks.
        data: called as (step, microbatch, microbatches) -> (input, target), the same for equal arguments.
        loss: called as (output, target); returns a scalar, the mean over the microbatch.
        optimizer: called with a list of parameters; returns their optimizer.
    """

    layers: Sequence[nn.Module] | None = None
    data: BatchOf | None = None
    loss: LossFunction | None = None
    optimizer: MakeOptimizer | None = None
    whole: bool = False

    def fingerprint(self) -> str:
        """Return a text that differs where other layers or other functions were given, as far as their code shows."""
        modules = [part for layer in self.layers or () for part in layer.modules()]
        layers = [f"{_qualified(type(part))} {part.extra_repr()} {_settings(part)}" for part in modules]
        functions = [_qualified(f) + _code(f) for f in (self.data, self.loss, self.optimizer) if f is not None]
        return hashlib.sha256("\n".join([*layers, "", *functions]).encode()).hexdigest()


def _has_more_than_layers(container: nn.Module) -> bool:
    """Return whether a container does or holds something that running its layers one by one would leave out."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(container, name) for name in (*hooks, "_parameters", "_buffers"))


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _settings(module: nn.Module) -> str:
    """Return what a module's code and its plain attributes tell of it."""
    own = {
        name: value if isinstance(value, str | int | float | bool | None) else _qualified(value)
        for name, value in vars(module).items()
        if not name.startswith("_")
    }
    return f"{_code(type(module).forward)} {own!r}"


def _code(function: Any) -> str:
    """Return a function's byte code and constants; nothing for what is not written in Python."""
    code = getattr(function, "__code__", None)
    constants = [c for c in code.co_consts if isinstance(c, str | int | float | bool)] if code is not None else []
    return "" if code is None else f"{code.co_code.hex()} {constants!r} {code.co_names!r}"


def model_objects(
    before: ModelObjects | None,
    model: LayersOrModel | None,
    data: BatchOf | None,
    loss: LossFunction | None,
    optimizer: MakeOptimizer | None,
) -> ModelObjects:
    """Return what the caller gave in memory, over what was given before; InputError for what cannot be used."""
    given: dict[str, Any] = {"data": data, "loss": loss, "optimizer": optimizer}
    for name, function in given.items():
        if function is not None and not callable(function):
            raise InputError(f"{name} is of type {type(function).__name__}; it must be a function")
    if model is not None:
        given["whole"] = has_blocks(model)
        given["layers"] = [model] if given["whole"] else layers_of(model)
    return replace(before or ModelObjects(), **{name: value for name, value in given.items() if value is not None})


def layers_of(model: Any) -> list[nn.Module]:
    """Return the layers that are run one after the other; InputError where a model does not say which these are."""
    expected = "an nn.Sequential, an nn.ModuleList or a list of modules that are run one after the other"
    if not isinstance(model, nn.Sequential | nn.ModuleList | list | tuple):
        raise InputError(f"model is of type {type(model).__name__}; it must be {expected}")
    if isinstance(model, nn.Sequential | nn.ModuleList):
        _require_plain_container("model", model)
    layers = list(model)
    for index, layer in enumerate(layers):
        if not isinstance(layer, nn.Module):
            raise InputError(f"model: layer {index} is of type {type(layer).__name__}; each must be an nn.Module")
    if not layers:
        raise InputError(f"model holds no layers; it must be {expected}")
    return layers


def _require_plain_container(what: str, model: nn.Module) -> None:
    """Raise InputError for a container that does more than run its layers one after the other."""
    kind = type(model).__name__
    if isinstance(model, nn.Sequential) and type(model).forward is not nn.Sequential.forward:
        raise InputError(
            f"{what} is of type {kind} with a forward of its own, which cannot be cut into units; {_CONTAINER}"
        )
    if "forward" in vars(model):
        raise InputError(f"{what} has a forward of its own, which cannot be cut into units; {_CONTAINER}")
    if _has_more_than_layers(model):
        raise InputError(
            f"{what} is of type {kind} and has hooks, parameters or buffers of its own, which its layers do not have; "
            f"{_CONTAINER}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as a scenario names it.

    Attributes:
        python: the word of a model that comes with Loadahead, or ``"package.module:function"``; the function returns an
            ``nn.Sequential``.
        options: its keyword arguments; ``data`` gets those that it names.
        data: ``"package.module:function"`` called as (step, microbatch, microbatches) -> (input, target).
        loss: ``"cross_entropy"``, ``"mse"``, ``"mean"`` or ``"package.module:function"``.
        input_shape, input_dtype, input_high: random input where there is no ``data``; ids lie in [0, input_high).
        dtype: real floating-point weights and input are brought to it, ``"float32"`` or ``"bfloat16"``; buffers stay as
            they were built. None: all stays as it is.
        config: a file that describes a published model, or its folder (:mod:`loadahead.executor.model.published`);
            ``options`` are other values of its keys.
        search_path: folder to look for ``python`` in first, and for ``config``.
        objects: what was given in memory; it stands for what the other attributes name.
    """

    python: str
    options: dict[str, Any] = field(default_factory=dict)
    config: str | None = None
    data: str | None = None
    loss: str = "mean"
    input_shape: tuple[int, ...] | None = None
    input_dtype: str = "float32"
    input_high: int = 2
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    dtype: str | None = None
    autocast: str = "none"
    seed: int = 0
    search_path: str | None = None
    objects: ModelObjects | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"model.optimizer is {self.optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"model.dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        if self.autocast not in AUTOCAST:
            raise InputError(f"model.autocast is {self.autocast!r}; it must be one of {', '.join(AUTOCAST)}")

    @property
    def loss_name(self) -> str:
        """The loss as errors name it."""
        given = self.objects is not None and self.objects.loss is not None
        return "the loss given" if given else f"model.loss {self.loss!r}"

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer over these parameters, fused on CUDA: others take temporary memory of the weights' size."""
        if self.objects is not None and self.objects.optimizer is not None:
            return _given_optimizer(self.objects.optimizer, parameters)
        fused = True if parameters and parameters[0].is_cuda else None
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.learning_rate, fused=fused)
        return torch.optim.AdamW(parameters, lr=self.learning_rate, fused=fused)


def _given_optimizer(make: MakeOptimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the caller's optimizer; InputError where its function fails or returns something else."""
    try:
        optimizer: Any = make(parameters)
    except (Exception, SystemExit) as error:  # whatever the caller's function does
        raise InputError(f"optimizer fails: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise InputError(f"optimizer returned a value of type {kind}; it must return a torch.optim.Optimizer")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError("optimizer returned LBFGS, which runs the model itself; that is not supported")
    given = set(map(id, parameters))
    if any(id(parameter) not in given for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError(
            "optimizer returned one that holds other parameters than it was given; copies of the model are trained: "
            "make it of the parameters that the function gets"
        )
    if not all("lr" in group for group in optimizer.param_groups):
        kind = type(optimizer).__name__
        raise InputError(f"optimizer returned {kind}, which has no learning rate (lr); that is not supported")
    return optimizer


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its data and its loss, on one device.

    ``module`` runs its layers one after the other. ``batch(step, microbatch, microbatches)`` gives (input, target), the
    same for equal arguments; ``loss(output, target)`` a scalar, the mean over the microbatch. ``weightless`` makes what
    the module reads where that has shapes and no numbers; None where it has numbers. ``whole`` is the model of whose
    parts the layers were made; None where it was given as layers.
    """

    module: nn.Sequential
    batch: BatchOf
    loss: LossFunction
    loss_name: str
    device: torch.device
    weightless: Weightless | None = None
    whole: nn.Module | None = None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the weights and buffers by the names that they have in the user's model."""
        return dict((self.whole or self.module).state_dict())

    def users_names(self) -> dict[str, str]:
        """Return the names that weights have in the user's model, by those in the layers, where these are others."""
        if self.whole is None:
            return {}
        users = {id(parameter): name for name, parameter in self.whole.named_parameters()}
        return {
            name: users[id(p)] for name, p in self.module.named_parameters(remove_duplicate=False) if id(p) in users
        }

    def active(self) -> AbstractContextManager[None]:
        """Return a context in which the module is run: without numbers, where it has none."""
        return nullcontext() if self.weightless is None else self.weightless.active()

    def loss_of(self, target: Any, microbatches: int) -> Callable[[Any], torch.Tensor]:
        """Return the loss function of one microbatch, see :func:`mean_loss`."""
        return mean_loss(self.loss, self.loss_name, target, microbatches)


def mean_loss(function: LossFunction, name: str, target: Any, microbatches: int) -> Callable[[Any], torch.Tensor]:
    """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean.

    The target is copied inside the operation that needs it, as its memory is the operation's. InputError, which calls
    the loss by its name, where it fails or is no number.
    """

    def loss(out: Any) -> torch.Tensor:
        own = tree_map_only(torch.Tensor, torch.Tensor.clone, target)
        try:
            value: Any = function(out, own)
        except (LoadaheadError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"{name} fails: {type(error).__name__}: {one_line(error)}") from error
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{name} returns a {type(value).__name__}; it must return one number, a tensor")
        if value.numel() != 1 or not value.is_floating_point():
            kind = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            raise InputError(f"{name} returns {kind}; it must return one number")
        return value / microbatches

    return loss


def _accepted_options(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # a function that is not written in Python
        return {}
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return options
    return {parameter.name: options[parameter.name] for parameter in parameters if parameter.name in options}


def _mean(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    del target
    return output.float().mean()


def _cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, e.g. (batch, sequence, vocabulary) and (batch, sequence)."""
    return functional.cross_entropy(output.reshape(-1, output.shape[-1]).float(), target.reshape(-1))


def _mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(output.float(), target.float())


LOSSES: dict[str, LossFunction] = {"mean": _mean, "cross_entropy": _cross_entropy, "mse": _mse}


def _random_batch(spec: ModelSpec) -> BatchOf:
    if not spec.input_shape:
        raise InputError('model.data is missing; give data = "package.module:function" or input_shape = [8, 128]')
    dtype = getattr(torch, spec.input_dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"model.input_dtype is {spec.input_dtype!r}; it must be a torch dtype such as float32, int64")
    shape = spec.input_shape

    def batch(step: int, microbatch: int, microbatches: int) -> Batch:
        generator = torch.Generator().manual_seed((spec.seed * 1_000_003 + step) * 100_003 + microbatch)
        if dtype.is_floating_point:
            data = torch.randn(shape, generator=generator).to(dtype)
        else:
            data = torch.randint(spec.input_high, shape, generator=generator, dtype=dtype)
        if spec.loss == "cross_entropy" and not dtype.is_floating_point:
            return data, torch.randint(spec.input_high, shape, generator=generator)
        return data, torch.zeros(())

    return batch


def load_model(spec: ModelSpec, device: torch.device = CPU, microbatches: int = 1, numbers: bool = True) -> LoadedModel:
    """Build the model under the scenario's seed, on the CPU so that weights are the same everywhere; then move it.

    It stays as it was built: train and eval flags, buffers, and types where the spec gives none. A model given in
    memory is copied. A model of blocks is cut into layers, as the first of so many microbatches shows them. Without
    ``numbers`` no weights are made or copied, and the model has shapes alone, as one on the meta device always has.
    InputError, one line, on whatever is wrong with it.
    """
    if device.type == "cuda":
        choose_cublas_workspace()
    torch.manual_seed(spec.seed)
    seed_globals(spec.seed, Draws(python=True, numpy=True))
    objects = spec.objects
    dtype = None if spec.dtype is None else DTYPES[spec.dtype]
    with importable_from(spec.search_path):
        module: nn.Module
        if objects is not None and objects.layers is not None:
            KEPT.drop()
            require_trainable(nn.Sequential(*objects.layers))  # a copy has no hooks
            layers = nn.Sequential(*objects.layers) if not numbers else _copy_of(objects.layers)
            module = layers[0] if objects.whole else layers
        elif spec.config is not None:
            KEPT.drop()
            module = build_from_config(spec.config, spec.options, spec.search_path, weights=numbers)
        else:
            module = _named(spec, device, dtype)
        require_trainable(module)
        # Lazy layers learn their shapes by running as they are.
        lazy = any(is_lazy(tensor) for _, tensor in _named_tensors(module))
        bare = on_meta(module)
        weightless = Weightless(stands_in=not bare) if (not numbers or bare) and not lazy else None
        if weightless is not None:
            with _copying():
                module = weightless.copy_of(module)
        module = _moved(module, CPU if weightless is not None else device, dtype)
        where = CPU if weightless is not None else torch.device("meta") if on_meta(module) else device
        batch = _batches(spec)
        if weightless is not None:
            batch = _without_numbers(batch, weightless)
        batch = _on_device(batch, where, dtype)
        model = LoadedModel(nn.Sequential(), batch, _loss(spec), spec.loss_name, where, weightless)
        if isinstance(module, nn.Sequential):
            return replace(model, module=module)
        layers = _in_layers(module, model, microbatches, AUTOCAST[spec.autocast])
        return replace(model, module=layers, whole=module)


def _in_layers(module: nn.Module, model: LoadedModel, microbatches: int, cast: torch.dtype | None) -> nn.Sequential:
    """Return the layers of a model that is cut at its blocks."""
    value, _ = model.batch(0, 0, microbatches)
    in_one_line = nullcontext() if model.weightless is None else errors_without_numbers_in_one_line()
    with in_one_line, model.active():
        return cut_at_blocks(module, value, cast)


def _without_numbers(batch: BatchOf, weightless: Weightless) -> BatchOf:
    def shapes(step: int, microbatch: int, microbatches: int) -> Batch:
        value, target = batch(step, microbatch, microbatches)
        return weightless.values(value), weightless.values(target)

    return shapes


def _moved(module: _Module, device: torch.device, dtype: torch.dtype | None) -> _Module:
    """Return the module on the device, its real floating-point weights in a type where one is given.

    Buffers keep theirs: a table of angles is of another precision than weights on purpose. But a norm's running
    statistics must be of its weights' type.
    """
    if dtype is not None:
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]
        statistics = [buffer for part in norms if part.affine for buffer in part.buffers(recurse=False)]
        for tensor in (*module.parameters(), *statistics):
            if tensor.is_floating_point() and not is_lazy(tensor):
                tensor.data = tensor.data.to(dtype)
    if on_meta(module) and not any(is_fake(tensor) for _, tensor in _named_tensors(module)):
        return module.to("meta")
    return module if device.type == "cpu" else module.to(device)


def is_lazy(tensor: torch.Tensor) -> bool:
    """Return whether a weight's shape is known only after the first forward."""
    return isinstance(tensor, UninitializedParameter | UninitializedBuffer)


def on_meta(module: nn.Module) -> bool:
    """Return whether a part of the module has shapes and no numbers."""
    tensors = (tensor for _, tensor in _named_tensors(module) if not is_lazy(tensor))
    return not all(map(has_numbers, tensors))


def make_ready(model: LoadedModel, microbatches: int) -> LoadedModel:
    """Return the model once the shapes of all its weights are known: lazy layers learn theirs by running once."""
    lazy = [name for name, tensor in _named_tensors(model.module) if is_lazy(tensor)]
    if not lazy:
        return model
    value, _ = model.batch(0, 0, microbatches)
    others = {name: tensor.clone() for name, tensor in model.module.named_buffers() if not is_lazy(tensor)}
    norms = [part for part in model.module.modules() if any(is_lazy(t) for t in part.buffers(recurse=False))]
    try:
        with torch.no_grad():
            model.module(value)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"the model's lazy layers ({lazy[0]}) learn their shapes by running once, and the model fails: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    with torch.no_grad():
        for name, tensor in model.module.named_buffers():
            if name in others:
                tensor.copy_(others[name])
        for part in norms:
            getattr(part, "reset_running_stats", lambda: None)()
    return model


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def require_trainable(module: nn.Module) -> None:
    """Raise InputError for parts of a model that this process cannot train as they are, with gradients that stay."""
    require_own_process(module)
    for name, parameter in module.named_parameters():
        if getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise InputError(
                f"model: {name} has a hook that runs once its gradient is there, as an optimizer inside the backward "
                "pass has; that is not supported, the plan takes the optimizer's step at the end of the step: remove it"
            )


def require_own_process(module: nn.Module) -> None:
    """Raise InputError for parts of a model that are spread over processes, or talk to others."""
    for name, part in module.named_modules():
        kind = type(part).__name__
        if kind in _WRAPPERS:
            raise InputError(
                f"model: {name or 'the model'} is wrapped in {kind}, which talks to other processes; give the module "
                "inside it, one process runs all ranks"
            )
    for name, parameter in module.named_parameters():
        if type(parameter).__name__ == "DTensor" or type(parameter.data).__name__ == "DTensor":
            raise InputError(f"model: {name} is a DTensor, spread over processes; give a module of plain tensors")


def _copy_of(layers: Iterable[nn.Module]) -> nn.Sequential:
    """The caller's layers, copied together so that what they share stays shared."""
    with _copying():
        return nn.Sequential(*copied(list(layers)))


@contextmanager
def _copying() -> Iterator[None]:
    """Raise what a module's own copying raises as an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise InputError(
            f"model: cannot be copied ({kind}: {one_line(error)}); give model.python, a function that builds it"
        ) from error


def copied(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return copies of the layers, made together; raise what a module's own copying raises.

    What ``copy.deepcopy`` cannot copy or leaves out is mended: tensors with a graph that are attributes, such as the
    ``weight`` of the older ``weight_norm``; weights of TorchScript modules, which would not be leaves; weights' hooks.
    """
    parts = [part for layer in layers for part in layer.modules()]
    scripted = [part for part in parts if isinstance(part, torch.jit.ScriptModule)]
    values = [v for part in parts if part not in scripted for v in vars(part).values()]
    parked = {id(v): v.detach().clone() for v in values if isinstance(v, torch.Tensor) and v.grad_fn is not None}
    with torch.no_grad():
        out = copy.deepcopy(list(layers), dict(parked))
    for ours, theirs in zip(layers, out, strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            if other.requires_grad != one.requires_grad:
                other.requires_grad_(one.requires_grad)
            for hook in (getattr(one, "_backward_hooks", None) or {}).values():
                other.register_hook(hook)  # type: ignore[no-untyped-call]
    return out


def _named(spec: ModelSpec, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """Return the model that ``model.python`` names: built now, or a copy of one that is kept on the device.

    A model that is kept there is dropped when another is asked for, so that it is never in that one's way.
    """
    if not can_be_kept_on(device):
        return _built(spec, _builder(spec))
    shipped = SHIPPED_MODELS.get(spec.python)
    if shipped is None or shipped.drawn is None:
        KEPT.drop()
        return _built(spec, _builder(spec))
    drawn = shipped.drawn
    key = (spec.python, spec.seed, tuple(sorted(spec.options.items(), key=repr)), dtype)
    return KEPT.copy_of(repr(key), device, lambda: _moved(cast(nn.Sequential, _built(spec, drawn)), device, dtype))


def _built(spec: ModelSpec, build: Callable[..., Any]) -> nn.Module:
    """Return what the builder returns."""
    try:
        module = build(**spec.options)
    except LoadaheadError:
        raise
    except (Exception, SystemExit) as error:
        kind, advice = type(error).__name__, ""
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            advice = '; build it under torch.device("meta") to plan it from its shapes'
        raise InputError(
            f"model.python {spec.python!r} fails with model.options: {kind}: {one_line(error)}{advice}"
        ) from error
    what = f"model.python {spec.python!r}"
    if has_blocks(module):
        return module  # type: ignore[no-any-return]
    if not isinstance(module, nn.Sequential) or not len(module):
        raise InputError(
            f"{what} returned {type(module).__name__}; it must return an nn.Sequential of at least one layer"
            + (f": {_CONTAINER}" if isinstance(module, nn.Module) else "")
        )
    _require_plain_container(what, module)
    return module


def _builder(spec: ModelSpec) -> Callable[..., Any]:
    if spec.python in SHIPPED_MODELS:
        return SHIPPED_MODELS[spec.python].build
    if spec.python == IN_MEMORY:
        raise InputError(
            f"model.python is {IN_MEMORY!r}: the model was given in Python and its code is not in the file; give the "
            "scenario its model again, or name a function"
        )
    if ":" not in spec.python:
        close = difflib.get_close_matches(spec.python, SHIPPED_MODELS, n=1)
        raise InputError(
            f'model.python is {spec.python!r}; it must be "package.module:function" or a model that comes with '
            f"Loadahead, one of {', '.join(SHIPPED_MODELS)}" + (f"; did you mean {close[0]}?" if close else "")
        )
    return find_function(spec.python, "python", spec.search_path)


def _loss(spec: ModelSpec) -> LossFunction:
    """Return the loss; a module is copied, and InputError is raised for one with weights that would be trained."""
    if spec.objects is not None and spec.objects.loss is not None:
        loss: Any = spec.objects.loss
    else:
        loss = named_loss(spec.loss, spec.search_path)
    if isinstance(loss, nn.Module):
        require_no_weights(loss, spec.loss_name)
        loss = copied([loss])[0]
    return loss  # type: ignore[no-any-return]


def named_loss(name: str, folder: str | None) -> LossFunction:
    """Return the loss of a name, or of ``"module:function"``, looked for in the folder first; InputError for others."""
    if name in LOSSES:
        return LOSSES[name]
    if ":" in name:
        return find_function(name, "loss", folder)
    raise InputError(f'model.loss is {name!r}; it must be one of {", ".join(LOSSES)} or "module:function"')


def require_no_weights(loss: Any, name: str) -> None:
    """Raise InputError for a loss that is a module with weights that would be trained."""
    if isinstance(loss, nn.Module) and any(parameter.requires_grad for parameter in loss.parameters()):
        raise InputError(f"{name} has weights of its own that are trained; make it the model's last layer")


def _on_device(batch: BatchOf, device: torch.device, dtype: torch.dtype | None) -> BatchOf:
    """The data on the device, its floating-point input in the weights' type where one is given."""

    def input_moved(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        x = x.to(device, dtype if x.is_floating_point() else None)
        # A slice of a batch begins anywhere; from an aligned address on, all microbatches are computed alike.
        return x.clone() if is_dense(x) and View.of_tensor(x) is not None else x

    def target_moved(target: Any) -> Any:
        return target.to(device) if isinstance(target, torch.Tensor) else target

    def moved(step: int, microbatch: int, microbatches: int) -> Batch:
        x, target = batch(step, microbatch, microbatches)
        return tree_map(input_moved, x), tree_map(target_moved, target)

    return moved


def _batches(spec: ModelSpec) -> BatchOf:
    """The caller's data, the named function's, the shipped model's own, or random input; errors in it are one line."""
    if spec.objects is not None and spec.objects.data is not None:
        return _checked(spec.objects.data, {}, "data")
    if spec.data is not None:
        shipped = SHIPPED_MODELS.get(spec.data)
        data = shipped.batch if shipped else find_function(spec.data, "data", spec.search_path)
        return _checked(data, _accepted_options(data, spec.options), f"model.data {spec.data!r}")
    if spec.python in SHIPPED_MODELS and spec.input_shape is None:
        data = SHIPPED_MODELS[spec.python].batch
        return _checked(data, _accepted_options(data, spec.options), f"the data of {spec.python!r}")
    return _random_batch(spec)


def _checked(data: Callable[..., Any], options: dict[str, Any], name: str) -> BatchOf:
    def batch(step: int, microbatch: int, microbatches: int) -> Batch:
        try:
            pair = data(step, microbatch, microbatches, **options)
        except LoadaheadError:
            raise
        except (Exception, SystemExit) as error:
            kind = type(error).__name__
            raise InputError(f"{name} fails: {kind}: {one_line(error)}") from error
        require_batch(pair, f"{name} returned", "return")
        return tuple(pair)

    return batch


def require_batch(pair: Any, what: str, must: str = "be") -> None:
    """Raise InputError, whose line begins with ``what``, unless it is an (input, target) that a model can be given."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"{what} {_described(pair)}; it must {must} (input, target)")
    for part, name in zip(pair, ("input", "target"), strict=True):
        for leaf in tree_leaves(part):
            if not isinstance(leaf, torch.Tensor) and not isinstance(leaf, str | int | float | bool | None):
                raise InputError(
                    f"{what} {_described(pair)}: a {type(leaf).__name__} in its {name}; it must be a tensor, or "
                    "tensors in tuples, lists and dictionaries"
                )
    if not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(pair[0])):
        raise InputError(f"{what} {_described(pair)}: an input without a tensor; the model reads one")


def _described(value: Any) -> str:
    """Return what a value is made of, two levels deep."""
    if isinstance(value, tuple | list):
        parts = ", ".join(type(part).__name__ for part in value[:6])
        return f"a {type(value).__name__} of {len(value)} ({parts})"
    return type(value).__name__
