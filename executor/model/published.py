"""Builds a published model from the file that describes it: a ``config.json`` of the package transformers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from loadahead.executor.tensors.meter import storage_bytes
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.units import format_bytes

FILE = "config.json"
# An option of the builder, beside those of the file: how attention is computed, e.g. "eager" or "sdpa".
_ATTENTION = "attn_implementation"
_LAYERS = "num_hidden_layers"
_QUANTIZATION = "quantization_config"


class TooLarge(InputError):
    """Raised for weights that do not fit into this machine's memory."""


def build_from_config(path: str, options: Mapping[str, Any], folder: str | None, weights: bool) -> nn.Module:
    """Return the language model that a config describes, with random weights, or on the meta device without.

    Args:
        path: of the file, or of the folder that holds it; relative to ``folder``.
        options: other values of the file's keys.

    Raises InputError for a file that describes no model and a key that its models do not have, and :class:`TooLarge`.
    """
    content = _read(path, folder)
    library = _transformers(path)
    kind = content.get("model_type")
    known = library.models.auto.configuration_auto.CONFIG_MAPPING
    if kind not in known:
        raise InputError(
            f"model.config {path!r} has model_type = {kind!r:.40}, which transformers "
            f"{library.__version__} does not know"
        )
    changes = {key: value for key, value in options.items() if key != _ATTENTION}
    try:
        config = known[kind].from_dict(content)
        unknown = [key for key in changes if not hasattr(config, key)]
        if unknown:
            raise InputError(
                f"model.options.{unknown[0]} is no key of a {kind} config; give keys of {path!r}, or {_ATTENTION}"
            )
        config = known[kind].from_dict({**content, **changes})
        layers = getattr(config, _LAYERS, None)
        if isinstance(layers, int) and layers < 1:
            raise InputError(f"model.config {path!r} has {_LAYERS} = {layers}; it must be at least 1")
        with torch.device("meta"):
            shapes = _built(library, config, options)
    except InputError:
        raise
    except Exception as error:  # whatever the package says of the file's values
        raise InputError(f"model.config {path!r} fails: {type(error).__name__}: {one_line(error)}") from error
    if not weights:
        return shapes
    needed, there = storage_bytes(shapes.parameters()), psutil.virtual_memory().total
    if needed > there:
        raise TooLarge(
            f"model.config {path!r} describes weights of {format_bytes(needed)}, and this machine has "
            f"{format_bytes(there)}: such a model is planned and simulated from its shapes; to run it, give fewer "
            "layers, e.g. options.num_hidden_layers = 2"
        )
    return _built(library, config, options)


def warnings_of_config(path: str, options: Mapping[str, Any], folder: str | None) -> list[str]:
    """Return what a config says of its model and is without effect here."""
    given = {**_read(path, folder), **options}
    if not given.get(_QUANTIZATION):
        return []
    return [
        f"{_QUANTIZATION} of model.config {path!r} has no effect: the model has the weights that it is built with, "
        "which are not quantized"
    ]


def _built(library: Any, config: Any, options: Mapping[str, Any]) -> nn.Module:
    attention = {_ATTENTION: options[_ATTENTION]} if _ATTENTION in options else {}
    causal = type(config) in library.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    builder = library.AutoModelForCausalLM if causal else library.AutoModel
    model: nn.Module = builder.from_config(config, **attention)
    return model


def _read(path: str, folder: str | None) -> dict[str, Any]:
    where = Path(folder or ".") / path
    where = where / FILE if where.is_dir() else where
    try:
        content = json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"model.config is {path!r}; {where} cannot be read ({reason}): give a {FILE} or its folder"
        ) from error
    except ValueError as error:
        raise InputError(f"model.config is {path!r}; {where} is no JSON: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise InputError(f"model.config is {path!r}; {where} has no model_type, so it describes no published model")
    return content


def _transformers(path: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"model.config is {path!r}, and the package transformers is not there ({one_line(error)}): "
            'install it, pip install "loadahead[transformers]"'
        ) from error


__all__ = ["TooLarge", "build_from_config", "warnings_of_config"]
