"""What is said of how GPUs share a model that has no effect, on each kind of model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import loadahead as la
from loadahead.scenarios.cautions import cautions_beside_model
from loadahead.scenarios.kinds.shape_cautions import cautions_of_shape
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import Preparation
from loadahead.sim.errors import InputError

KINDS = {"uniform": "uniform", "transformer": "four-rank", "module": "demo"}
UNIFORM = "no effect on a uniform model: its figures are taken as one GPU's"
MODULE = "no effect on a module model: its layers run as they are, on one GPU"
ONE = "no effect on one replica (parallel.data_parallel_degree is 1)"
REDUCED = (
    "parallel.{}: one replica is planned, others run in step with it; the all-reduce of gradients between replicas is "
    "not modelled"
)
SELECTIVE = 'checkpoint.recompute_granularity = "selective" has no effect '
ALL = {
    "sequence_parallel": True,
    "expert_parallel_degree": 2,
    "zero_stage": 1,
    "sharded_data_parallel_degree": 2,
    "shard_optimizer_state": True,
    "overlap_grad_reduce": False,
}
NAMED = ", ".join(f"parallel.{key}" for key in ALL)
TWO = {"data_parallel_degree": 2}
# The kind of model, keys of parallel, other keys, what is said.
SAID: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    # An all-reduce is charged to a transformer, unless nothing that GPUs tell each other is.
    ("transformer", TWO, {}, []),
    ("transformer", TWO, {"hardware.communication": "ideal"}, [REDUCED.format("data_parallel_degree = 2")]),
    ("uniform", TWO, {}, [REDUCED.format("data_parallel_degree = 2")]),
    ("module", TWO, {}, [REDUCED.format("data_parallel_degree = 2")]),
    ("uniform", {"ddp": True}, {}, [REDUCED.format("ddp = true")]),
    (
        "transformer",
        {"ddp": True},
        {},
        [
            "parallel.ddp = true does not say how many replicas there are, and one is counted: set "
            "parallel.data_parallel_degree"
        ],
    ),
    ("transformer", {"ddp": True, "data_parallel_degree": 1}, {}, []),
    # No other kind's figures are divided.
    ("uniform", {**ALL, **TWO}, {}, [REDUCED.format("data_parallel_degree = 2"), f"{NAMED} have {UNIFORM}"]),
    ("module", {"zero_stage": 3}, {}, [f"parallel.zero_stage has {MODULE}"]),
    (
        "transformer",
        {**ALL, **TWO, "tensor_parallel_degree": 2},
        {"hardware.network_bandwidth": "400 GB/s", "hardware.gpus_per_host": 8},
        [],
    ),
    # Values that ask for nothing.
    (
        "uniform",
        {"zero_stage": 0, "sharded_data_parallel_degree": 1, "expert_parallel_degree": 1, "overlap_grad_reduce": True},
        {},
        [],
    ),
    (
        "transformer",
        {"sequence_parallel": True},
        {},
        [
            "parallel.sequence_parallel has no effect without tensor parallelism, whose GPUs divide the sequence "
            "(parallel.tensor_parallel_degree is 1)"
        ],
    ),
    ("transformer", {"sequence_parallel": True, "tensor_parallel_degree": 2}, {}, []),
    ("transformer", {"zero_stage": 2}, {}, [f"parallel.zero_stage has {ONE}"]),
    (
        "transformer",
        {"shard_optimizer_state": True, "overlap_grad_reduce": False},
        {},
        [f"parallel.shard_optimizer_state, parallel.overlap_grad_reduce have {ONE}"],
    ),
    (
        "transformer",
        {**TWO, "zero_stage": 2, "sharded_data_parallel_degree": 1},
        {},
        ["parallel.zero_stage has no effect where state is sharded over 1 (parallel.sharded_data_parallel_degree)"],
    ),
    (
        "transformer",
        {**TWO, "overlap_grad_reduce": False},
        {"hardware.communication": "ideal"},
        [
            REDUCED.format("data_parallel_degree = 2"),
            'parallel.overlap_grad_reduce has no effect where hardware.communication is "ideal" and takes no time',
        ],
    ),
    (
        "transformer",
        {},
        {"checkpoint.recompute_granularity": "selective"},
        [
            'activation_loading_horizon has no effect: checkpoint.recompute_granularity = "selective" keeps what units '
            "save, and no boundary leaves the GPU"
        ],
    ),
    (
        "transformer",
        {},
        {
            "checkpoint.recompute_granularity": "selective",
            "checkpoint.enabled": False,
            "offload.offload_activations": False,
        },
        [f"{SELECTIVE}without activation checkpointing (checkpoint.enabled is false)"],
    ),
]


@pytest.mark.parametrize(("kind", "keys", "others", "sentences"), SAID)
def test_what_is_said(kind: str, keys: dict[str, Any], others: dict[str, Any], sentences: list[str]) -> None:
    scenario = load_scenario(KINDS[kind], {f"parallel.{key}": value for key, value in keys.items()} | others)
    assert cautions_beside_model(scenario) == sentences


def test_scenarios_that_share_their_other_tables_are_told_apart_by_the_kind_of_model() -> None:
    first = load_scenario("four-rank", {"parallel.zero_stage": 2, "parallel.pipeline_parallel_degree": 1})
    other = first.model_copy(update={"model": load_scenario("uniform").model})
    for order in ((first, other), (other, first)):
        preparation = Preparation()
        said = {scenario.model.kind: preparation.prepare(scenario).warnings for scenario in order}
        assert f"parallel.zero_stage has {ONE}" in said["transformer"]
        assert f"parallel.zero_stage has {UNIFORM}" in said["uniform"]


@pytest.mark.parametrize(("name", "kind"), [("demo", "module"), ("uniform", "uniform")])
def test_only_of_a_transformer_is_it_known_what_is_recomputed_selectively(name: str, kind: str) -> None:
    selective = {"checkpoint.recompute_granularity": "selective"}
    for act in (la.plan, la.simulate, la.execute):
        with pytest.raises(InputError) as caught:
            act(name, selective)
        assert str(caught.value) == (
            f'{name}: checkpoint.recompute_granularity is "selective" and model.kind is "{kind}", of which it is not '
            'known what of a unit would be recomputed; use "full"'
        )


class TestOfAShape:
    """What a transformer's shape leaves without effect."""

    setting = load_scenario("four-rank").setting()
    selective = replace(setting, granularity="selective")
    dealt_out = replace(setting, sharing=replace(setting.sharing, data=4, expert=2))

    def test_flash_attention_leaves_nothing_to_recompute(self) -> None:
        (said,) = cautions_of_shape(self.selective, attention="flash", experts=0)
        assert said == (
            'checkpoint.recompute_granularity = "selective" recomputes what plain attention keeps of each pair of '
            "tokens, and flash attention keeps nothing of it: nothing is recomputed, and all activations are kept"
        )
        assert cautions_of_shape(self.selective, attention="plain", experts=0) == []
        assert cautions_of_shape(self.setting, attention="flash", experts=0) == []

    def test_a_dense_model_has_no_experts_to_deal_out(self) -> None:
        said = ["parallel.expert_parallel_degree has no effect on a model without experts"]
        assert cautions_of_shape(self.dealt_out, attention="plain", experts=0) == said
        assert cautions_of_shape(self.dealt_out, attention="plain", experts=8) == []
        assert cautions_of_shape(self.setting, attention="plain", experts=0) == []
