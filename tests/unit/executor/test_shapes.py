"""Which models are traced without their weights, which with them, and what is said where neither can be done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model import published as configs
from loadahead.executor.model.spec import Batch, ModelObjects, ModelSpec
from loadahead.executor.shapes import module_shapes
from loadahead.executor.trace import trace_module
from loadahead.sim.errors import InputError
from tests.support.models import given_spec
from tests.support.published import BLOCKS, VOCABULARY, config_of


def masked(step: int, microbatch: int, microbatches: int) -> Batch:
    """Ids with a mask that leaves out the last of the first sequence; transformers looks at its numbers."""
    generator = torch.Generator().manual_seed(step * microbatches + microbatch)
    ids = torch.randint(VOCABULARY, (2, 8), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}, ids


def config_spec(folder: Path, data: Any = None, options: dict[str, Any] | None = None, **changes: Any) -> ModelSpec:
    (folder / "config.json").write_text(json.dumps(config_of("llama", **changes)))
    return ModelSpec(
        python="transformers",
        config=str(folder),
        options=options or {},
        input_shape=(2, 8),
        input_dtype="int64",
        input_high=VOCABULARY,
        loss="cross_entropy",
        objects=ModelObjects(data=data),
    )


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(total=1000))
    monkeypatch.setattr(configs, "psutil", small)


def test_a_config_is_traced_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_room(monkeypatch)
    shapes = module_shapes(config_spec(tmp_path))
    assert shapes.workspaces_known and len(shapes.layers) == BLOCKS + 2 and shapes.warnings == ()


def test_a_config_that_looks_at_numbers_gets_some(tmp_path: Path) -> None:
    spec = config_spec(tmp_path, masked)
    shapes = module_shapes(spec)
    assert not shapes.workspaces_known and shapes == trace_module(spec)


def test_a_config_that_looks_at_numbers_and_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_room(monkeypatch)
    with pytest.raises(InputError, match=r"it looks at numbers, .* these do not fit into this machine") as caught:
        module_shapes(config_spec(tmp_path, masked))
    assert "\n" not in str(caught.value)
    # What it advises works, for this model.
    assert module_shapes(config_spec(tmp_path, masked, {"attn_implementation": "eager"})).workspaces_known
    # Other mistakes have nothing to do with weights.
    with pytest.raises(InputError) as caught:
        module_shapes(config_spec(tmp_path, lambda *_: (torch.ones(2, 8), torch.ones(2, 8))))
    assert "do not fit" not in str(caught.value)


def test_a_config_without_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has num_hidden_layers = 0; it must be at least 1$"):
        module_shapes(config_spec(tmp_path, options={"num_hidden_layers": 0}))


def test_a_config_of_quantized_weights_says_that_its_are_not(tmp_path: Path) -> None:
    shapes = module_shapes(config_spec(tmp_path, quantization_config={"quant_method": "fp8"}))
    (told,) = shapes.warnings
    assert told.startswith(f"quantization_config of model.config {str(tmp_path)!r} has no effect")
    assert replace(shapes, warnings=()) == module_shapes(config_spec(tmp_path))


def test_numbers_are_used_where_they_are_asked_for() -> None:
    spec = given_spec(nn.Linear(8, 8))
    assert [module_shapes(spec, numbers=numbers).workspaces_known for numbers in (True, False)] == [False, True]
