"""The report page: what it holds, what it leaves out, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadahead as la
from loadahead.cli.hints import page_commands
from loadahead.reports.about import About
from loadahead.reports.doubt.reliability import NOTHING_MEASURED
from loadahead.reports.page import figures, write_report
from loadahead.reports.page.assets import palette_css
from loadahead.reports.page.markup import LONGEST_TABLE, Html, element, joined, table
from loadahead.reports.page.sweep_section import sweep_section
from loadahead.reports.page.tiles import tiles
from loadahead.reports.page.write import parts_of
from loadahead.reports.palette import PALETTE
from loadahead.reports.run_data import RunData, load_run, read_sweep
from loadahead.reports.run_directory import SWEEP_CSV, SWEEP_PARQUET, write_sweep
from loadahead.reports.sweep_facts import SweepFacts
from loadahead.reports.tables import Grid, format_tau
from loadahead.sim.costs import save_costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import save_plan
from loadahead.sim.planner import Policy
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_point, grid
from loadahead.sim.timeline import Timeline, read_timeline, write_timeline
from loadahead.sim.units import format_bytes, format_number
from tests.support.pages import PageText
from tests.support.plans import GB, uniform_costs, uniform_plan, uniform_workload

LINK = "Copies go through an emulated link of 250 MB/s: a memory copy, then a wait."
COSTS = uniform_costs(1, 2, d2h_bandwidth=GB // 4, h2d_bandwidth=GB // 4)


def sweep_rows(horizons: int = 4) -> list[SweepRow]:
    axes = {"microbatches": [2, 4], "horizon": list(range(1, horizons + 1))}
    policy = Policy(pipeline="simple", microbatches=4, ranks=1)
    return [evaluate_point(point, "compiled") for point in grid(uniform_workload(1, 2), COSTS, policy, axes)]


def measured_of(predicted: Timeline, steps: list[int]) -> Timeline:
    fields = {name: getattr(predicted, name) for name in Timeline.__dataclass_fields__}
    header = {
        "summary": predicted.header["summary"],
        "step_times_ns": steps,
        "link": LINK,
        "machine": {"processor": "Example 9000", "cores": 2, "memory_bytes": 8 * 2**30},
    }
    return Timeline(**fields | {"source": "cpu", "header": header})


def write_run(root: Path, name: str = "example", steps: int = 6) -> Path:
    """A whole run directory, as demo writes it."""
    root.mkdir(exist_ok=True)
    plan = uniform_plan(1, 2, horizon=1)
    object.__setattr__(plan, "name", name)
    predicted = simulate(plan, COSTS)
    once = predicted.step_time_ns
    save_plan(plan, root / "plan.json")
    save_costs(COSTS, root / "costs.json")
    write_timeline(predicted, root / "predicted.jsonl")
    write_timeline(measured_of(predicted, [once + i * once // 100 for i in range(steps)]), root / "measured.jsonl")
    write_sweep(root, sweep_rows())
    (root / SWEEP_PARQUET).unlink()
    summary = predicted.header["summary"]
    points = [
        {
            "horizon": h,
            "microbatches": 4,
            "predicted": summary,
            "max_grad_error": 0.0,
            "measured": summary | {"step_time_ns": once + h},
        }
        for h in (1, 2, 3)
    ]
    (root / "horizons.json").write_text(json.dumps({"points": points}))
    result = {"max_grad_error": 0.0, "loss": [5.5, 4.5, 3.25], "device": "cpu", "warnings": ["the machine was busy"]}
    (root / "result.json").write_text(json.dumps(result))
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not about figures draws none: they take seconds. Their own tests are in test_page_figures.py."""
    monkeypatch.setattr(figures, "PLOTS", {})


def page_of(root: Path) -> PageText:
    return PageText(write_report(root, page_commands).read_text(encoding="utf-8"))


