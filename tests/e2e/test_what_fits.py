"""A sweep's star is a plan that fits device and host, and the fastest for each GPU; where none fits it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.run_data import load_run, read_sweep
from loadahead.sim.units import format_bytes

Captured = pytest.CaptureFixture[str]
GIB = 2**30
FIRST = {"offload.activation_loading_horizon": 1}


def swept(arguments: list[str], capsys: Captured) -> Any:
    assert run(["sweep", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_of_two_orders_that_are_as_fast_the_one_with_less_on_the_host_is_marked(capsys: Captured) -> None:
    """Each rank has 27.5 GiB in slots with one order, and 1.563 GiB with the other."""
    arguments = ["four-rank", "--horizon", "1:16", "--pipeline", "simple,interleaved"]
    found = swept(arguments, capsys)
    best = found["best"]
    assert (best["pipeline"], best["horizon"], best["fits"]) == ("interleaved", 1, True)
    assert format_bytes(best["peak_host_bytes"]) == "1.563 GiB"
    as_good = [
        point
        for point in found["points"]
        if (point["step_time_ns"], point["peak_device_bytes"]) == (best["step_time_ns"], best["peak_device_bytes"])
    ]
    assert {format_bytes(point["peak_host_bytes"]) for point in as_good} == {"27.5 GiB", "1.563 GiB"}
    assert found["missing"] is None and all(point["fits"] for point in found["points"])
    assert run(["sweep", *arguments]) == 0
    out = capsys.readouterr().out
    (marked,) = [line.split() for line in out.splitlines() if line.lstrip().startswith("*")]
    assert marked[1:4] == ["interleaved", "64", "1"]
    assert "The best that fits: pipeline interleaved, microbatches 64, horizon 1. It makes 0.958 microb" in out


def test_no_star_where_nothing_fits_and_how_much_is_missing(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["four-rank", "--horizon", "1:6", "--microbatches", "8,16", "--set", "hardware.memory=8 GiB"]
    found = swept([*arguments, "-o", str(tmp_path / "swept")], capsys)
    least = min(point["peak_device_bytes"] for point in found["points"])
    missing = found["missing"]
    assert found["best"] is None and not any(point["fits"] for point in found["points"])
    assert missing["device_bytes"] == least - 8 * GIB and missing["host_memory_bytes"] == 0
    assert missing["nearest"]["peak_device_bytes"] == least
    needs, more = format_bytes(least), format_bytes(least - 8 * GIB)
    assert missing["sentence"].startswith(
        f"Nothing fits: the least that any of the 12 plans needs is {needs} of device"
    )
    assert missing["sentence"].endswith(f"{more} more than the device has.")
    assert run(["sweep", *arguments]) == 0
    out = capsys.readouterr().out
    assert missing["sentence"] in out and "*" not in out and "(8 GiB)" in out
    page = la.report(tmp_path / "swept").read_text()
    assert missing["sentence"] in page and "nothing fits" in page and 'class="best"' not in page


def test_rows_have_their_own_capacity_where_memory_is_an_axis(tmp_path: Path) -> None:
    axes = {"hardware.memory": ["50 GiB", "60 GiB"], "horizon": [1, 8]}
    table = la.sweep("four-rank", axes, directory=tmp_path)
    assert [row.fits for row in table.rows] == [False, False, True, True]
    assert [row.capacity_bytes for row in table.rows] == [50 * GIB, 50 * GIB, 60 * GIB, 60 * GIB]
    best = table.best()
    assert best is not None and (best["hardware.memory"], best.horizon) == ("60 GiB", 1)
    assert table.best(memory="50 GiB") is None
    assert table.best(memory="55 GiB", where={"horizon": 8}) == table.rows[1]
    # The files have it too, with whole numbers and nothing where the host's capacity is not known.
    for name in ("sweep.csv", "sweep.parquet"):
        assert read_sweep(tmp_path / name) == table.rows
    assert load_run(tmp_path).sweep == table.rows
    header, first, *_ = (tmp_path / "sweep.csv").read_text().splitlines()
    assert header.endswith("host_capacity_bytes,gpus,fits,replicas,tokens_per_s,mfu")
    assert f",{50 * GIB},,4,False,1," in first


def test_of_two_layouts_of_one_box_the_faster_is_marked() -> None:
    """Eight GPUs in one pipeline, or four stages on two GPUs each."""
    rows = []
    for ranks, degree in ((8, 1), (4, 2)):
        keys = {"parallel.pipeline_parallel_degree": [ranks], "parallel.tensor_parallel_degree": [degree]}
        # Tensor-parallel GPUs would wait for each other as long as a longer pipeline does.
        overrides = {"parallel.pipeline": "interleaved", "hardware.communication": "ideal"}
        one = la.sweep("four-rank", {**keys, "horizon": [1, 2]}, overrides=overrides)
        assert {row.gpus for row in one.rows} == {8}
        rows += one.rows
    best = la.SweepTable(rows=tuple(rows)).best()
    by_hand = [64 / (row.step_time_ns / 1e9) / 8 for row in rows]
    assert best is not None and max(by_hand[:2]) < 0.98 * min(by_hand[2:])
    assert best["parallel.tensor_parallel_degree"] == 2
    assert best.peak_device_bytes == min(row.peak_device_bytes for row in rows[2:])


def test_more_gpus_have_to_be_worth_it() -> None:
    """With twice the GPUs a step is quicker, and each GPU does less."""
    keys = {"parallel.pipeline_parallel_degree": [4, 8], "horizon": [1]}
    table = la.sweep("four-rank", keys, overrides={"parallel.pipeline": "interleaved"})
    four, eight = table.rows
    assert (four.gpus, eight.gpus) == (4, 8) and eight.step_time_ns < four.step_time_ns
    assert table.best() == four
    assert table.best(memory="40 GiB") == eight, "which alone fits"


def test_the_hosts_memory_limits_all_ranks_together(capsys: Captured) -> None:
    axes = {"pipeline": ["simple", "interleaved"], "horizon": [1]}
    simple, interleaved = la.sweep("four-rank", axes).rows
    steps = [la.simulate("four-rank", {**FIRST, "parallel.pipeline": order}) for order in axes["pipeline"]]
    for row, step in zip((simple, interleaved), steps, strict=True):
        assert row.host_bytes == sum(rank.peak_host_bytes for rank in step.metrics.ranks) > row.peak_host_bytes
    table = la.sweep("four-rank", axes, overrides={"hardware.host_memory": interleaved.host_bytes})
    assert [row.fits for row in table.rows] == [False, True]
    (choice,) = la.sweep("four-rank", {"horizon": [1, 2]}).choices(host_memory=interleaved.host_bytes)
    assert choice.best is None and choice.missing_device_bytes == 0
    assert choice.missing_host_bytes == simple.host_bytes - interleaved.host_bytes
    assert "102.5 GiB of host memory for all GPUs of a host together" in choice.sentence
    assert run(["simulate", "four-rank", "--json", "--set", "hardware.host_memory=100 GiB"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["host_capacity_bytes"] == 100 * GIB
    (warning,) = [text for text in found["warnings"] if "host memory" in text]
    assert "102.5 GiB" in warning and "100 GiB" in warning


def test_each_model_of_a_sweep_has_a_star_of_its_own(tmp_path: Path, capsys: Captured) -> None:
    axes = {"model.layers": [12, 24], "horizon": [1, 2]}
    table = la.sweep("four-rank", axes, directory=tmp_path)
    with pytest.raises(la.InputError) as error:
        table.best()
    text = str(error.value)
    assert (
        "\n" not in text and "2 models, which differ in model.layers" in text and "where={'model.layers': 12}" in text
    )
    for layers in (12, 24):
        found = table.best(where={"model.layers": layers})
        assert found is not None and found["model.layers"] == layers
        assert found in [choice.best for choice in table.choices()]
    with pytest.raises(la.InputError, match="which no point has; it must be one of 12, 24"):
        table.best(where={"model.layers": 13})
    arguments = ["four-rank", "--set-range", "model.layers=12,24", "--horizon", "1,2"]
    found = swept(arguments, capsys)
    assert [best["model.layers"] for best in found["best"]] == [12, 24]
    assert found["missing"] == [None, None]
    page = la.report(tmp_path).read_text()
    assert page.count('class="best"') == 2 and "model.layers 12: marked" in page
    assert run(["sweep", *arguments]) == 0
    out = capsys.readouterr().out
    assert "Models are not compared" in out and "model.layers 24: The best that fits: microbatches 64" in out


def test_a_host_memory_of_nothing_is_refused(capsys: Captured) -> None:
    assert run(["simulate", "uniform", "--set", "hardware.host_memory=0 B"]) == 2
    err = capsys.readouterr().err
    assert "hardware.host_memory" in err and "above 0" in err and err.count("\n") == 1


def test_the_slots_of_all_gpus_of_a_host_count() -> None:
    """Each of a rank's tensor-parallel GPUs has slots of its own; on a host of eight GPUs stand two ranks of four."""
    given = {"hardware.host_memory": "1 TiB", "parallel.tensor_parallel_degree": 4, "hardware.gpus_per_host": 8}
    step = la.simulate("four-rank", given).metrics
    peaks = [rank.peak_host_bytes for rank in step.ranks]
    assert len(peaks) == 4 and step.host_bytes == 4 * max(peaks[0] + peaks[1], peaks[2] + peaks[3])
    exactly, less = f"{step.host_bytes} B", f"{step.host_bytes - 1} B"
    others = la.simulate("four-rank", {**given, "hardware.host_memory": exactly}).header["warnings"]
    *again, warning = la.simulate("four-rank", {**given, "hardware.host_memory": less}).header["warnings"]
    assert again == others
    assert warning.startswith("the slots of all 8 GPUs on a host need ")
    assert warning.endswith(": this plan would run out of host memory")
    overrides = [{**given, "hardware.host_memory": size} for size in (exactly, less)]
    tables = [la.sweep("four-rank", {"horizon": [4]}, overrides=each) for each in overrides]
    assert [table.rows[0].fits for table in tables] == [True, False]
