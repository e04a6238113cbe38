"""The report page: what it holds, what it leaves out, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.hints import reproduction_commands
from loadahead.reports.page import write_report
from loadahead.reports.page.markup import Html, element, joined
from loadahead.reports.run_data import load_run, read_sweep
from loadahead.reports.run_directory import SWEEP_CSV, SWEEP_PARQUET, write_sweep
from loadahead.sim.costs import save_costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import save_plan
from loadahead.sim.planner import Policy
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_point, grid
from loadahead.sim.timeline import Timeline, write_timeline
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


class Checker(HTMLParser):
    """Text of a page and the addresses it names; fails on tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(root: Path) -> Checker:
    return Checker(write_report(root, reproduction_commands).read_text(encoding="utf-8"))


def test_a_whole_run_has_every_section(run: Path) -> None:
    page = page_of(run)
    for heading in (
        "Predicted and measured",
        "Figures",
        "What ran when",
        "Memory over time",
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


def test_the_page_needs_no_other_file(run: Path) -> None:
    page = page_of(run)
    images = [address for address in page.addresses if address.startswith("data:image/png;base64,")]
    assert len(images) == 8
    assert sorted(set(page.addresses) - set(images)) == ["sweep.csv"]
    assert sorted(path.name for path in (run / "figures").iterdir()) == [
        "axis_overlap_stalls.png",
        "axis_time_memory.png",
        "front.png",
        "gantt.png",
        "heat_map.png",
        "link_use.png",
        "memory.png",
        "time_parts.png",
    ]


def test_the_headline_is_the_median_step(run: Path) -> None:
    data = load_run(run)
    assert data.predicted is not None
    once = data.predicted.step_time_ns
    text = page_of(run).text
    assert f"predicted {once / 1e6:.4g} ms error −2.4 %" in text
    assert "6 timed" not in text
    assert "6 steps were timed" in text and "The step time is stable." in text


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
    assert "<script" not in page
    assert '<script>alert(1)</script> & "co"' in Checker(page).text


@pytest.mark.parametrize(
    ("kept", "missing", "present"),
    [
        (["sweep.csv"], ["the plan (waits", "the measured timeline"], ["Best step time, predicted", "Sweep"]),
        (["plan.json"], ["the predicted timeline", "the sweep"], ["Not drawn: what ran when"]),
        (["predicted.jsonl"], ["the plan (waits", "the costs"], ["What ran when", "Nothing was measured"]),
        (["measured.jsonl"], ["the predicted timeline"], ["Step time, measured", LINK]),
        (["horizons.json"], ["the sweep"], ["Horizon by horizon", "Step time and peak memory against the horizon"]),
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


def test_figures_of_an_earlier_run_do_not_stay(run: Path) -> None:
    write_report(run)
    for name in ("sweep.csv", "horizons.json"):
        (run / name).unlink()
    write_report(run)
    left = ["gantt.png", "link_use.png", "memory.png", "time_parts.png"]
    assert sorted(path.name for path in (run / "figures").iterdir()) == left


def test_a_long_sweep_shows_its_best_rows_and_links_the_rest(run: Path) -> None:
    rows = sweep_rows(16)
    write_sweep(run, rows)
    assert f"12 of {len(rows)} configurations." in page_of(run).text


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
    "an overlap of nan": (replace_in("sweep.csv", r"0\.\d{4,}", "nan"), "overlap is nan; it must be a number"),
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
