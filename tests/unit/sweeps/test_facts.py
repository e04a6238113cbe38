"""What a sweep's files say of themselves: scenario, axes, costs and version, in a file and in the table's metadata."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from torch import nn

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.run_directory import SWEEP_COMMAND, SWEEP_FILES, remove_sweep
from loadahead.sim.costs import Costs, load_costs
from loadahead.version import __version__

GOLDEN = Path(__file__).parents[2] / "golden" / "costs" / "demo.json"


def facts_in(directory: Path) -> Any:
    """What stands in the file, which the Parquet file's metadata repeat."""
    found = json.loads((directory / "sweep.json").read_text())
    assert json.loads(pq.read_schema(directory / "sweep.parquet").metadata[b"loadahead"]) == found
    return found


def digest(costs: Costs) -> str:
    return hashlib.sha256(json.dumps(costs.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def test_a_scenarios_own_figures(tmp_path: Path) -> None:
    own = ["--set", "offload.release_window=2", "--set", "checkpoint.enabled=false"]
    axes = ["--horizon", "2,1", "--set-range", "hardware.d2h=1 GB/s,2", "--engine", "simpy"]
    assert run(["sweep", "uniform", *own, *axes, "-o", str(tmp_path)]) == 0
    found = facts_in(tmp_path)
    tables = found.pop("tables")
    # What is the same for all points: the link is an axis.
    assert found.pop("about") == {
        "model": "given costs (uniform)",
        "machine": None,
        "device": "a GPU, 80 GiB",
        "link": None,
        "pipeline_parallel": 4,
        "tensor_parallel": 1,
        "data_parallel": 1,
        "expert_parallel": 1,
        "zero_stage": 0,
        "sequence_parallel": False,
        "gpus": 4,
        "microbatches": 8,
        **dict.fromkeys(("tokens_per_microbatch", "flops_per_microbatch", "peak_flops_per_s", "communication_ns")),
    }
    assert found == {
        "format": "loadahead-sweep",
        "version": 1,
        "loadahead": __version__,
        "scenario": "uniform",
        "axes": {"hardware.d2h": ["1 GB/s", "2"], "offload.activation_loading_horizon": [2, 1]},
        "engine": "simpy",
        "costs": [{"microbatches": None, "source": "scenario", "digest": None}],
        "warnings": [
            "activation_loading_horizon has no effect: without activation checkpointing (checkpoint.enabled is false) "
            "activation offloading has no effect",
            'hardware.d2h = 2 was taken for 2 bytes per second; write the unit, e.g. "2 GB/s"',
        ],
        "points": 4,
        "model_axes": [],
        "advice": [],
        "findings": None,
    }
    # The scenario as it was swept, without the keys that are axes, which give it back.
    assert tables["offload"]["release_window"] == 2
    assert "d2h" not in tables["hardware"] and "activation_loading_horizon" not in tables["offload"]
    tables["hardware"]["d2h"] = "2 GB/s"
    tables["offload"]["activation_loading_horizon"] = 1
    overrides = {"offload.release_window": 2, "checkpoint.enabled": False, "hardware.d2h": "2 GB/s"}
    assert la.load(tables) == la.load("uniform", overrides | {"offload.activation_loading_horizon": 1})


def test_given_costs_are_named_by_source_and_digest(tmp_path: Path) -> None:
    la.sweep("demo", {"horizon": [1]}, costs=GOLDEN, directory=tmp_path)
    (costs,) = facts_in(tmp_path)["costs"]
    assert costs == {"microbatches": None, "source": "calibrated on cpu", "digest": digest(load_costs(GOLDEN))}


def test_calibrated_costs_stand_by_the_number_of_microbatches(tmp_path: Path) -> None:
    def data(step: int, microbatch: int, microbatches: int) -> Any:
        import torch

        x = torch.ones(8 // microbatches, 4)
        return x, x

    tables = {"name": "cut", "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s"}}
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    scenario = la.load(tables, model=model, data=data, loss=nn.functional.mse_loss)
    table = la.sweep(scenario, {"microbatches": [2, 4]}, directory=tmp_path / "sweep")
    found = facts_in(tmp_path / "sweep")
    assert [(one["microbatches"], one["source"]) for one in found["costs"]] == [
        (2, "calibrated on cpu"),
        (4, "calibrated on cpu"),
    ]
    journal = [json.loads(line) for line in (tmp_path / "sweep" / "sweep.journal").read_text().splitlines()]
    kept = [Costs.model_validate_json(json.dumps(one["costs"])) for one in journal if "calibrated" in one]
    assert [one["digest"] for one in found["costs"]] == [digest(costs) for costs in kept]
    assert table.facts is not None and table.facts.scenario == "cut"
    # A report of the table has the same files.
    la.report(table, tmp_path / "page")
    assert facts_in(tmp_path / "page") == found


def test_the_page_has_the_scenarios_name_and_links_the_file(tmp_path: Path) -> None:
    assert run(["sweep", "slow-link", "--horizon", "1:3", "-o", str(tmp_path)]) == 0
    page = la.report(tmp_path).read_text()
    assert "<title>Loadahead: slow-link: given costs (uniform) on a GPU of 80 GiB</title>" in page
    assert '<a href="sweep.json">sweep.json</a>' in page
    (tmp_path / "sweep.json").unlink()
    page = la.report(tmp_path).read_text()
    assert "<title>Loadahead: sweep</title>" in page
    assert "sweep.json" not in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version = 2: it must be 1"),
        ({"points": "4"}, "points = '4': "),
        ({"scenarios": "x"}, "scenarios: is not a key of what a sweep says of itself; did you mean scenario?"),
        ({"costs": [{"source": "x", "microbatches": None}]}, "costs.0.digest: is missing"),
    ],
)
def test_a_malformed_file_is_one_line(
    change: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    la.sweep("uniform", {"horizon": [1]}, directory=tmp_path)
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert run(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: {says}")


def test_facts_go_with_the_table_that_they_are_of(tmp_path: Path) -> None:
    la.sweep("uniform", {"horizon": [1]}, directory=tmp_path)
    # No command line made it.
    assert all((tmp_path / name).exists() == (name != SWEEP_COMMAND) for name in SWEEP_FILES)
    remove_sweep(tmp_path)
    assert not any((tmp_path / name).exists() for name in SWEEP_FILES)


def test_a_finished_sweep_says_again_what_it_said(tmp_path: Path) -> None:
    """What is warned of does not depend on how many points were finished before."""
    axes = {"active_microbatches": [1, 9], "hardware.h2d": ["40 MB/s", "50 MB/s"], "horizon": [1]}
    first = la.sweep("demo", axes, costs=GOLDEN, directory=tmp_path)
    assert set(first.warnings) == {
        "hardware.h2d, as each point of the sweep has it, stands in place of the costs' 30 MB/s",
        "activation offloading does not save memory with only one microbatch in flight "
        "(parallel.active_microbatches is 1), says SageMaker's documentation; between the many units of a rank it may "
        "still save some",
        "parallel.active_microbatches is 9 and there are 8 microbatches: the cap has no effect",
    }
    found = facts_in(tmp_path)
    assert found["warnings"] == list(first.warnings)
    assert la.sweep("demo", axes, costs=GOLDEN, directory=tmp_path).warnings == first.warnings
    assert facts_in(tmp_path) == found