def test_a_whole_run_has_every_section(run: Path) -> None:
    page = page_of(run)
    for heading in (
        "Predicted and measured",
        "Sweep, simulated",
        "Horizon by horizon",
        "Rank by rank",
        "How far to trust this",
        "Machine and versions",
        "To reproduce",
    ):
        assert heading in page.text
    assert "bit-identical" in page.text
    assert "5.5 → 3.25" in page.text
    assert "the machine was busy" in page.text
    assert "Example 9000" in page.text and "8 GiB" in page.text
    assert LINK in page.text
    assert "loadahead execute plan.json --device cpu --costs costs.json -o again" in page.text
    assert "Gradients were bit-identical to plain training's at all 3 horizons" in page.text
    assert "no order of the horizons is claimed" in page.text
    assert "This run has no" not in page.text


def with_check(run: Path, **found: object) -> str:
    """The text of the page of a run that compared so with plain training, at a horizon too."""
    result, horizons = (json.loads((run / name).read_text()) for name in ("result.json", "horizons.json"))
    horizons["points"][1] |= found
    (run / "result.json").write_text(json.dumps(result | found))
    (run / "horizons.json").write_text(json.dumps(horizons))
    return page_of(run).text


def test_gradients_losses_and_buffers_are_equal(run: Path) -> None:
    assert "losses and buffers too" not in page_of(run).text
    text = with_check(run, max_grad_error=0.0, grad_error_allowed=0.0, differences=None)
    assert "bit-identical" in text and "losses and buffers too" in text


def test_sums_in_another_order(run: Path) -> None:
    text = with_check(run, max_grad_error=3e-8, grad_error_allowed=1e-6, differences="units share a weight")
    assert "off by 3e-08" in text and "within the 1e-06 of sums in another order" in text
    assert "Horizon 2: units share a weight." in text and "TRAINED OTHERWISE" not in text


@pytest.mark.parametrize("error", [0.0, 3e-8])
def test_a_run_that_is_not_plain_training(run: Path, error: float) -> None:
    text = with_check(run, max_grad_error=error, grad_error_allowed=0.0, differences="the loss of step 2 differs")
    assert "TRAINED OTHERWISE than without a plan: the loss of step 2 differs" in text
    assert "losses and buffers too" not in text and "Gradients were bit-identical" not in text


def test_the_headline_is_the_median_step(run: Path) -> None:
    data = load_run(run)
    assert data.predicted is not None
    once = data.predicted.step_time_ns
    text = page_of(run).text
    assert f"predicted {once / 1e6:.4g} ms error −2.4 %" in text
    # They get longer from one to the next by a percent, which no sentence on the step's time may hide.
    assert "6 steps were timed" in text and "stable" not in text and "The steps got longer" in text


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([], "step times of this run were not kept"),
        ([100], "One step was timed"),
        ([100, 101, 102], "These are few"),
        ([100, 150, 90, 100, 140], "The step time is unstable"),
    ],
)
def test_the_page_doubts_itself(run: Path, steps: list[int], sentence: str) -> None:
    predicted = load_run(run).predicted
    assert predicted is not None
    write_timeline(measured_of(predicted, steps), run / "measured.jsonl")
    assert sentence in page_of(run).text


def test_equal_input_gives_an_equal_page(run: Path) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path, '<script>alert(1)</script> & "co"')).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    checked = PageText(page)
    assert '<script>alert(1)</script> & "co"' in checked.text and checked.headings[0][0] == "h1"


@pytest.mark.parametrize(
    ("kept", "missing", "present"),
    [
        (["sweep.csv"], ["the plan (waits", "the measured timeline"], ["Shortest step, predicted", "Sweep"]),
        (["plan.json"], ["the predicted timeline", "the sweep"], []),
        (["predicted.jsonl"], ["the plan (waits", "the costs"], ["Step time, predicted", "Nothing was measured"]),
        (["measured.jsonl"], ["the predicted timeline"], ["Step time, measured", LINK]),
        (["horizons.json"], ["the sweep"], ["Horizon by horizon"]),
        (["result.json"], ["the sweep"], ["bit-identical"]),
    ],
)
def test_missing_parts_are_named(run: Path, kept: list[str], missing: list[str], present: list[str]) -> None:
    for path in run.iterdir():
        if path.name not in kept:
            path.unlink()
    text = page_of(run).text
    assert "This run has no" in text
    for words in (*missing, *present):
        assert words in text
    assert "Predicted and measured" not in text


