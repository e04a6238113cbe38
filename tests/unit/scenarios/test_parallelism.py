"""How GPUs share the model, by the keys of ``parallel``, and what of them does not go together."""

from __future__ import annotations

import re
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.parallelism import sharing_of
from loadahead.scenarios.sharing import Sharing
from loadahead.scenarios.tables import Parallel
from loadahead.sim.errors import InputError


def sharing(**keys: Any) -> Sharing:
    return sharing_of(Parallel.model_validate({"data_parallel_degree": 8, **keys}))


# The keys beside eight replicas, ZeRO's stage, and over how many replicas it shards.
SHARDED: list[tuple[dict[str, Any], int, int]] = [
    ({}, 0, 1),
    ({"zero_stage": 0}, 0, 1),
    ({"zero_stage": 1}, 1, 8),
    ({"zero_stage": 3}, 3, 8),
    ({"zero_stage": 2, "sharded_data_parallel_degree": 4}, 2, 4),
    ({"zero_stage": 2, "sharded_data_parallel_degree": 1}, 2, 1),
    ({"zero_stage": 0, "sharded_data_parallel_degree": 1}, 0, 1),
    ({"sharded_data_parallel_degree": 1}, 0, 1),
    ({"sharded_data_parallel_degree": 2}, 3, 2),
    ({"sharded_data_parallel_degree": 2, "shard_optimizer_state": True, "zero_stage": 1}, 1, 2),
    ({"shard_optimizer_state": True}, 1, 8),
    ({"shard_optimizer_state": True, "sharded_data_parallel_degree": 1}, 1, 8),
    ({"shard_optimizer_state": True, "zero_stage": 2}, 2, 8),
    ({"zero_stage": 3, "data_parallel_degree": 1}, 3, 1),
]


@pytest.mark.parametrize(("keys", "stage", "shard"), SHARDED)
def test_what_is_sharded(keys: dict[str, Any], stage: int, shard: int) -> None:
    found = sharing(**keys)
    assert (found.zero_stage, found.shard) == (stage, shard)


def test_the_other_keys() -> None:
    found = sharing(tensor_parallel_degree=4, sequence_parallel=True, expert_parallel_degree=2)
    assert (found.tensor, found.sequence_parallel, found.expert, found.data) == (4, True, 2, 8)
    assert found.overlap and not sharing(overlap_grad_reduce=False).overlap
    # A sequence is divided among tensor-parallel GPUs.
    assert not sharing(sequence_parallel=True).sequence_parallel


LEAVE = "make zero_stage 1, 2 or 3, or leave one of them out"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"zero_stage": 0, "sharded_data_parallel_degree": 4},
            "parallel.zero_stage is 0, which shards nothing, and parallel.sharded_data_parallel_degree is 4; " + LEAVE,
        ),
        (
            {"zero_stage": 0, "shard_optimizer_state": True},
            "parallel.zero_stage is 0, which shards nothing, and parallel.shard_optimizer_state is true; " + LEAVE,
        ),
        (
            {"sharded_data_parallel_degree": 3},
            "parallel.sharded_data_parallel_degree is 3; it must divide parallel.data_parallel_degree, 8",
        ),
        (
            {"zero_stage": 1, "sharded_data_parallel_degree": 16},
            "parallel.sharded_data_parallel_degree is 16; it must divide parallel.data_parallel_degree, 8",
        ),
        (
            {"expert_parallel_degree": 3},
            "parallel.expert_parallel_degree is 3; it must divide parallel.data_parallel_degree, 8",
        ),
    ],
)
def test_what_does_not_go_together(keys: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        sharing(**keys)
    # Every command says it in one line.
    words = [word for key, value in keys.items() for word in ("--set", f"parallel.{key}={str(value).lower()}")]
    assert run(["simulate", "uniform", "--set", "parallel.data_parallel_degree=8", *words]) == 2
    assert capsys.readouterr().err == f"error: uniform: {line}\n"


@pytest.mark.parametrize("value", [-1, 4, 1.0, True, "3"])
def test_a_stage_is_0_to_3(value: object) -> None:
    with pytest.raises(InputError, match=r"parallel\.zero_stage = .*: it must be 0, 1, 2 or 3"):
        load_scenario("uniform", {"parallel.zero_stage": value})


def test_sweeps_over_these_keys() -> None:
    replicas = {"parallel.data_parallel_degree": 4, "parallel.pipeline_parallel_degree": 1, "parallel.microbatches": 2}
    axes = {"parallel.zero_stage": [0, 1, 3], "parallel.overlap_grad_reduce": [True, False], "horizon": [1]}
    table = la.sweep("uniform", axes, overrides=replicas)
    found = [(row["parallel.zero_stage"], row["parallel.overlap_grad_reduce"]) for row in table.rows]
    assert found == [(stage, overlap) for stage in (0, 1, 3) for overlap in (True, False)]
    key = "parallel.sharded_data_parallel_degree"
    degrees = la.sweep("uniform", {key: [1, 2, 4], "horizon": [1]}, overrides=replicas)
    assert [row[key] for row in degrees.rows] == [1, 2, 4]
    with pytest.raises(InputError, match=r"^uniform: parallel\.zero_stage is 0, which shards nothing, and"):
        la.sweep("uniform", axes, overrides={**replicas, "parallel.shard_optimizer_state": True})
