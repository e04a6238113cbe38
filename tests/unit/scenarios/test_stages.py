"""A model cut into more stages than the pipeline has ranks: a rank holds several of them."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead import jobs
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import Prepared, prepare
from loadahead.sim.errors import InputError

HARDWARE = {"d2h": "2 GB/s", "h2d": "1 GB/s", "flops": 10**9}
UNIT = {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB", "units_per_stage": 2}
GPT = {"kind": "transformer", "layers": 6, "hidden": 16, "heads": 4, "sequence": 8, "vocabulary": 50}


def prepared(model: dict[str, Any], ranks: int, stages: int | None, microbatches: int = 2) -> Prepared:
    parallel = {"pipeline_parallel_degree": ranks, "microbatches": microbatches}
    return prepare(load_scenario({"model": model, "hardware": HARDWARE, "parallel": parallel}), stages=stages)


@pytest.mark.parametrize(("stages", "found"), [(None, (7, 7)), (2, (7, 7)), (4, (4, 4, 3, 3)), (6, (3, 3, 2, 2, 2, 2))])
def test_a_ranks_static_bytes_are_divided_over_its_stages(stages: int | None, found: tuple[int, ...]) -> None:
    made = prepared(UNIT | {"static": 7}, 2, stages)
    assert made.costs is not None
    assert made.costs.static_bytes == found and len(made.costs.optimizer_ns) == len(found)
    assert [len(stage) for stage in made.workload.stages] == [len(stage) for stage in made.costs.units]
    assert [len(stage) for stage in made.workload.stages] == [2] * len(found)
    assert made.policy.ranks == 2


def test_static_bytes_of_a_rank_need_as_many_stages_on_each() -> None:
    with pytest.raises(InputError, match=r"model\.static is a rank's and 3 stages are no multiple of 2") as caught:
        prepared(UNIT | {"static": 7}, 2, 3)
    assert "\n" not in str(caught.value)
    assert len(prepared(UNIT, 2, 3).workload.stages) == 3


def test_layers_are_dealt_out_over_the_stages() -> None:
    made = prepared(GPT, 2, 4)
    assert made.costs is not None
    # No stage has more than two blocks; the embedding has no FLOPs, and the head fits beside one block.
    assert [len(stage) for stage in made.workload.stages] == [2, 2, 2, 2]
    assert sum(made.costs.static_bytes) == sum(prepared(GPT | {"tied": False}, 1, None).costs.static_bytes)  # type: ignore[union-attr]


def test_fewer_layers_than_stages() -> None:
    with pytest.raises(InputError, match="the model is cut into 9 stages and has 8 layers"):
        prepared(GPT, 2, 9)
    with pytest.raises(InputError, match=r"parallel\.pipeline_parallel_degree is 9 and the model has 8 layers"):
        prepared(GPT, 9, None)


def test_too_many_tasks_are_refused_before_units_are_made() -> None:
    with pytest.raises(InputError, match="2000000000 microbatches of 8000000 units make"):
        prepared(UNIT | {"units_per_stage": 2_000_000}, 2, 4, microbatches=2_000_000_000)


def test_a_scenario_is_prepared_for_so_many_stages() -> None:
    scenario = load_scenario("uniform")
    ranks = scenario.parallel.pipeline_parallel_degree
    assert len(jobs.prepare_scenario(scenario).workload.stages) == ranks
    assert len(jobs.prepare_scenario(scenario, stages=3 * ranks).workload.stages) == 3 * ranks
