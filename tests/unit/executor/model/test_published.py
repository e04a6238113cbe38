"""Published models are built from their config files, with weights or without; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from loadahead.executor.model.published import build_from_config
from loadahead.executor.model.spec import ModelSpec, load_model
from loadahead.sim.errors import InputError
from tests.support.published import BLOCKS, VOCABULARY, config_of


def written(folder: Path, content: Any) -> str:
    """A config in a folder, and the folder's name."""
    (folder / "small").mkdir(exist_ok=True)
    (folder / "small" / "config.json").write_text(json.dumps(content))
    return "small"


def test_a_config_or_its_folder_is_built_with_weights_or_without(tmp_path: Path) -> None:
    name = written(tmp_path, config_of("llama"))
    model = build_from_config(name, {}, str(tmp_path), weights=True)
    assert type(model).__name__ == "LlamaForCausalLM" and len(list(model.model.layers)) == BLOCKS
    bare = build_from_config(f"{name}/config.json", {"num_hidden_layers": 1}, str(tmp_path), weights=False)
    assert len(list(bare.model.layers)) == 1 and all(p.is_meta for p in bare.parameters())


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    spec = ModelSpec(
        python="transformers",
        config=written(tmp_path, config_of("gpt2")),
        search_path=str(tmp_path),
        input_shape=(2, 8),
        input_dtype="int64",
        loss="cross_entropy",
    )
    one, other = (dict(load_model(spec).module.state_dict()) for _ in range(2))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    ids, target = load_model(spec).batch(0, 0, 1)
    assert ids.shape == target.shape == (2, 8) and int(target.max()) < VOCABULARY


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("[", {}, "is no JSON"),
        ("{}", {}, "has no model_type, so it describes no published model"),
        ('{"model_type": "no-such"}', {}, "model_type = 'no-such', which transformers .* does not know"),
        (json.dumps(config_of("llama")), {"layers": 2}, "model.options.layers is no key of a llama config"),
        (json.dumps(config_of("llama", num_attention_heads=0)), {}, "fails: ZeroDivisionError"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, content: str, options: dict[str, Any], words: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        build_from_config("config.json", options, str(tmp_path), weights=False)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*: give a config\.json or its folder"):
        build_from_config("nowhere", {}, str(tmp_path), weights=False)


def test_weights_that_do_not_fit_are_not_made(tmp_path: Path) -> None:
    layers = psutil.virtual_memory().total // (4 * 3 * 2**24) + 1
    name = written(tmp_path, config_of("llama", num_hidden_layers=int(layers), intermediate_size=2**24, hidden_size=4))
    with pytest.raises(InputError, match=r"and this machine has .*: such a model is planned and simulated") as caught:
        build_from_config(name, {"num_hidden_layers": 2 + int(layers)}, str(tmp_path), weights=True)
    assert "\n" not in str(caught.value)
