"""Results in a notebook: lines, HTML, tables and axes, and what they import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

import loadahead as la
from loadahead.notebook import page, pictures, sheets, subjects
from loadahead.reports import plots
from loadahead.reports.compare import compare_many
from loadahead.sim.costs import Costs, load_costs
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.shown import Shown
from loadahead.sim.units import format_bytes
from tests.unit.loadahead.test_imports import loaded_by

COSTS = Path(__file__).parents[2] / "golden" / "costs" / "demo.json"
HARDWARE = {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"}
VOID = {"img", "meta", "br", "path", "use", "rect"}


class Reading(HTMLParser):
    """Reads HTML: its text, how often each element is there, and what is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.words: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def html_of(result: Any) -> str:
    """What a notebook shows, made without the net under it, so that a mistake comes out."""
    made = page.html(result)
    assert made is not None
    return made


def read(result: Any) -> Reading:
    reading = Reading(html_of(result))
    assert (reading.wrong, reading.open) == ([], [])
    assert "could not be drawn" not in reading.text
    return reading


@cache
def step() -> la.Timeline:
    return la.simulate("slow-link")


@cache
def table() -> la.SweepTable:
    return la.sweep("slow-link", {"horizon": [1, 2, 7]})


@cache
def run() -> la.Run:
    torch.manual_seed(7)
    layers = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    tables = {
        "name": "small",
        "model": {"input_shape": [4, 8]},
        "hardware": HARDWARE,
        "parallel": {"microbatches": 2},
        "offload": {"activation_loading_horizon": 1},
    }
    scenario = la.load(tables, model=layers, loss=lambda output, target: output.square().mean())
    return la.execute(scenario, steps=2)


def measured(timeline: la.Timeline, more_ns: int) -> la.Timeline:
    """The same step as if a CPU had taken so much longer for the operation that ends last."""
    end = timeline.end_ns.copy()
    end[np.argmax(end)] += more_ns
    return replace(timeline, source="cpu", end_ns=end)


def everything() -> Iterator[Any]:
    plan = la.plan("slow-link")
    compared = la.compare(step(), measured(step(), 5))
    yield from (plan, step(), step().metrics, table(), load_costs(COSTS), la.advise("four-rank"), compared)
    yield from (la.compare(step(), step()), la.compare(table(), table()))
    yield from (la.inspect("four-rank"), compare_many([(step(), measured(step(), 5))]), run(), la.plot(step()))
    yield la.TrainingStep([nn.Linear(4, 4)], "uniform", loss=nn.functional.mse_loss)
    yield la.tune("slow-link", memory="20 MB", budgets=3)


def test_everything_has_a_line_and_html() -> None:
    shown = [*everything()]
    assert {subjects.class_name(result) for result in shown} >= set(sheets._SHEETS)
    for result in shown:
        assert repr(result).startswith(f"<{type(result).__name__}")
        assert repr(result).endswith(">") and "\n" not in repr(result) and "cannot be told" not in repr(result)
        assert read(result).count["style"] == 1  # the one that ends at the result's own box


def test_a_notebook_gets_that_html() -> None:
    assert la.inspect("four-rank")._repr_html_() == html_of(la.inspect("four-rank"))
    assert step().memory._repr_html_() == f"<pre>&lt;{repr(step().memory)[1:-1]}&gt;</pre>"
    rules = html_of(step().metrics).partition("<style>")[2].partition("</style>")[0]
    selectors = [rule.partition("{")[0] for rule in rules.split("}") if rule.strip()]
    assert len(selectors) > 10 and all(".loadahead" in one for rule in selectors for one in rule.split(", "))


def test_the_names_of_results_are_those_of_their_classes() -> None:
    """They are written out, as importing them would import torch."""
    for name in {*sheets._SHEETS, *subjects._SUBJECTS}:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(import_module(module), kind), Shown)


def test_lines_have_the_numbers() -> None:
    assert repr(la.plan("slow-link")) == "<Plan 'slow-link': 1 rank, 8 microbatches, 225 operations, 32 offloads>"
    assert repr(step()) == (
        "<Timeline of 'slow-link' predicted by compiled: 225 operations in 155.5 ms, at most 4.768 MiB on a device>"
    )
    assert repr(step().metrics) == "<StepMetrics of 1 rank: step 155.5 ms, peak device memory 4.768 MiB>"
    assert repr(table()) == (
        "<SweepTable: 3 points over microbatches, horizon; the best that fits: microbatches 8, horizon 7 "
        "(143 ms, 9.537 MiB)>"
    )
    assert repr(la.compare(step(), measured(step(), 155_500_000))) == (
        "<Comparison of 'slow-link', predicted against measured: step time exact, peak memory exact>"
    )
    late = replace(measured(step(), 155_500_000), header={})
    assert "step time -50.00 %" in repr(la.compare(step(), late))