def test_a_long_sweep_shows_its_best_rows_and_links_the_rest(run: Path) -> None:
    rows = sweep_rows(16)
    write_sweep(run, rows)
    assert f"12 of {len(rows)} configurations." in page_of(run).text


def test_an_axis_value_that_is_no_finite_number_is_a_text(tmp_path: Path) -> None:
    """JSON has no such numbers, and a page has all rows in it."""
    rows = [
        replace(row, axes={**row.axes, "hardware.d2h": value})
        for row, value in zip(sweep_rows(2), ("nan", "inf", "1e999", "-Infinity"), strict=True)
    ]
    write_sweep(tmp_path, rows)
    (tmp_path / SWEEP_PARQUET).unlink()
    assert [row.axes["hardware.d2h"] for row in read_sweep(tmp_path / SWEEP_CSV)] == [
        "nan",
        "inf",
        "1e999",
        "-Infinity",
    ]
    assert "1e999" in page_of(tmp_path).text


def test_a_number_that_is_not_finite_is_refused_where_a_file_has_numbers(tmp_path: Path) -> None:
    rows = [replace(row, axes={**row.axes, "hardware.d2h": float("inf")}) for row in sweep_rows(2)]
    write_sweep(tmp_path, rows)
    with pytest.raises(InputError, match=r"row 1: hardware.d2h is inf; it must be a finite number, or a text"):
        read_sweep(tmp_path / SWEEP_PARQUET)


def test_a_sweep_reads_the_same_from_either_file(tmp_path: Path) -> None:
    written = [replace(row, axes={**row.axes, "active_microbatches": None}) for row in sweep_rows()]
    write_sweep(tmp_path, written)
    rows = read_sweep(tmp_path / SWEEP_CSV)
    assert rows == read_sweep(tmp_path / SWEEP_PARQUET) == tuple(written)
    assert [list(row) for row in rows] == [list(row) for row in written]


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert re.search(old, text)
        (run / name).write_text(re.sub(old, new, text, count=1))

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


def another_plan(run: Path) -> None:
    save_plan(uniform_plan(1, 2, horizon=2, microbatches=3), run / "plan.json")


OPTIONS = {
    "scenario": "options",
    "version": "v2 (as said)",
    "source": "options.json",
    "keys": [{"key": "activation_loading_horizon", "value": "4", "where": "offload.activation_loading_horizon = 4"}],
    "placement": {"order": "DPT", "data": 2, "tensor": 1, "gpus_per_host": 2},
    "pipeline": 2,
}


