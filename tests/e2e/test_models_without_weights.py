"""A plan of a model without weights holds the bytes that its run with weights is measured to hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.cli.main import run
from loadahead.jobs import prepared_of
from loadahead.modules import trace
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.workload import LayerShape
from tests.support.models import TINY
from tests.support.published import config_of, published

GB = 10**9


class Fork(nn.Module):
    """Returns two tensors, both with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(64, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.one(x).relu(), self.other(x)


class Join(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(96, 64)

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.cat(pair, -1)) + pair[0]


class Skip(nn.Module):
    """Adds to what it makes what the first block read."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x)) + first


class Skips(nn.Module):
    """Hands a tensor with a gradient to all of its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(90, 32), nn.Linear(32, 90)
        self.blocks = nn.ModuleList(Skip() for _ in range(4))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = first = self.table(ids)
        for block in self.blocks:
            x = block(x, first)
        out: torch.Tensor = self.head(x)
        return out


def mlp() -> nn.Sequential:
    return nn.Sequential(*[nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(4)])


def forks() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), Fork(), Join(), Fork(), Join())


FLOATS = {"input_shape": [32, 64]}
IDS = {"input_shape": [2, 48], "input_high": 90}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "mlp": (mlp, FLOATS),
    "several outputs": (forks, FLOATS),
    "llama, grouped queries": (lambda: published("llama"), IDS),
    "llama, tied": (lambda: published("llama", tie_word_embeddings=True), IDS),
    "a tensor with a gradient for all blocks": (Skips, {**IDS, "input_dtype": "int64"}),
    "gpt2, tied, dropout": (lambda: published("gpt2"), IDS),
}


def tables(model: dict[str, Any], **parallel: Any) -> dict[str, Any]:
    """A scenario of one rank unless it says otherwise."""
    return {
        "name": "without-weights",
        "model": {"kind": "module", "steps": 2, **model},
        "hardware": {"d2h": "2 GB/s", "h2d": "2 GB/s", "memory": "1 GiB"},
        "parallel": {"microbatches": 4, "pipeline_parallel_degree": 1, **parallel},
        "offload": {"activation_loading_horizon": 2},
    }


def costs_of(scenario: la.Scenario) -> Costs:
    """Costs in which all operations take as long, and workspaces are those of a trace without numbers."""
    shapes = trace(scenario, "cpu", numbers=False)
    assert shapes is not None
    prepared = prepared_of(scenario)
    stages = [[shapes.layers[unit.layers[0]] for unit in stage] for stage in prepared.workload.stages]
    return Costs(
        units=tuple(tuple(map(_cost, stage)) for stage in stages),
        static_bytes=prepared.static_bytes,
        d2h_bandwidth=2 * GB,
        h2d_bandwidth=2 * GB,
        memory_bytes=2**30,
    )


def _cost(layer: LayerShape) -> UnitCost:
    return UnitCost(
        forward_ns=1000,
        recompute_ns=1000,
        backward_ns=2000,
        workspace_forward=layer.workspace_forward,
        workspace_recompute=layer.workspace_recompute,
        workspace_backward=layer.workspace_backward,
    )


@pytest.mark.parametrize("name", MODELS)
def test_peaks_of_a_run_follow_from_shapes_alone(name: str) -> None:
    build, table = MODELS[name]
    with torch.device("meta"):
        bare = la.load(tables(table), model=build())
    costs = costs_of(bare)
    predicted = la.simulate(bare, costs=costs).metrics
    measured = la.execute(la.load(tables(table), model=build()), costs=costs)
    assert measured.metrics.peak_device_bytes == predicted.peak_device_bytes
    assert measured.check.holds


def test_peaks_of_the_shipped_gpt_follow_from_shapes_alone() -> None:
    scenario = la.load(tables({"python": "byte-gpt", "options": TINY, "loss": "cross_entropy"}))
    costs = costs_of(scenario)
    predicted = la.simulate(scenario, costs=costs).metrics
    measured = la.execute(scenario, costs=costs)
    assert measured.metrics.peak_device_bytes == predicted.peak_device_bytes


def test_ranks_without_weights_hold_what_ranks_with_them_do() -> None:
    given = {**tables(IDS, pipeline_parallel_degree=2), "offload": {"activation_loading_horizon": 3}}
    bare = la.load(given, model=published("llama", meta=True))
    costs = costs_of(bare)
    predicted = [rank.peak_device_bytes for rank in la.simulate(bare, costs=costs).metrics.ranks]
    measured = la.execute(la.load(given, model=published("llama")), costs=costs, check=False)
    assert [rank.peak_device_bytes for rank in measured.metrics.ranks] == predicted


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A scenario file that names a config beside it."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text(json.dumps(config_of("llama")))
    (tmp_path / "own.toml").write_text(
        """name = "own"
model = { kind = "module", config = "small", input_shape = [2, 16], steps = 2 }
hardware = { d2h = "2 GB/s", h2d = "2 GB/s", memory = "1 GiB" }
parallel = { microbatches = 2, pipeline_parallel_degree = 1 }
offload = { activation_loading_horizon = 2 }
"""
    )
    return str(tmp_path / "own.toml")


def test_commands_take_a_config(scenario: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["inspect", scenario]) == 0
    said = capsys.readouterr().out
    assert "5 units in 1 stage" in said and "1-3: LlamaDecoderLayer" in said
    plan = str(tmp_path / "plan.json")
    assert run(["plan", scenario, "-o", plan]) == 0
    assert "proven safe to run" in capsys.readouterr().out
    assert run(["execute", plan, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_grad_error"] == 0.0


def test_a_config_and_a_function_are_one_too_many(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", scenario, "--set", "model.python=byte-gpt"]) == 2
    assert "python and config are given; give one of the two" in capsys.readouterr().err
    with pytest.raises(la.LoadaheadError, match=r"model\.config is 'small' and a model is given too"):
        la.load(scenario, model=mlp())


def test_python_transformers_needs_a_config(scenario: str) -> None:
    with pytest.raises(la.LoadaheadError, match='python = "transformers" needs config'):
        la.load(tables({"python": "transformers"}))


def test_weights_go_by_the_names_of_the_model() -> None:
    model = published("llama")
    trained = la.execute(la.load(tables(IDS), model=model), check=False).weights["model"]
    assert trained.keys() == model.state_dict().keys()
    assert not torch.equal(trained["lm_head.weight"], model.state_dict()["lm_head.weight"])


@pytest.mark.parametrize("run_it", [la.execute, la.calibrate])
def test_a_model_without_weights_is_not_run(run_it: Callable[..., object]) -> None:
    with pytest.raises(la.LoadaheadError, match=r"lies on the meta device.*build it on the CPU to run it") as caught:
        run_it(la.load(tables(IDS), model=published("llama", meta=True)))
    assert "\n" not in str(caught.value)
