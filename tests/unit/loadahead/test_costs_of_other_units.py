"""Costs know which units were measured: where the scenario's are others, a warning says which and how."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.jobs import prepared_of

TABLES = {
    "name": "layers",
    "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "64 MiB"},
    "parallel": {"microbatches": 2},
}
SIXTEEN = 16


def rows(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return always four rows."""
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(step * 100 + microbatch))
    return x, x


def cut(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a part of a global batch of 16 rows."""
    x = torch.randn(SIXTEEN, 8, generator=torch.Generator().manual_seed(step)).chunk(microbatches)[microbatch]
    return x, x


def scenario(data: Any = rows, dtype: torch.dtype = torch.float32, **overrides: Any) -> la.Scenario:
    layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))).to(dtype)
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    return la.load(TABLES, keys, model=layers, data=data, loss=nn.functional.mse_loss)


def warnings_of(source: la.Scenario, costs: la.Costs, overrides: dict[str, Any] | None = None) -> list[str]:
    told = prepared_of(source, overrides, costs).warnings
    return [text for text in told if "the costs given were calibrated" in text]


@pytest.fixture(scope="module")
def costs() -> la.Costs:
    return la.calibrate(scenario(), repeats=1)


def test_a_calibration_says_what_it_measured(costs: la.Costs) -> None:
    assert costs.evidence["units"] == {
        "layers": [[[0, 1], [1, 2], [2, 3], [3, 4]]],
        "boundary_bytes": [[4 * 8 * 4] * 4],
    }
    assert warnings_of(scenario(), costs) == []


def test_another_boundary_is_told(costs: la.Costs) -> None:
    (text,) = warnings_of(scenario(data=cut), costs)
    assert text == (
        "unit 0.0 has a boundary of 256 bytes and the costs given were calibrated with a boundary of 128 bytes: their "
        "times and workspaces are not this scenario's; calibrate again"
    )
    assert warnings_of(scenario(data=cut), costs, {"parallel.microbatches": 4}) == []


def test_other_layers_in_a_unit_are_told(costs: la.Costs) -> None:
    pairs = la.calibrate(scenario(), {"checkpoint.strategy": "group_2"}, repeats=1)
    own = scenario(parallel__pipeline_parallel_degree=2, checkpoint__strategy="group_2", checkpoint__partition=[1, 3])
    halves = la.calibrate(own, repeats=1)
    (text,) = warnings_of(own, halves, {"checkpoint.partition": [2, 2], "checkpoint.strategy": "each"})
    assert text.startswith("unit 1.0 has layer 2 and the costs given were calibrated with layers 1 to 2: their times")
    assert pairs.evidence["units"]["layers"] == [[[0, 2], [2, 4]]]


def test_a_type_that_the_model_chose_itself_is_no_other_model(costs: la.Costs) -> None:
    written = scenario(model__dtype="float32", model__kind="module", model__python="in-memory")
    assert warnings_of(written, costs) == []
    halved = costs.model_copy(
        update={"evidence": costs.evidence | {"model": costs.evidence["model"] | {"dtype": "bfloat16"}}}
    )
    (text,) = warnings_of(written, halved)
    assert text.startswith("model.dtype is 'float32' and the costs given were calibrated with 'bfloat16'")


@pytest.mark.parametrize(
    "units", [None, 5, [], {}, {"layers": 5}, {"layers": [5], "boundary_bytes": [["x"]]}, {"boundary_bytes": [[]]}]
)
def test_whatever_a_file_holds_there_is_no_traceback(costs: la.Costs, units: Any) -> None:
    odd = costs.model_copy(update={"evidence": {"units": units, "model": units}})
    assert len(warnings_of(scenario(), odd)) <= 1