def test_html_has_the_numbers_and_a_figure() -> None:
    reading = read(step())
    for number in ("155.5 ms", "4.768 MiB", "30.52 MiB", "61.0 %", "47 ms", "12.5 ms"):
        assert number in reading.text
    assert reading.count["svg"] == len(subjects._OF_A_STEP)
    reading = read(table())
    assert (reading.count["svg"], reading.count["tr"]) == (1, 4)
    for row in table().rows:
        assert f"{row.step_time_ns / 1e6:g} ms" in reading.text and format_bytes(row.peak_device_bytes) in reading.text
    reading = read(load_costs(COSTS))
    assert reading.count["svg"] == 1
    reading = read(la.plan("slow-link"))
    assert reading.count["svg"] == 1 and "All 32 boundaries are offloaded." in reading.text


def test_a_run_says_how_it_compared() -> None:
    reading = read(run())
    assert run().check.sentence in reading.text and "predicted" in reading.text and reading.count["svg"] >= 1


def test_what_a_file_says_is_no_markup() -> None:
    bad = "<script>alert(1)</script>"
    plan = la.plan("slow-link")
    named = Plan(bad, plan.ranks, plan.microbatches, plan.ops, plan.buffers, {"sentence": bad})
    timeline = replace(step(), plan_name=bad, plan=None, header={**step().header, "warnings": [bad], "costs": bad})
    for result, times in ((named, 2), (timeline, 3)):
        made = html_of(result)
        assert "<script" not in made and made.count("&lt;script&gt;") >= times


def test_a_figure_that_fails_leaves_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no <room>")

    monkeypatch.setitem(plots.FIGURES, "memory", fails)
    reading = Reading(html_of(step()))
    assert "could not be drawn: RuntimeError: no <room>" in reading.text
    assert "155.5 ms" in reading.text and reading.wrong == []


@pytest.mark.parametrize(
    "changes",
    [{"header": {"summary": 5}}, {"start_ns": None}, {"memory": None}, {"header": None}],
    ids=str,
)
def test_nothing_is_raised_whatever_a_timeline_holds(changes: dict[str, Any]) -> None:
    broken = replace(step(), **changes)
    assert repr(broken).startswith("<Timeline ")
    shown = broken._repr_html_()
    assert "<table" in shown or shown.startswith("<pre>&lt;Timeline ")


def test_a_large_figure_is_a_picture_of_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGEST_SVG", 10)
    reading = read(table())
    assert (reading.count.get("svg"), reading.count["img"]) == (None, 1)


def test_axes_are_matplotlibs(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules)
    for subject in (step(), table(), run(), la.plan("slow-link"), load_costs(COSTS)):
        axes = la.plot(subject)
        assert axes and all(isinstance(one, Axes) for one in axes)
        assert {one.figure for one in axes} == {axes.figure}
        assert read(axes).count["svg"] == 1
    assert la.plot(step(), "gantt").figure is not la.plot(step(), "gantt").figure
    assert len(la.plot(step(), layout="narrow")) > 0
    assert "matplotlib.pyplot" not in set(sys.modules) - before
    assert capsys.readouterr() == ("", "")


def test_a_run_directory_is_drawn_as_its_table_is(tmp_path: Path) -> None:
    la.report(table(), tmp_path)
    lines = [
        [line.get_xydata().tolist() for line in one.lines]  # type: ignore[union-attr]
        for subject in (tmp_path, str(tmp_path), table())
        for one in la.plot(subject, "axis_time_memory")
    ]
    third = len(lines) // 3
    assert lines[:third] == lines[third : 2 * third] == lines[2 * third :]
    assert any(lines)


@pytest.mark.parametrize(
    ("subject", "name", "said"),
    [
        (step, "gant", r"'gant' is no figure; a timeline has .*gantt.*; it has not .*axis_time_memory \("),
        (lambda: la.plan("uniform"), "memory", r"a plan, which holds no times \(simulate it.*has no figure 'memory'"),
        (table, "gantt", "a sweep's table has no figure 'gantt': there is no timeline"),
        (lambda: 5, None, "is of type int; it must be a timeline"),
        (lambda: "nowhere", None, "nowhere: is not a directory"),
    ],
    ids=["unknown", "plan", "sweep", "type", "path"],
)
def test_what_cannot_be_drawn_is_said(subject: Any, name: str | None, said: str) -> None:
    with pytest.raises(la.InputError, match=said) as caught:
        la.plot(subject(), name)
    assert "\n" not in str(caught.value)


def test_the_layout_is_one_of_two() -> None:
    with pytest.raises(la.InputError, match='layout is \'tall\'; it must be "wide" or "narrow"'):
        la.plot(step(), layout="tall")


