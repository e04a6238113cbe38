"""Which comparison two arguments mean, of the command line and in Python, and what is written of one of sweeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.compare import Comparison
from loadahead.reports.step_comparison import StepComparison
from loadahead.reports.sweep_comparison import SweepComparison
from loadahead.sim.timeline import write_timeline
from loadahead.sim.units import format_bytes
from tests.unit.loadahead.test_notebook import read

Captured = pytest.CaptureFixture[str]
HORIZONS = {"horizon": [1, 2, 3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps, a run, and two directories that hold a sweep and a run each."""
    root = tmp_path_factory.mktemp("comparison")
    la.sweep("slow-link", HORIZONS, directory=root / "a")
    la.sweep("slow-link", HORIZONS, overrides={"hardware.d2h": "2 GB/s"}, directory=root / "b")
    step = la.simulate("slow-link")
    for name in ("run", "same"):
        (root / name).mkdir()
        write_timeline(step, root / name / "predicted.jsonl")
    for name in ("both-a", "both-b", "both-other"):
        shutil.copytree(root / ("b" if name == "both-b" else "a"), root / name)
        made = la.simulate("slow-link", {"parallel.microbatches": 4}) if name == "both-other" else step
        write_timeline(made, root / name / "predicted.jsonl")
        write_timeline(replace(made, source="cpu"), root / name / "measured.jsonl")
    (root / "demo").mkdir()
    write_timeline(la.simulate("four-rank"), root / "demo" / "predicted.jsonl")
    return root


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("a/sweep.csv", "b/sweep.parquet"), ("a", "both-b"), ("both-a", "b"), ("both-a/sweep.csv", "both-b")],
)
def test_two_sweeps_are_compared_as_sweeps(folder: Path, first: str, second: str) -> None:
    found = la.compare(folder / first, folder / second)
    assert isinstance(found, SweepComparison)
    assert len(found.points) == 3 and [one.what for one in found.differences] == ["hardware.d2h"]


@pytest.mark.parametrize(
    ("first", "second"), [("both-a", "both-b"), ("run/predicted.jsonl", "both-b/measured.jsonl"), ("run", "both-b")]
)
def test_where_both_have_timelines_these_are_compared(folder: Path, first: str, second: str) -> None:
    assert isinstance(la.compare(folder / first, folder / second), Comparison)


