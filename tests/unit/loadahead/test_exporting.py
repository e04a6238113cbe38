"""`loadahead export` and `la.export`: what they take, what they write, and one line for what they cannot."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports import run_directory
from loadahead.reports.exports import FORMATS, TRACE_WRITERS
from loadahead.sim.costs import save_costs
from loadahead.sim.timeline import write_timeline
from tests.support.traces import READ

SCENARIO = {
    "name": "exported",
    "model": {
        "kind": "uniform",
        "units_per_stage": 2,
        "forward": "1 ms",
        "recompute": "1 ms",
        "backward": "2 ms",
        "boundary": "1 MB",
        "static": "7 MB",
    },
    "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"},
    "parallel": {"microbatches": 4, "pipeline_parallel_degree": 2},
    "offload": {"offload_activations": True, "activation_loading_horizon": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose measured step took twice as long as predicted."""
    root = tmp_path_factory.mktemp("run")
    plan = la.plan(SCENARIO)
    predicted = la.simulate(plan)
    times = {"start_ns": 2 * predicted.start_ns, "end_ns": 2 * predicted.end_ns}
    from loadahead.jobs import job_of
    from loadahead.plan_files import write_plan

    write_plan(plan, root / run_directory.PLAN)
    costs = job_of(plan).costs
    assert costs is not None
    save_costs(costs, root / run_directory.COSTS)
    write_timeline(predicted, root / run_directory.PREDICTED)
    write_timeline(replace(predicted, source="cpu", **times), root / run_directory.MEASURED)
    return root


def exported(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["export", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("to", TRACE_WRITERS)
def test_a_directory_gives_both_sides_and_a_plan_its_prediction(
    to: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = exported([str(folder), "--to", to, "-o", str(tmp_path / "both")], capsys)
    assert (whole["format"], whole["sides"], whole["notes"]) == (to, ["predicted", "measured"], [])
    both = READ[to](tmp_path / "both")
    assert len(both.boxes) == whole["slices"] and len(both.arrows) == whole["flows"]
    for given, name in (([str(folder), "--side", "predicted"], "side"), ([str(folder / run_directory.PLAN)], "plan")):
        one = exported([*given, "--to", to, "-o", str(tmp_path / name)], capsys)
        assert one["sides"] == ["predicted"] and one["slices"] + 0 < whole["slices"]
    read = READ[to](tmp_path / "side")
    # The header of a file of times says what warnings there were, a plan's prediction as well: all is the same.
    assert read == READ[to](tmp_path / "plan")
    assert read.operations() == both.operations("predicted")


def test_a_timeline_alone_says_what_is_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / run_directory.MEASURED
    out = exported([str(path), "--to", "chrome", "-o", str(tmp_path / "x")], capsys)
    assert out["sides"] == ["measured"] and out["slices"] == len(la.plan(SCENARIO))
    assert out["notes"] == [
        f"{path}: the plan is not known, so that the trace has no bytes of copies, no waits and no stalls; give the "
        "run directory or the plan for these"
    ]


def test_a_snapshot_is_of_the_plans_allocations(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (folder, folder / run_directory.PLAN):
        out = exported([str(given), "--to", "memory-viz", "-o", str(tmp_path / given.name)], capsys)
        assert (out["sides"], out["slices"]) == (["predicted"], None)
        snapshot = pickle.loads((tmp_path / given.name).read_bytes())
        allocations = [event for events in snapshot["device_traces"] for event in events if event["action"] == "alloc"]
        assert len(allocations) == out["allocations"]
        assert [events[0]["size"] for events in snapshot["device_traces"]] == [7_000_000] * 2


def test_python_takes_what_is_in_memory(tmp_path: Path) -> None:
    plan = la.plan(SCENARIO)
    written = la.export(plan, to="perfetto", path=tmp_path / "plan")
    assert written.path == tmp_path / "plan" and written.sides == ("predicted",) and not written.notes
    step = la.simulate(plan)
    again = la.export(step, to="perfetto", path=tmp_path / "step")
    assert (again.slices, again.flows) == (written.slices, written.flows)
    assert again.notes == (
        "exported: costs are not known, so that the trace has no shared links, and waits count the host's too",
    )
    with pytest.raises(la.InputError, match=r"exported: what weights and operations take stands in costs"):
        la.export(step, to="memory-viz", path=tmp_path / "step")
    with pytest.raises(la.InputError, match="is of type int; it must be a plan, a timeline, a run or the path"):
        la.export(3, to="perfetto", path=tmp_path / "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "--to", "svg"], "the format is 'svg'; it must be one of perfetto, chrome, memory-viz (--to)"),
        (["RUN", "--to", "chrome", "--side", "both"], "the side is 'both'; it must be predicted or measured (--side)"),
        (
            ["RUN/plan.json", "--to", "chrome", "--side", "measured"],
            "RUN/plan.json: holds nothing measured; ask for what is there (predicted) (--side)",
        ),
        (
            ["uniform", "--to", "chrome"],
            "uniform: is not there; give a plan, a timeline or a run directory (of a scenario, make a plan first)",
        ),
        (
            ["RUN/measured.jsonl", "--to", "memory-viz"],
            "RUN/measured.jsonl: says when operations ran and not what they allocate; give its plan or its run",
        ),
        (
            ["RUN", "--to", "chrome", "--costs", "estimate"],
            "RUN: has its times already, so that nothing is estimated; give the costs file of these, or none "
            "(--costs FILE)",
        ),
        (["RUN/sweep", "--to", "chrome"], "RUN/sweep: holds no timeline; give the directory of a demo, a run or"),
        (["RUN/empty.jsonl", "--to", "chrome"], "RUN/empty.jsonl: has no operations, so that there is nothing to"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = folder / "sweep"
    if not swept.exists():
        la.report(la.sweep(SCENARIO, {"horizon": [1]}), swept)
        lines = (folder / run_directory.PREDICTED).read_text(encoding="utf-8").splitlines()
        (folder / "empty.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    out = tmp_path / "out"
    given = [argument.replace("RUN", str(folder)) for argument in arguments]
    assert run(["export", *given, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said.replace('RUN', str(folder))}") and error.count("\n") == 1
    assert not out.exists()


def test_a_plan_of_a_model_without_costs_asks_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = la.plan(SCENARIO)
    stray = replace(plan, policy={})
    for to in FORMATS:
        with pytest.raises(la.InputError, match="does not say its scenario, so its costs are not known"):
            la.export(stray, to=to, path=tmp_path / "x")
    assert run(["export", str(tmp_path / "none.json"), "--to", "chrome", "-o", str(tmp_path / "x")]) == 2
    assert "none.json: is not there" in capsys.readouterr().err


def test_a_snapshot_says_which_side_it_has_and_how_to_get_the_other(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--to", "memory-viz", "-o", str(tmp_path / "step.pickle")]
    assert run(["export", str(folder), *out]) == 0
    said = capsys.readouterr().out
    assert "(predicted, " in said and "--side measured writes the measured step's)" in said
    found = exported([str(folder), *out], capsys)
    assert (found["sides"], found["others"]) == (["predicted"], ["measured"])
    found = exported([str(folder), *out, "--side", "measured"], capsys)
    assert (found["sides"], found["others"]) == (["measured"], [])
    found = exported([str(folder), "--to", "chrome", "-o", str(tmp_path / "step.json")], capsys)
    assert (found["sides"], found["others"]) == (["predicted", "measured"], [])