def test_tables_of_a_plan_and_a_step() -> None:
    plan = la.plan("four-rank", {"parallel.microbatches": 4})
    frame = plan.to_pandas()
    assert [*frame.columns] == ["op", "rank", "queue", "kind", "stage", "unit", "microbatch", "nbytes"]
    for row, op in zip(frame.itertuples(), plan, strict=True):
        assert (row.rank, row.queue, row.kind) == (op.rank, op.queue.label, op.kind.name)
        assert (row.op, row.stage, row.unit, row.microbatch, row.nbytes) == (
            op.index,
            op.stage,
            op.unit,
            op.microbatch,
            op.nbytes,
        )
    timeline = la.simulate(plan)
    samples = timeline.memory.to_pandas()
    ranks = timeline.metrics.to_pandas()
    assert samples.groupby("rank")["device_bytes"].max().tolist() == ranks["peak_device_bytes"].tolist()
    parts = ["weights_and_optimizer_bytes", "inside_units_bytes", "boundaries_bytes", "transport_bytes"]
    assert ranks[parts].sum(axis=1).tolist() == ranks["peak_device_bytes"].tolist()
    assert ranks["rank"].tolist() == [0, 1, 2, 3]
    older = replace(timeline.metrics, ranks=tuple(replace(rank, peak_parts=None) for rank in timeline.metrics.ranks))
    assert older.to_pandas()[parts].isna().all(axis=None)


def test_table_of_costs() -> None:
    costs = load_costs(COSTS)
    frame = costs.to_pandas()
    assert len(frame) == sum(map(len, costs.units))
    for row in frame.itertuples():
        unit = costs.units[row.stage][row.unit]
        assert (row.forward_ns, row.recompute_ns, row.backward_ns) == (
            unit.forward_ns,
            unit.recompute_ns,
            unit.backward_ns,
        )
        assert row.backward_input_ns + row.backward_weight_ns == unit.backward_ns
        assert row.workspace_backward == unit.workspace_backward


def test_table_of_a_run_lays_both_side_by_side() -> None:
    frame = run().to_pandas()
    for side in ("predicted", "measured"):
        whole = frame[f"{side}_end_ns"].max() - frame[f"{side}_start_ns"].min()
        assert whole == getattr(run(), side).step_time_ns
    assert len(frame) == len(run().job.plan) and frame["op"].is_unique
    shuffled = np.random.default_rng(1).permutation(len(frame))
    timeline = run().measured
    columns = ("op", "rank", "queue", "kind", "stage", "unit", "microbatch", "start_ns", "end_ns")
    other = replace(timeline, **{name: getattr(timeline, name)[shuffled] for name in columns})
    assert replace(run(), measured=other).to_pandas().equals(frame.sort_values("op").reset_index(drop=True))


def test_table_of_a_comparison() -> None:
    found = la.compare(step(), measured(step(), 7))
    frame = found.to_pandas().set_index("kind")
    late = Kind(int(step().kind[np.argmax(step().end_ns)])).name
    assert frame.loc[late, "measured_ns"] - frame.loc[late, "predicted_ns"] == 7
    assert frame["count"].sum() == len(step()) and np.isnan(frame.loc["RELEASE", "mape"])
    assert compare_many([(step(), measured(step(), 7))] * 2).to_pandas()["count"].sum() == 2 * len(step())


def test_showing_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    """A line needs nothing to draw with; a figure needs matplotlib, without a window, and neither torch nor pandas."""
    make = (
        "import loadahead as la\n"
        "from loadahead.sim.costs import Costs\n"
        f"costs = la.Costs.model_validate_json(open({str(COSTS)!r}).read())\n"
        "step = la.simulate('uniform')\n"
        "results = [la.plan('uniform'), step, step.metrics, costs, la.advise('uniform'), la.inspect('uniform')]\n"
        "assert all('cannot be told' not in repr(result) for result in results)\n"
    )
    heavy = {"torch", "pandas", "matplotlib", "IPython", "loadahead.reports.plots", "loadahead.notebook"}
    unneeded = f"import sys\nassert not set(sys.modules) & {heavy}\n"
    drawn = "assert all('<table' in result._repr_html_() for result in results)"
    modules, _ = loaded_by(make + unneeded + drawn, tmp_path)
    assert modules & heavy == {"matplotlib", "loadahead.reports.plots", "loadahead.notebook"}
    assert "matplotlib.pyplot" not in modules


def test_costs_are_costs_as_before() -> None:
    """Being shown adds nothing to what is written and compared."""
    costs = load_costs(COSTS)
    assert Costs.model_validate_json(costs.model_dump_json()) == costs
    assert set(costs.model_dump()) == set(Costs.model_fields)
