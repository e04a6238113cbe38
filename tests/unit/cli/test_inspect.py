"""`loadahead inspect` in words and as JSON; equal neighbours have one row, and what is not known is not claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.inspection_text import (
    MOST_ROWS,
    copies_grid,
    inspection_text,
    policy_sentence,
    stage_sentences,
    units_grid,
)
from loadahead.cli.main import run
from loadahead.inspection import inspect_prepared
from loadahead.jobs import prepared_of

Captured = pytest.CaptureFixture[str]
TRANSFORMER = """
[model]
kind = "transformer"
preset = "gpt3-1.3b"
[hardware]
machine = "p4d.24xlarge"
[parallel]
microbatches = 16
pipeline_parallel_degree = 4
tensor_parallel_degree = 2
data_parallel_degree = 4
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "gpt.toml"
    path.write_text(TRANSFORMER)
    return str(path)


def output(words: list[str], capsys: Captured) -> str:
    status = run(["inspect", *words])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def test_the_words_are_the_librarys_figures(scenario: str, capsys: Captured) -> None:
    out = output([scenario], capsys)
    found = la.inspect(scenario)
    lines = out.splitlines()
    assert lines[0] == "gpt: 26 units in 4 stages; 3.097 TFLOP forward for each microbatch and GPU of a tensor group."
    # Stage 0 holds the embedding and six blocks, which have one row; stages 1 and 2 are not equal.
    first = [line.split() for line in lines if line.split()[:1] in (["0"], ["1"]) and "block" in line]
    assert [row[:3] for row in first] == [["0", "1-6", "1-6:"], ["1", "0-5", "7-12:"]]
    assert "32 processes on 4 hosts with 8 GPUs in use on each: data parallel 4, pipeline parallel 4, tensor" in out
    assert "Sends between neighbouring ranks of the pipeline stay on a host." in out
    for sentence in (*stage_sentences(found.stages), *found.room_sentences):
        assert sentence in lines


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {},
            "Order interleaved (plain 1F1B, no virtual stages), 8 microbatches; offloading with a horizon of 4 tasks "
            "and a release window of 1.",
        ),
        (
            {"parallel.pipeline": "simple", "parallel.microbatches": 1, "offload.activation_loading_horizon": 1},
            "Order simple (GPipe), 1 microbatch; offloading with a horizon of 1 task and a release window of 1.",
        ),
        (
            {"parallel.pipeline": "1f1b", "parallel.active_microbatches": 2, "offload.offload_activations": False},
            "Order 1f1b, 8 microbatches, at most 2 of them active; activation checkpointing is on, offloading is off.",
        ),
        (
            {"checkpoint.enabled": False},
            "Order interleaved (plain 1F1B, no virtual stages), 8 microbatches; no unit is recomputed from its "
            "boundary, so that none leaves the GPU.",
        ),
    ],
)
def test_what_was_chosen_is_said(overrides: dict[str, Any], sentence: str) -> None:
    assert policy_sentence(la.inspect("uniform", overrides).policy) == sentence


@pytest.mark.parametrize(
    ("parallel", "gpus_per_host", "sentence"),
    [
        (
            {"data": 3, "p": 2},
            4,
            "Sends between all neighbouring ranks of the pipeline go from host to host in some replicas.",
        ),
        ({"data": 1, "p": 2}, 1, "Sends between all neighbouring ranks of the pipeline go from host to host."),
        (
            {"data": 1, "p": 4},
            2,
            "Sends between ranks 1 and 2 of the pipeline go from host to host; the others stay on a host.",
        ),
        (
            {"data": 1, "tensor": 2, "p": 2},
            3,
            "Sends between all neighbouring ranks of the pipeline go from host to host in some tensor parts.",
        ),
        (
            {"data": 2, "tensor": 2, "p": 4},
            6,
            "Sends between ranks 1 and 2, 2 and 3 of the pipeline go from host to host in some replicas or tensor "
            "parts; the others stay on a host.",
        ),
        (
            {"data": 2, "p": 4},
            3,
            "Sends between ranks 2 and 3 of the pipeline go from host to host, those between ranks 0 and 1, 1 and 2 "
            "in some replicas.",
        ),
        ({"data": 2, "p": 2}, 4, "Sends between neighbouring ranks of the pipeline stay on a host."),
    ],
)
def test_which_sends_go_from_host_to_host(parallel: dict[str, int], gpus_per_host: int, sentence: str) -> None:
    changes: dict[str, Any] = {
        "parallel.data_parallel_degree": parallel["data"],
        "parallel.tensor_parallel_degree": parallel.get("tensor", 1),
        "parallel.pipeline_parallel_degree": parallel["p"],
        "parallel.placement_strategy": "spread",
        "hardware.gpus_per_host": gpus_per_host,
        "hardware.network_bandwidth": "10 GB/s",
    }
    assert sentence in inspection_text(la.inspect("uniform", changes))