@pytest.mark.parametrize(
    ("first", "second", "a", "b", "others"),
    [
        ("run", "same", "run/predicted", "same/predicted", []),
        ("run/predicted.jsonl", "same/predicted.jsonl", "run/predicted", "same/predicted", []),
        ("both-a", "run", "both-a/predicted", "run/predicted", [("both-a/measured", "run/predicted")]),
        (
            "both-a",
            "both-other",
            "both-a/measured",
            "both-other/measured",
            [("both-a/predicted", "both-other/predicted")],
        ),
        ("both-a/measured.jsonl", "both-b/measured.jsonl", "both-a/measured", "both-b/measured", []),
        ("both-a/measured.jsonl", "run", "both-a/measured", "run/predicted", []),
    ],
)
def test_two_steps_are_compared_as_such(
    folder: Path, first: str, second: str, a: str, b: str, others: list[tuple[str, str]], capsys: Captured
) -> None:
    """Two predictions, two measurements, and steps of two plans are no prediction and its measurement."""
    found = la.compare(folder / first, folder / second)
    assert isinstance(found, StepComparison)
    assert (found.a.name, found.b.name) == (f"{folder / a}.jsonl", f"{folder / b}.jsonl")
    assert found.others == tuple((f"{folder / one}.jsonl", f"{folder / two}.jsonl") for one, two in others)
    assert run(["compare", str(folder / first), str(folder / second)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"A: {folder / a}.jsonl, {found.a.how}", f"B: {folder / b}.jsonl, {found.b.how}"]
    assert ("measured on cpu" in lines[0], "measured on cpu" in lines[1]) == ("measured" in a, "measured" in b)
    assert lines[2 : 2 + len(found.sentences)] == list(found.sentences)
    assert ("To compare others of the two: " in lines[-1]) == bool(others)


def test_another_plans_measurement_beside_a_prediction_is_a_mistake(folder: Path) -> None:
    with pytest.raises(la.InputError, match="compare two timelines of the same plan"):
        la.compare(folder / "both-a" / "predicted.jsonl", folder / "both-other" / "measured.jsonl")


@pytest.mark.parametrize("horizon", [4, 7])
def test_the_json_of_two_predictions_has_what_every_comparison_has(horizon: int) -> None:
    """The keys of a prediction beside its measurement (DESIGN, section 4), A in the place of the prediction."""
    a, b = la.simulate("slow-link"), la.simulate("slow-link", {"offload.activation_loading_horizon": horizon})
    found = la.compare(a, b)
    assert isinstance(found, StepComparison)
    told = found.to_dict()
    assert told["step_time_error"] == (a.step_time_ns - b.step_time_ns) / b.step_time_ns
    ours, theirs = a.metrics.peak_device_bytes, b.metrics.peak_device_bytes
    assert told["peak_device_error"] == (ours - theirs) / theirs
    assert told["ranking_tau"] is None and set(told["per_kind"]) == {"FORWARD", *told["per_kind"]}
    assert (told["op_duration_mape"] is not None) == found.one_plan
    assert all(("mape" in kind) == found.one_plan for kind in told["per_kind"].values())


@pytest.mark.parametrize(("first", "second", "also"), [("both-a", "both-b", True), ("both-a", "both-a", False)])
def test_what_is_compared_is_named_first_and_others_are_offered(
    folder: Path, first: str, second: str, also: bool, capsys: Captured
) -> None:
    assert run(["compare", str(folder / first), str(folder / second)]) == 0
    lines = capsys.readouterr().out.splitlines()
    a, b = folder / first, folder / second
    assert lines[0] == f"Predicted: {a / 'predicted.jsonl'}, measured: {b / 'measured.jsonl'}"
    offered = (
        f"To compare others of the two: {a / 'measured.jsonl'} {b / 'measured.jsonl'}; or {a / 'predicted.jsonl'} "
        f"{b / 'predicted.jsonl'}"
    )
    assert (lines[-1] == offered) == also
    assert run(["compare", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {
        "predicted": str(a / "predicted.jsonl"),
        "measured": str(b / "measured.jsonl"),
    }


def test_predictions_of_two_plans(folder: Path, capsys: Captured) -> None:
    """Their numbers are those of the timelines; operations are not matched."""
    steps = [la.simulate("slow-link"), la.simulate("slow-link", {"offload.activation_loading_horizon": 7})]
    found = la.compare(*steps)
    assert isinstance(found, StepComparison) and not found.one_plan
    assert (found.a.name, found.b.name) == ("the first timeline", "the second timeline")
    for side, step in ((found.a, steps[0]), (found.b, steps[1])):
        assert side.headline.step_time_ns == step.step_time_ns
        assert side.headline.largest_device_bytes == step.metrics.peak_device_bytes
        assert side.microbatches == 8
    assert found.step_time_change == pytest.approx(steps[1].step_time_ns / steps[0].step_time_ns - 1)
    more = format_bytes(steps[1].metrics.peak_device_bytes - steps[0].metrics.peak_device_bytes)
    assert f"its peak device memory is {more} more" in found.sentences[0]
    each = f"with {len(steps[0])} operations in each: single operations are not matched."
    assert len(steps[0]) == len(steps[1]) and found.sentences[1].endswith(each)
    frame = found.to_pandas().set_index("kind")
    for name, step in (("a", steps[0]), ("b", steps[1])):
        sums = step.to_pandas().assign(ns=lambda table: table.end_ns - table.start_ns).groupby("kind")["ns"].sum()
        assert frame[f"{name}_ns"].to_dict() == sums.reindex(frame.index, fill_value=0).to_dict()
    shown = read(found)
    assert "Two steps. A: the first timeline, predicted by the compiled engine" in shown.text
    assert found.sentences[0] in shown.text
    assert repr(found).startswith("<StepComparison of A, the first timeline, and B")
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_step_of_other_work_is_told_by_microbatch_and_model(folder: Path) -> None:
    fewer = la.compare(folder / "both-a" / "predicted.jsonl", folder / "both-other" / "predicted.jsonl")
    assert isinstance(fewer, StepComparison)
    a, b = (side.headline.step_time_ns / side.microbatches for side in (fewer.a, fewer.b))
    assert (fewer.a.microbatches, fewer.b.microbatches) == (8, 4)
    assert fewer.sentences[0].startswith(f"B's step takes {100 * (1 - b / a):.1f} % less time per microbatch, 4 micro")
    other = la.compare(folder / "run", folder / "demo")
    assert isinstance(other, StepComparison)
    assert "on 1 rank in A and" in other.sentences[1] and "on 4 ranks in B" in other.sentences[1]
    step = la.simulate("slow-link")
    made = [replace(step, header=step.header | {"about": {"model": name}}) for name in ("gpt", "llama")]
    differ = la.compare(*made)
    assert isinstance(differ, StepComparison) and differ.other_models
    assert differ.sentences[0].startswith("The models differ: A, of gpt, takes ")
    assert "%" not in differ.sentences[0]


def test_a_difference_of_two_plans_is_no_error_of_prediction(folder: Path) -> None:
    found = la.compare(folder / "both-other" / "measured.jsonl", folder / "both-a" / "predicted.jsonl")
    assert isinstance(found, StepComparison)
    assert found.sentences[-1] == "A was measured and B is predicted of another plan: no change is an error of it."
    same = la.compare(folder / "run", folder / "same")
    assert isinstance(same, StepComparison)
    assert same.sentences == (
        "B's step takes as long as A's, 155.5 ms; its peak device memory is the same, 4.768 MiB.",
        "Both have the same operations, and each takes as long in both.",
    )


def test_a_comparison_of_sweeps_is_shown(folder: Path) -> None:
    found = la.compare(folder / "a", folder / "b")
    assert isinstance(found, SweepComparison)
    shown = read(found)
    assert (shown.count["svg"], shown.count["table"]) == (1, 1)
    assert all(sentence in shown.text for sentence in found.sentences)
    assert str(folder / "a") in shown.text and str(folder / "b") in shown.text


def test_tables_and_paths_are_compared_alike(folder: Path) -> None:
    table = la.sweep("slow-link", HORIZONS)
    faster = la.sweep("slow-link", HORIZONS, overrides={"hardware.d2h": "2 GB/s"})
    whole = la.compare(folder / "a", folder / "b")
    assert isinstance(whole, SweepComparison)
    for found in (la.compare(table, faster), la.compare(table, folder / "b"), la.compare(str(folder / "a"), faster)):
        assert isinstance(found, SweepComparison)
        assert found.to_dict()["points"] == whole.to_dict()["points"]
        assert found.sentences == whole.sentences


@pytest.mark.parametrize(
    ("compare", "says"),
    [
        (lambda root: la.compare(root / "a", root / "run"), r"a is a sweep and .*run is none; give two sweeps"),
        (lambda root: la.compare(root / "run", root / "a" / "sweep.csv"), r"sweep.csv is a sweep and .*run is none"),
        (lambda root: la.compare(root / "a", root / "no.csv"), r"no.csv: there is no such file"),
        (lambda root: la.compare(root / "nope", root / "a"), r"nope: there is no such file or directory; give"),
        (lambda root: la.compare(root / "run", root / "nope"), r"nope: there is no such file or directory; give"),
        (lambda root: la.compare(root, root / "run"), "is a directory without predicted.jsonl and measured.jsonl"),
        (
            lambda root: la.compare(la.sweep("slow-link", {"horizon": [1]}), la.simulate("slow-link")),
            "of type Timeline",
        ),
    ],
)
def test_a_sweep_and_a_run_are_refused(folder: Path, compare: Callable[[Path], object], says: str) -> None:
    with pytest.raises(la.InputError, match=says):
        compare(folder)


def test_the_command_says_writes_and_has_json(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    paths = [str(folder / "a"), str(folder / "b")]
    assert run(["compare", *paths, "-o", str(tmp_path / "moved")]) == 0
    out = capsys.readouterr().out
    found = la.compare(*paths)
    assert isinstance(found, SweepComparison)
    for sentence in found.sentences:
        assert sentence in out
    assert out.index(found.sentences[0]) < out.index("step time, A")
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["fronts.svg", "sweep_comparison.json"]
    assert run(["compare", *paths, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "moved" / "sweep_comparison.json").read_text())
    assert (
        len(shown["points"]) == 3 and shown["points"][0]["a"]["step_time_ns"] > shown["points"][0]["b"]["step_time_ns"]
    )


def test_a_directory_for_timelines_is_refused(folder: Path, capsys: Captured) -> None:
    path = str(folder / "run" / "predicted.jsonl")
    assert run(["compare", path, path, "-o", "x"]) == 2
    assert "for what two sweeps write; leave it out for timelines (-o DIR)" in capsys.readouterr().err