def with_options(**changed: Any) -> Callable[[Path], None]:
    """The prediction as import-smp keeps it, with some of it changed."""

    def change(run: Path) -> None:
        predicted = read_timeline(run / "predicted.jsonl")
        header = {**predicted.header, "sagemaker": OPTIONS | changed}
        write_timeline(replace(predicted, header=header), run / "predicted.jsonl")

    return change


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "plan is cut off": (lambda run: (run / "plan.json").write_text((run / "plan.json").read_text()[:99]), "plan.json"),
    "another plan": (another_plan, "are not those of plan.json"),
    "timeline is cut off": (replace_in("measured.jsonl", r'"op": 3,', '"op": '), "measured.jsonl line 5"),
    "timeline is empty": (write("predicted.jsonl", ""), "is empty"),
    "costs are negative": (replace_in("costs.json", r'"forward_ns": \d+', '"forward_ns": -1'), "forward_ns"),
    "no CSV": (write("sweep.csv", 'a,"b\n'), "cannot be read as CSV"),
    "a column is missing": (replace_in("sweep.csv", "overlap", "overlop"), "column overlap is missing"),
    "a time is no number": (replace_in("sweep.csv", r",\d{7,},", ",soon,"), "step_time_ns is 'soon'"),
    "a horizon of 0": (replace_in("sweep.csv", r"simple,2,1,|2,1,simple", "simple,2,0,"), "horizon is 0"),
    "an overlap of nan": (replace_in("sweep.csv", r"0\.\d{4,}", "nan"), "overlap is 'nan'; it must be a number"),
    "horizons are a list": (write("horizons.json", "[]"), "one JSON object is needed"),
    "points are missing": (write("horizons.json", "{}"), "points is None"),
    "a point is no object": (write("horizons.json", '{"points": [1]}'), "points[0] is 1"),
    "a horizon is text": (write("horizons.json", '{"points": [{"horizon": "4"}]}'), "points[0].horizon is '4'"),
    "a horizon is true": (write("horizons.json", '{"points": [{"horizon": true}]}'), "horizon is True"),
    "a summary has no ranks": (
        write("horizons.json", '{"points": [{"horizon": 4, "measured": {"step_time_ns": 1}}]}'),
        "points[0].measured.ranks is None",
    ),
    "a gradient error is text": (
        write("horizons.json", '{"points": [{"horizon": 4, "max_grad_error": "0"}]}'),
        "max_grad_error is '0'",
    ),
    "the result is cut off": (write("result.json", '{"loss": [1'), "result.json: is not JSON"),
    "the loss is text": (write("result.json", '{"loss": "low"}'), "loss is 'low'"),
    "the loss is NaN": (write("result.json", '{"loss": [NaN]}'), "loss is nan"),
    "the gradient error is text": (write("result.json", '{"max_grad_error": "0"}'), "max_grad_error is '0'"),
    "capacity is text": (
        replace_in("predicted.jsonl", r'"capacity_bytes": \d+', '"capacity_bytes": "1"'),
        "capacity_bytes is '1'",
    ),
    "step times are text": (
        replace_in("measured.jsonl", r'"step_times_ns": \[\d+', '"step_times_ns": ["1"'),
        "step_times_ns is ['1'",
    ),
    "the command is text": (
        replace_in("predicted.jsonl", r'"summary":', '"command": "loadahead", "summary":'),
        "command is 'loadahead'; it must be a list of texts",
    ),
    "the sweep's command is nothing": (write("sweep_command.json", "{}"), "command is None"),
    "a part of SageMaker's options is missing": (with_options(keys=None), "predicted.jsonl: keys"),
    "SageMaker's placement is unknown": (with_options(placement={"order": "XYZ"}), "placement.order"),
    "too many processes": (with_options(pipeline=999_999), "999999"),
    "figures is a file": (write("figures", ""), "cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_part_is_refused_in_one_line(run: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(run)
    with pytest.raises(InputError) as caught:
        write_report(run)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()
    assert not (run / "figures").is_dir()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds nothing to report on"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="is not a directory"):
        write_report(tmp_path / "nowhere")


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        write_report(tmp_path)


def test_markup_escapes_text_and_attributes() -> None:
    assert element("p", "a<b & c", title='"x"') == '<p title="&quot;x&quot;">a&lt;b &amp; c</p>'
    assert joined(Html("<b>"), "<i>") == "<b>&lt;i&gt;"
    assert element("img", src="x") == '<img src="x">'


def test_headings_go_down_one_by_one_and_contents_lead_somewhere(run: Path) -> None:
    page = page_of(run)
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels[:-1], levels[1:], strict=True))
    inside = {address[1:] for address in page.addresses if address.startswith("#")}
    assert len(inside) > 6 and inside <= set(page.ids)


def test_the_title_is_the_model_and_the_machine_where_they_are_known(run: Path) -> None:
    assert page_of(run).headings[0] == ("h1", "example")
    predicted = load_run(run).predicted
    assert predicted is not None
    about = {"model": "Llama 3 70B", "machine": "2 x p5.48xlarge", "gpus": 16, "tensor_parallel": 8, "data_parallel": 1}
    write_timeline(replace(predicted, header={**predicted.header, "about": about}), run / "predicted.jsonl")
    page = page_of(run)
    assert page.headings[0] == ("h1", "Llama 3 70B for 2 x p5.48xlarge")
    assert "Scenario example. Predicted and measured: 1 rank, 4 microbatches, pipeline" in page.text
    # It was measured on a CPU.
    assert "Measured on a CPU (2 cores), planned for 16 x GPU (2 x p5.48xlarge); tensor parallel 8." in page.text


