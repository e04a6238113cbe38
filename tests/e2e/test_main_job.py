"""The main job end to end, on a small model: sweep, choice, run, comparison, report."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run

TINY = [
    "--set",
    "model.options={ blocks = 2, width = 32, heads = 2, context = 16, batch = 4, dropout = 0.2 }",
    "--set",
    "model.learning_rate=0.003",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished demo: its directory and its JSON."""
    out = tmp_path_factory.mktemp("demo")
    options = ["--horizons", "1,2,4", "--microbatches", "2,4", "--steps", "6", "-o", str(out), "--json"]
    with redirect_stdout(io.StringIO()) as printed:
        assert run(["demo", *TINY, *options]) == 0
    return out, json.loads(printed.getvalue())


def test_it_says_all_that_it_did(demo: tuple[Path, dict[str, Any]]) -> None:
    _, result = demo
    assert [(p["microbatches"], p["horizon"]) for p in result["points"]] == [(m, h) for m in (2, 4) for h in (1, 2, 4)]
    assert result["chosen"] in result["points"]
    assert result["max_grad_error"] == 0.0
    losses = result["measured"]["losses"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert [point["horizon"] for point in result["horizons"]] == [1, 2, 4]
    assert {point["max_grad_error"] for point in result["horizons"]} == {0.0}


def test_memory_is_predicted_to_the_byte_at_every_horizon(demo: tuple[Path, dict[str, Any]]) -> None:
    _, result = demo
    assert result["comparison"]["peak_device_error"] == 0.0
    for point in result["horizons"]:
        ours, theirs = point["predicted"]["ranks"][0], point["measured"]["ranks"][0]
        for key in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
            assert ours[key] == theirs[key], f"{key} at horizon {point['horizon']}"


def test_offloading_saves_memory(demo: tuple[Path, dict[str, Any]]) -> None:
    _, result = demo
    assert result["chosen"]["peak_device_bytes"] < result["without_offload"]["peak_device_bytes"]


def test_the_report_holds_every_figure_and_the_numbers(demo: tuple[Path, dict[str, Any]]) -> None:
    out, result = demo
    assert Path(result["report"]) == out / "report.html"
    page = (out / "report.html").read_text()
    assert page.count('<div class="wide">') == len(list((out / "figures").glob("*.png"))) >= 4
    for words in ("Step time, measured", "Peak device memory, measured", "Horizon by horizon", "emulated link"):
        assert words in page
    assert "Not drawn" not in page
    assert "over 6 steps" in page


def test_its_directory_serves_the_other_commands(demo: tuple[Path, dict[str, Any]], capsys: Any) -> None:
    out, result = demo
    for arguments in (
        ["verify", str(out / "plan.json")],
        ["simulate", str(out / "plan.json"), "--costs", str(out / "costs.json")],
        ["compare", str(out), str(out)],
        ["report", str(out)],
    ):
        assert run([*arguments, "--json"]) == 0
    capsys.readouterr()
    assert run(["compare", str(out), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranking_tau"] == result["comparison"]["ranking_tau"]


def test_where_nothing_fits_the_nearest_plan_is_run_and_it_is_said(tmp_path: Path, capsys: Any) -> None:
    small = ["--set", "hardware.memory=100 kB", "--horizons", "1,2", "--microbatches", "2", "--steps", "2"]
    assert run(["demo", *TINY, *small, "-o", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Nothing fits: the least that any of the 2 plans needs is" in out
    assert "more than the device has. It is run all the same. Chosen: 2 microbatches, horizon 1." in out
    assert "more than the device has (97.66 KiB)" in out and "Marked" not in out
