"""Whatever is wrong with a model is one line that names the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from loadahead.executor.session import Session
from loadahead.executor.spec import ModelSpec, load_model
from loadahead.executor.trace import trace_module
from loadahead.sim.errors import InputError
from loadahead.sim.workload import UnitShape, Workload
from tests.support.models import TINY, own_spec, tiny_spec, workload_of

MODELS = "tests.support.models"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"python": "no_such_package:build"}, "model.python is 'no_such_package:build'"),
        ({"python": "no_such_package:build"}, "cannot be imported"),
        ({"python": "just_a_name"}, 'must be "package.module:function"'),
        ({"python": f"{MODELS}:nothing"}, "has no function 'nothing'"),
        ({"python": f"{MODELS}:GB"}, "is no function"),
        ({"python": f"{MODELS}:not_a_sequential"}, "returned Linear; it must return an nn.Sequential"),
        ({"options": {"depth": 3}}, "depth"),
        ({"optimizer": "adam"}, "model.optimizer is 'adam'; it must be one of adamw, sgd"),
        ({"autocast": "float8"}, "model.autocast is 'float8'; it must be one of none, bfloat16"),
        ({"loss": "l1"}, "model.loss is 'l1'; it must be one of"),
        ({"input_shape": None}, "model.data is missing"),
        ({"input_dtype": "int65"}, "model.input_dtype is 'int65'"),
        ({"data": f"{MODELS}:bad_pair"}, "returned Tensor; it must return (input, target)"),
        ({"data": f"{MODELS}:scales"}, "fails: TypeError"),
        ({"input_shape": (2, 7)}, "the model fails in unit"),
        ({"options": {"acts": ("", "two")}}, "returns tuple; only one tensor passes between layers"),
    ],
)
def test_a_bad_model_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        trace_module(own_spec("scales", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"blocks": 0}, "model.options.blocks is 0; it must be an integer of at least 1"),
        ({"heads": 3}, "model.options.width is 16; it must be a multiple of heads, 3"),
        ({"dropout": 1.0}, "model.options.dropout is 1.0"),
    ],
)
def test_bad_sizes_of_the_gpt(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model(tiny_spec(options=TINY | options))


def test_a_loss_is_one_number() -> None:
    workload = workload_of(own_spec("scales"))
    with pytest.raises(InputError, match=r"three_numbers.*it must return one number"):
        Session(own_spec("scales", loss=f"{MODELS}:three_numbers"), workload, (0,))


def test_units_must_not_share_a_weight() -> None:
    spec = own_spec("shared")
    with pytest.raises(InputError, match=r"units 0\.0 and 0\.1 share a weight of shape \[8\]"):
        Session(spec, workload_of(spec), (0,))
    together = Workload(stages=((UnitShape(boundary_bytes=64, gradient_bytes=64, layers=(0, 2)),),))
    assert len(list(Session(spec, together, (0,)).parameters(0))) == 1


@pytest.mark.parametrize("layers", [[(0, 1), (1, 2)], [(0, 2), (1, 3)], [(0, 1), (1, 4)]])
def test_units_must_hold_each_layer_once(layers: list[tuple[int, int]]) -> None:
    units = tuple(UnitShape(boundary_bytes=64, gradient_bytes=64, layers=pair) for pair in layers)
    with pytest.raises(InputError, match="layer"):
        Session(own_spec("scales"), Workload(stages=(units,)), (0,))


def test_a_users_own_module_is_found(tmp_path: Path) -> None:
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(8, 8))\n"
    (tmp_path / "their_model.py").write_text(text)
    model = load_model(ModelSpec(python="their_model:make", input_shape=(2, 8), search_path=str(tmp_path)))
    assert len(model.module) == 1


def test_data_depends_on_its_arguments_alone() -> None:
    for spec in (tiny_spec(), own_spec("scales"), own_spec("scales", input_dtype="int64", input_high=9)):
        batch = load_model(spec).batch
        same = [torch.equal(batch(2, 1, 4)[0], batch(*other, 4)[0]) for other in ((2, 1), (2, 0), (3, 1))]
        assert same == [True, False, False]