@pytest.mark.parametrize(("steps", "words"), [(6, ", 6 timed steps"), (1, ", 1 timed step"), (0, "")])
def test_the_answer_has_the_number_of_steps_and_the_errors(tmp_path: Path, steps: int, words: str) -> None:
    root = write_run(tmp_path / "run", steps=steps)
    data = load_run(root)
    assert data.predicted is not None and data.measured is not None
    predicted, measured = data.predicted.step_time_ns, int(np.median(data.measured.header["step_times_ns"] or [0]))
    error = f"{(predicted - measured) / measured:+.1%}" if measured and measured != predicted else "exact"
    error = error.replace("%", " %").replace("-", "−")
    text = page_of(root).text
    assert f"Measured on cpu{words}: step time " in text
    assert (
        f" ({error}); peak device memory {format_bytes(data.predicted.metrics.peak_device_bytes)}, as predicted."
        in text
    )
    assert "Nothing was measured" not in text


def test_nothing_measured_is_said_in_short(run: Path) -> None:
    (run / "measured.jsonl").unlink()
    text = page_of(run).text
    assert (
        text.count("Nothing was measured: these are predictions.") == 1
    )  # in the answer, and below where there is more
    assert text.count(NOTHING_MEASURED) + text.count("Of this plan nothing was measured.") == 1


def sweep_of(root: Path, scenario: str, command: tuple[str, ...] = (), **more: Any) -> None:
    facts = {"loadahead": "0", "scenario": scenario, "tables": {}, "axes": {}, "engine": "compiled", "costs": ()}
    write_sweep(root, sweep_rows(), SweepFacts(**facts | {"points": 8} | more), command)


def test_advice_that_the_answer_does_not_say_stands_with_the_sweep(tmp_path: Path) -> None:
    """Earlier sweeps have sentences and no findings: the answer says nothing of them."""
    tmp_path.joinpath("sweep").mkdir()
    said = ("Horizon 3 needs the least device memory.", "microbatches 2: none of the 4 horizons swept saves any.")
    sweep_of(tmp_path / "sweep", "example", advice=said)
    text = page_of(tmp_path / "sweep").text
    assert all(text.count(sentence) == 1 for sentence in said)


@pytest.mark.parametrize(("overlap", "shown"), [(0.996, "99.6 % hidden"), (1.0, "100 % hidden"), (0.42, "42 % hidden")])
def test_the_tile_of_hidden_copies_never_rounds_to_all(run: Path, overlap: float, shown: str) -> None:
    data = load_run(run)
    assert data.predicted is not None
    summary = data.predicted.header["summary"]
    rank = {**summary["ranks"][0], "overlap": overlap}
    header = {**data.predicted.header, "summary": {**summary, "ranks": [rank]}}
    assert shown in str(tiles(replace(data, measured=None, predicted=replace(data.predicted, header=header))))


def test_a_sweep_of_the_run_s_scenario_is_one_page_with_it(run: Path) -> None:
    sweep_of(run, "example")
    assert [text for tag, text in page_of(run).headings if tag == "h1"] == ["example"]
    assert len(parts_of(load_run(run))) == 1


@pytest.mark.parametrize("model", [None, "another"])
def test_a_run_and_another_scenario_s_sweep_are_told_apart(run: Path, model: str | None) -> None:
    sweep_of(run, "example" if model else "others", about=None if model is None else About(model=model))
    predicted = load_run(run).predicted
    assert predicted is not None
    header = {**predicted.header, **({"about": {"model": "first"}} if model else {})}
    write_timeline(replace(predicted, header=header), run / "predicted.jsonl")
    page = page_of(run)
    names = ("first", model) if model else ("example", "others")
    parts = [text for tag, text in page.headings if tag == "h2"]
    assert parts[:2] == [f"The run: {names[0]}", f"The sweep: {names[1]}"]
    order = [text for _, text in page.headings]
    assert order.index("Rank by rank") < order.index(parts[1]) < order.index("Sweep, simulated")
    assert "Step time, measured" in page.text and "Shortest step, predicted" in page.text


def test_what_made_the_files_is_told_as_a_shell_takes_it(run: Path) -> None:
    predicted = load_run(run).predicted
    assert predicted is not None
    command = ["loadahead", "simulate", "a scenario.toml", "--set", "offload.horizon=2"]
    write_timeline(replace(predicted, header={**predicted.header, "command": command}), run / "predicted.jsonl")
    sweep_of(run, "example", command=("loadahead", "sweep", "example"))
    page = page_of(run)
    assert "loadahead simulate 'a scenario.toml' --set offload.horizon=2" in page.text
    assert load_run(run).made_by == (tuple(command), ("loadahead", "sweep", "example"))
    assert "What made these files" in [text for _, text in page.headings]


