"""Which model to train, on what data, with which loss and optimizer; and loading it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from executor.cuda.driver import choose_cublas_workspace
from sim.errors import InputError, LoadaheadError

Batch = tuple[torch.Tensor, torch.Tensor]
BatchOf = Callable[[int, int, int], Batch]  # (step, microbatch, microbatches)
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

OPTIMIZERS = ("adamw", "sgd")
AUTOCAST = {"none": None, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as a scenario names it.

    Attributes:
        python: ``"package.module:function"``; the function returns an ``nn.Sequential``.
        options: its keyword arguments; ``data`` gets those that it names.
        data: ``"package.module:function"`` called as (step, microbatch, microbatches) -> (input, target).
        loss: ``"cross_entropy"``, ``"mse"``, ``"mean"`` or ``"package.module:function"``.
        input_shape, input_dtype, input_high: random input where there is no ``data``; ids lie in [0, input_high).
        dtype: of the weights, ``"float32"`` or ``"bfloat16"``; floating-point input is brought to it.
        search_path: folder to look for ``python`` in first.
    """

    python: str
    options: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    loss: str = "mean"
    input_shape: tuple[int, ...] | None = None
    input_dtype: str = "float32"
    input_high: int = 2
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    dtype: str = "float32"
    autocast: str = "none"
    seed: int = 0
    search_path: str | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"model.optimizer is {self.optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}")
        if self.dtype not in DTYPES:
            raise InputError(f"model.dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        if self.autocast not in AUTOCAST:
            raise InputError(f"model.autocast is {self.autocast!r}; it must be one of {', '.join(AUTOCAST)}")

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer over these parameters, fused on CUDA: others take temporary memory of the weights' size."""
        fused = True if parameters and parameters[0].is_cuda else None
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.learning_rate, fused=fused)
        return torch.optim.AdamW(parameters, lr=self.learning_rate, fused=fused)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its data and its loss, on one device.

    ``batch(step, microbatch, microbatches)`` gives (input, target), the same for equal arguments; ``loss(output,
    target)`` a scalar, the mean over the microbatch.
    """

    module: nn.Sequential
    batch: BatchOf
    loss: LossFunction


def _find(path: str, key: str, search_path: str | None) -> Callable[..., Any]:
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name:
        raise InputError(f'model.{key} is {path!r}; it must be "package.module:function"')
    if search_path and search_path not in sys.path:
        sys.path.insert(0, search_path)
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise InputError(f"model.{key} is {path!r}; {module_name} cannot be imported: {_line(error)}") from error
    except AttributeError as error:
        raise InputError(f"model.{key} is {path!r}; {module_name} has no function {function_name!r}") from error
    except Exception as error:  # whatever the user's module does when it is imported
        kind = type(error).__name__
        raise InputError(f"model.{key} is {path!r}; importing {module_name} fails: {kind}: {_line(error)}") from error
    if not callable(found):
        raise InputError(f"model.{key} is {path!r}; {function_name!r} is no function")
    return found  # type: ignore[no-any-return]


def _fitting(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that a function takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return options
    return {parameter.name: options[parameter.name] for parameter in parameters if parameter.name in options}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or error.__class__.__name__


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
        return data, torch.zeros(())

    return batch


def load_model(spec: ModelSpec, device: torch.device = CPU) -> LoadedModel:
    """Build the model under the scenario's seed, on the CPU so that weights are the same everywhere; then move it.

    InputError, one line, on whatever is wrong with it.
    """
    if device.type == "cuda":
        choose_cublas_workspace()
    build = _find(spec.python, "python", spec.search_path)
    torch.manual_seed(spec.seed)
    try:
        module = build(**spec.options)
    except LoadaheadError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise InputError(f"model.python {spec.python!r} fails with model.options: {kind}: {_line(error)}") from error
    if not isinstance(module, nn.Sequential) or not len(module):
        raise InputError(
            f"model.python {spec.python!r} returned {type(module).__name__}; it must return an nn.Sequential of at "
            "least one layer"
        )
    if spec.loss in LOSSES:
        loss = LOSSES[spec.loss]
    elif ":" in spec.loss:
        loss = _find(spec.loss, "loss", spec.search_path)
    else:
        raise InputError(f'model.loss is {spec.loss!r}; it must be one of {", ".join(LOSSES)} or "module:function"')
    module = module.train().to(device=device, dtype=DTYPES[spec.dtype])
    return LoadedModel(module, _on_device(_batches(spec), device, DTYPES[spec.dtype]), loss)


def _on_device(batch: BatchOf, device: torch.device, dtype: torch.dtype) -> BatchOf:
    """The data on the device, its floating-point input in the weights' type."""

    def moved(step: int, microbatch: int, microbatches: int) -> Batch:
        x, target = batch(step, microbatch, microbatches)
        return x.to(device, dtype if x.is_floating_point() else None), target.to(device)

    return moved


def _batches(spec: ModelSpec) -> BatchOf:
    if spec.data is None:
        return _random_batch(spec)
    data = _find(spec.data, "data", spec.search_path)
    options = _fitting(data, spec.options)

    def batch(step: int, microbatch: int, microbatches: int) -> Batch:
        try:
            pair = data(step, microbatch, microbatches, **options)
        except LoadaheadError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise InputError(f"model.data {spec.data!r} fails: {kind}: {_line(error)}") from error
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(t, torch.Tensor) for t in pair):
            raise InputError(f"model.data {spec.data!r} returned {type(pair).__name__}; it must return (input, target)")
        return pair

    return batch
