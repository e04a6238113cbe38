"""Whatever is wrong with a model is one line that names the key and what is allowed."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.in_units import parameters_of
from loadahead.executor.model.spec import ModelSpec, load_model, make_ready, on_meta, require_trainable
from loadahead.executor.trace import trace_module
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError
from loadahead.sim.workload import UnitShape, Workload
from tests.support.models import TINY, Scale, given_spec, own_spec, tiny_spec, workload_of

MODELS = "tests.support.models"
UNIT = UnitShape(boundary_bytes=64, gradient_bytes=0, layers=(0, 1))


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
        ({"options": {"acts": ("", "two")}}, "model.loss 'mean' fails: AttributeError: 'tuple' object has no"),
        ({"options": {"acts": ("two", "")}}, "the model fails in unit (layer 1): "),
        ({"dtype": "float8"}, "model.dtype is 'float8'; it must be one of float32, bfloat16"),
        ({"python": f"{MODELS}:own_forward"}, "of type Backwards with a forward of its own, which cannot be cut"),
        ({"python": f"{MODELS}:own_weight"}, "is of type Sequential and has hooks, parameters or buffers of its own"),
        (
            {"data": f"{MODELS}:array_data"},
            "returned a tuple of 2 (ndarray, Tensor): a ndarray in its input; it must be",
        ),
        ({"data": f"{MODELS}:no_tensor"}, "returned a tuple of 2 (str, Tensor): an input without a tensor; the model"),
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
    with pytest.raises(InputError, match=r"three_numbers' returns float32\[3\]; it must return one number"):
        Session(own_spec("scales", loss=f"{MODELS}:three_numbers"), workload, (0,))
    with pytest.raises(InputError, match=r"the loss given returns a float; it must return one number, a tensor"):
        Session(given_spec(nn.Linear(8, 8), loss=lambda out, target: 1.0), Workload(stages=((UNIT,),)), (0,))


def test_units_share_a_weight_on_one_rank() -> None:
    """Whose it is then, and that ranks do not share one."""
    spec = own_spec("shared")
    own = Session(spec, workload_of(spec), (0,))
    assert own.in_units.shared_weights() == {"0.weight": ("0.0", "0.1")}
    assert len(parameters_of(own.in_units.of_rank(0))) == 1
    words = (
        r"units 0\.0 and 1\.0 share the weight 0\.weight of shape \[8\] and lie on ranks 0 and 1; .*: use one rank, or"
    )
    with pytest.raises(InputError, match=words):
        Session(spec, workload_of(spec, 2), (0, 1))
    together = Workload(stages=((UnitShape(boundary_bytes=64, gradient_bytes=64, layers=(0, 2)),),))
    assert Session(spec, together, (0,)).in_units.shared_weights() == {}
    assert len(parameters_of(Session(spec, together, (0,)).in_units.of_rank(0))) == 1


def test_two_stages_of_one_rank_share_a_weight_and_its_optimizer() -> None:
    spec = own_spec("shared")
    own = Session(spec, workload_of(spec, 2), (0, 0))
    assert [len(optimizer.parameters) for optimizer in own.optimizers] == [1, 0]


def test_ranks_may_share_a_weight_that_is_not_trained() -> None:
    first, second = Scale(), Scale()
    first.requires_grad_(False)
    second.weight = first.weight
    spec = given_spec(nn.Linear(8, 8), first, second)
    assert Session(spec, workload_of(spec, 3), (0, 1, 2)).in_units.shared_weights() == {}


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


# ---- the model as it was built ----


class Built(nn.Module):
    """Has weights and buffers of several types, and a norm in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.halves = nn.Parameter(torch.ones(8, dtype=torch.float16))
        self.register_buffer("angles", torch.polar(torch.ones(8), torch.arange(8.0)))
        self.register_buffer("table", torch.ones(8, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))
        self.norm = nn.BatchNorm1d(8)
        self.norm.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x * self.weight)  # type: ignore[no-any-return]


def types_of(module: nn.Module) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def test_a_model_stays_as_it_was_built() -> None:
    layer = Built()
    loaded = load_model(given_spec(layer)).module
    assert types_of(loaded[0]) == types_of(layer)
    assert (
        [part.training for part in loaded[0].modules()] == [part.training for part in layer.modules()] == [True, False]
    )