def test_traces_are_linked_or_their_command_is_told(run: Path) -> None:
    assert "loadahead export . --to perfetto -o trace.pftrace" in page_of(run).text
    for name in ("step.pftrace", "trace.json", "memory.pickle", "other.json"):
        (run / name).write_text("")
    page = page_of(run)
    assert {"step.pftrace", "trace.json", "memory.pickle"} <= set(page.addresses)
    assert "other.json" not in page.addresses and "loadahead export" not in page.text


@pytest.mark.parametrize("many", [9, 14])
def test_what_each_combination_s_horizons_say_is_folded(run: Path, many: int) -> None:
    facts = SweepFacts(
        loadahead="1",
        scenario="example",
        tables={},
        axes={},
        engine="e",
        costs=(),
        points=1,
        advice=("marked", *(f"combination {i}" for i in range(many))),
    )
    data = replace(load_run(run), facts=facts)
    text = str(sweep_section(data).blocks[0].body)
    folded = text[text.index("<details>") : text.index("</details>")]
    # The marked point's is told by the answer.
    assert f"What the horizons of {many} combinations of the other axes say" in folded and "marked</li>" not in folded
    assert folded.count("<li>combination ") == min(many, 12) and ("... and 2 more combinations." in folded) == (
        many > 12
    )
    assert "combination" not in text.replace(folded, "")


def test_one_more_warning_is_one(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"warnings": [f"warning {i}" for i in range(4)]}))
    assert "1 more warning " in page_of(run).text
    from loadahead.cli.texts import warnings_to_show

    assert warnings_to_show(["a", "b"], most=1)[1] == "1 more warning (all of them: --json)"


def test_many_warnings_are_folded(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"warnings": [f"warning {i}" for i in range(9)]}))
    page = page_of(run)
    assert "6 more warnings" in page.text and "warning 8" in page.text


def test_numbers_of_tables_have_their_values(run: Path) -> None:
    data = load_run(run)
    (table,) = [t for t in page_of(run).tables if ("step time", None) in t[0]]
    column = [text for text, _ in table[0]].index("step time")
    shown = [float(row[column][1] or "nan") for row in table[1:]]
    steps = sorted(row.step_time_ns for row in data.sweep)
    assert sorted(shown) == pytest.approx(steps, rel=1e-3)  # four digits are shown


def test_a_rank_correlation_has_a_minus_that_is_one() -> None:
    assert [format_tau(tau) for tau in (-0.31, 1.0, 0.333)] == ["−0.31", "1.00", "0.33"]


def test_a_long_table_scrolls_in_its_box() -> None:
    def box(rows: int) -> str:
        return table(Grid(headers=("n",), rows=tuple((str(i),) for i in range(rows))), "Numbers")

    assert 'class="scroll"' in box(LONGEST_TABLE) and 'class="scroll long"' in box(LONGEST_TABLE + 1)
    # One row cannot be sorted.
    assert "<button" not in box(1) and "<button" in box(2)