def test_frozen_units_are_told() -> None:
    prepared = prepared_of("uniform", {"model.units_per_stage": 3})
    for frozen, said in ((0, ""), (1, " The first is frozen: no"), (2, " The first 2 are frozen: no")):
        found = inspect_prepared(replace(prepared, workload=replace(prepared.workload, frozen_units=frozen)))
        first = inspection_text(found).splitlines()[0]
        assert first == f"uniform: 12 units in 4 stages.{f'{said} recompute and no backward.' if said else ''}"


def test_very_large_ratios_are_short() -> None:
    found = la.inspect("uniform", {"model.forward": 1, "model.recompute": 1, "model.backward": 1, "hardware.d2h": 1000})
    assert found.stages[0].ratios is not None and found.stages[0].ratios.k is not None
    shown = copies_grid(found.stages).rows[0][1]
    assert "e" in shown and float(shown) == pytest.approx(found.stages[0].ratios.k, rel=0.05)
    assert "the link has the time for less than 1 % of the boundaries" in found.stages[0].sentence


def test_json_has_everything(scenario: str, capsys: Captured) -> None:
    out = output([scenario, "--json", "--set", "parallel.data_parallel_degree=16"], capsys)
    plain = json.loads(out)
    assert len(plain["ranks"]) == 16 * 4 * 2
    assert plain == json.loads(json.dumps(la.inspect(scenario, {"parallel.data_parallel_degree": 16}).to_dict()))


def test_stages_whose_units_are_equal_have_one_row() -> None:
    grid = units_grid(la.inspect("shared-switch").units)
    assert [row[:3] for row in grid.rows] == [("0-7", "0-3", "–")]
    uneven = la.inspect("uniform", {"model.forward": ["1 ms", "2 ms", "2 ms"], "model.units_per_stage": 3})
    assert [row[:2] for row in units_grid(uneven.units).rows] == [("0-3", "0"), ("0-3", "1-2")]


def test_of_many_rows_the_first_are_shown() -> None:
    # Every other unit of a stage is larger, so that no two neighbours are equal.
    units = {"model.units_per_stage": 60, "model.boundary": ["1 MB", "2 MB"] * 30}
    grid = units_grid(la.inspect("uniform", units).units)
    assert len(grid.rows) == MOST_ROWS
    assert grid.note.startswith(f"{60 - MOST_ROWS} more rows (all: --json). Sizes and FLOPs")


def test_stages_with_equal_ratios_have_one_row_and_one_sentence() -> None:
    tables: dict[str, Any] = {
        "model": {"kind": "transformer", "preset": "gpt3-175b"},
        "hardware": {"preset": "h100-sxm"},
        "parallel": {"pipeline_parallel_degree": 96, "microbatches": 120},
    }
    found = la.inspect(tables)
    assert [row[0] for row in copies_grid(found.stages).rows] == ["0", "1-93", "94", "95"]
    said = [sentence.partition(":")[0] for sentence in stage_sentences(found.stages)]
    assert said == ["Stage 0", "Stages 1 to 94", "Stage 95"]


def test_a_module_without_costs_says_that_they_are_not_known(capsys: Captured) -> None:
    out = output(["demo"], capsys)
    assert "Times and workspaces: not known: calibrate." in " ".join(out.split())
    assert "What fits is not known: calibrate, and give the costs." in out
    assert "TransformerBlock" in out or "Block" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no-such"], "no-such: is neither a scenario file nor one that comes with Loadahead"),
        (["uniform", "--set", "parallel.placement_strategy=near"], "parallel.placement_strategy"),
        (["uniform", "--costs", "none.json"], "none.json"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str, capsys: Captured) -> None:
    assert run(["inspect", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