def test_a_type_that_is_written_is_that_of_real_weights() -> None:
    """Buffers stay, complex ones above all; a norm computes with its statistics in its weights' type."""
    layer = Built()
    spec = given_spec(layer, dtype="bfloat16")
    model = load_model(spec)
    found = types_of(model.module[0])
    moved = {name for name, dtype in found.items() if dtype == torch.bfloat16}
    assert moved == {"weight", "halves", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert {name: found[name] for name in found if name not in moved} == {
        name: dtype for name, dtype in types_of(layer).items() if name not in moved
    }
    assert model.batch(0, 0, 1)[0].dtype == torch.bfloat16
    assert types_of(layer)["weight"] == torch.float32


def test_lazy_layers_learn_their_shapes_and_nothing_else() -> None:
    model = load_model(own_spec("lazy"))
    assert make_ready(model, 1) is model
    first, linear, last = model.module
    assert linear.weight.shape == (4, 8)
    for norm, features in ((first, 8), (last, 4)):
        for name, tensor in nn.BatchNorm1d(features).named_buffers():
            assert torch.equal(getattr(norm, name), tensor), name


def test_lazy_layers_that_cannot_learn_are_one_line() -> None:
    words = (
        r"the model's lazy layers \(0\.weight\) learn their shapes by running once, and the model fails: RuntimeError: "
    )
    with pytest.raises(InputError, match=words) as caught:
        trace_module(given_spec(nn.LazyLinear(4), nn.Linear(5, 5)))
    assert "\n" not in str(caught.value)


def test_a_model_on_meta_is_planned_from_shapes_and_not_run() -> None:
    with torch.device("meta"):
        layer = nn.Linear(8, 8)
    spec = given_spec(layer)
    assert on_meta(load_model(spec).module)
    (shapes,) = trace_module(spec).layers
    assert (shapes.input_bytes, shapes.static_bytes) == (64, 4 * 72 * 4 + 8)
    with pytest.raises(InputError, match=r"the model lies on the meta device, its weights have shapes and no numbers"):
        Session(spec, Workload(stages=((UNIT,),)), (0,))


class Wrapper(nn.Module):
    """Stands for a wrapper of torch's that needs other processes to be made."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_what_one_process_cannot_train_is_one_line() -> None:
    wrapped = type("DistributedDataParallel", (Wrapper,), {})(nn.Linear(8, 8))
    with pytest.raises(InputError, match=r"model: 0 is wrapped in DistributedDataParallel, .*; give the module inside"):
        load_model(given_spec(wrapped))
    hooked = nn.Linear(8, 8)
    hooked.weight.register_post_accumulate_grad_hook(lambda parameter: None)  # type: ignore[no-untyped-call]
    words = r"model: 0\.weight has a hook that runs once its gradient is there"
    with pytest.raises(InputError, match=words):
        require_trainable(nn.Sequential(hooked))
    with pytest.raises(InputError, match=words):
        load_model(given_spec(hooked))


def test_hooks_on_parameters_go_with_the_copy() -> None:
    """They are a part of how the model is trained."""
    layer = nn.Linear(8, 8)
    layer.weight.register_hook(lambda gradient: torch.full_like(gradient, 7.0))  # type: ignore[no-untyped-call]
    model = load_model(given_spec(layer))
    model.module(torch.ones(2, 8)).sum().backward()
    gradient = next(model.module.parameters()).grad
    assert gradient is not None and torch.equal(gradient, torch.full((8, 8), 7.0))


def test_what_deepcopy_cannot_copy_is_copied() -> None:
    """The older weight norm leaves its weight, a tensor with a graph, on the layer once it has run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(8, 8))
    layer(torch.ones(2, 8))
    model = load_model(given_spec(layer, nn.Linear(8, 8).requires_grad_(False)))
    trained = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    assert trained == {"0.bias": True, "0.weight_g": True, "0.weight_v": True, "1.weight": False, "1.bias": False}
    assert torch.equal(model.module[0](torch.ones(2, 8)), layer(torch.ones(2, 8)))


def test_a_model_with_a_lock_is_one_line() -> None:
    layer: Any = nn.Linear(8, 8)
    layer.lock = threading.Lock()
    with pytest.raises(
        InputError, match=r"model: cannot be copied \(TypeError: .*\); give model\.python, a function that"
    ):
        load_model(given_spec(layer))


def test_data_know_how_many_microbatches_a_step_has() -> None:
    """So that they can cut a global batch, in the trace as in a run."""
    asked: list[int] = []

    def data(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(microbatches)
        return torch.ones(8, 8).chunk(microbatches)[microbatch], torch.zeros(())

    spec = given_spec(nn.Linear(8, 8), data=data)
    assert trace_module(spec, 4).layers[0].input_bytes == 2 * 8 * 4
    session = Session(spec, Workload(stages=((UNIT,),)), (0,), microbatches=4)
    assert [tuple(x.shape) for x, _ in session.batches(0, 4)] == [(2, 8)] * 4
    assert set(asked) == {4}


def test_weights_are_apart_from_the_session() -> None:
    own = Session(given_spec(nn.Linear(8, 8)), Workload(stages=((UNIT,),)), (0,))
    weights = own.weights()
    assert weights["model"].keys() == own.model.module.state_dict().keys()
    assert len(weights["optimizer"]) == 1
    before = weights["model"]["0.weight"].clone()
    with torch.no_grad():
        next(own.model.module.parameters()).add_(1.0)
    assert torch.equal(weights["model"]["0.weight"], before)