def test_the_tiles_stand_in_rows_of_nearly_equal_length(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count('class="tile"') == 4 and page.count('class="tile small"') == 1
    assert 'style="--columns: 3"' in page


def test_the_palette_is_whole_in_both_grounds() -> None:
    css = palette_css()
    for name, colour in PALETTE.items():
        assert css.count(f"--{name}: {colour.light};") >= 1 and css.count(f"--{name}: {colour.dark};") >= 2


def test_sagemaker_s_keys_and_the_rank_map_are_shown(run: Path) -> None:
    with_options()(run)
    page = page_of(run)
    assert "options.json became the scenario options: model parallel library v2 (as said)." in page.text
    assert "offload.activation_loading_horizon = 4" in page.text
    (ranks,) = [
        t for t in page.tables if [text for text, _ in t[0]] == ["rank", "host", "gpu", "switch", "d", "p", "t"]
    ]
    # Two replicas of two ranks each, a host for each replica.
    assert [[text for text, _ in row] for row in ranks[1:]] == [
        ["0", "0", "0", "0", "0", "0", "0"],
        ["1", "0", "1", "0", "0", "1", "0"],
        ["2", "1", "0", "0", "1", "0", "0"],
        ["3", "1", "1", "0", "1", "1", "0"],
    ]
    assert "4 processes on 2 hosts with 2 GPUs in use on each" in page.text


def test_tiles_say_the_speed_where_it_is_known(run: Path) -> None:
    assert "Tokens per second" not in page_of(run).text
    data = load_run(run)
    assert data.predicted is not None
    about = About(
        gpus=2, microbatches=4, tokens_per_microbatch=100, flops_per_microbatch=10**9, peak_flops_per_s=1e12
    ).model_copy(update={"communication_ns": (data.predicted.step_time_ns // 4, 0)})
    header = data.predicted.header | {"about": about.to_dict()}
    text = str(tiles(RunData(predicted=replace(data.predicted, header=header))))
    seconds = data.predicted.step_time_ns / 1e9
    assert f"Tokens per second, predicted</span><b>{format_number(400 / seconds)}</b>" in text
    assert f"<span>{format_number(200 / seconds)} per GPU</span>" in text
    assert f"utilization, predicted</span><b>{100 * 4e9 / (2e12 * seconds):.3g} %</b>" in text
    assert "<span>collectives: 12.5 % of the ranks' time</span>" in text


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("points.json", "{", "points.json: "),
        ("points.json", None, "points.json: a point is of row 9999, and the table has"),
        ("keep_all.jsonl", "no timeline", "keep_all.jsonl"),
    ],
)
def test_a_damaged_file_that_only_adds_is_left_out_with_a_warning(
    tmp_path: Path, name: str, text: str | None, why: str
) -> None:
    folder = tmp_path / "run"
    la.sweep("uniform", {"horizon": [1, 2]}, directory=folder)
    step = la.simulate("uniform")
    write_timeline(step, folder / "predicted.jsonl")
    write_timeline(step, folder / "keep_all.jsonl")
    told: list[str] = []
    write_report(folder, warn=told.extend)
    assert not told
    points = json.loads((folder / "points.json").read_text())
    points["points"][0]["row"] = 9999
    (folder / name).write_text(json.dumps(points) if text is None else text)
    page = write_report(folder, warn=told.extend).read_text(encoding="utf-8")
    (line,) = told
    assert why in line and line.endswith(" again to have them" if name == "points.json" else " again to have it")
    (warning,) = re.findall(r'<p class="warning">(.*?)</p>', page)
    assert why in unescape(warning)


def test_points_of_another_sweep_are_left_out(tmp_path: Path) -> None:
    """Their rows are there, and are of other times."""
    for name, latency in (("one", "2 ms"), ("other", "3 ms")):
        la.sweep("uniform", {"horizon": [1, 2]}, overrides={"model.forward": latency}, directory=tmp_path / name)
    assert not load_run(tmp_path / "one").unread
    (tmp_path / "one/points.json").write_bytes((tmp_path / "other/points.json").read_bytes())
    (why,) = load_run(tmp_path / "one").unread.values()
    assert "is not the one that the table has there" in why and load_run(tmp_path / "one").points is None


def test_a_page_of_two_parts_lets_both_be_explored(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    la.sweep("slow-link", {"horizon": [1, 2]}, directory=folder)
    write_timeline(la.simulate("uniform"), folder / "predicted.jsonl")
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count('class="explorer"') == 2
    ids = re.findall(r'\bid="([^"]*)"', re.sub(r"<script.*?</script>", "", page, flags=re.S))
    assert len(set(ids)) == len(ids)
    assert {"explorer", "sweep-explorer", "ex-gantt", "sweep-ex-gantt", "sweep-ex-scatter"} <= set(ids)


def test_strange_names_stand_on_the_page_as_they_are(tmp_path: Path) -> None:
    strange = '</script> "it\'s" & {{ x }} Ωμέγα 模型 \U0001f680 ' + "long " * 60
    page = page_of(write_run(tmp_path / "run", strange))
    assert " ".join(strange.split()) in " ".join(page.text.split())
