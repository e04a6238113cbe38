"""Writes one page from a run directory: headline numbers, tables, figures, machine, and how far to trust them."""

from __future__ import annotations

import base64
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loadahead.reports import run_directory
from loadahead.reports.compare import Comparison, compare, kendall_tau, order_disagreements
from loadahead.reports.page.explorer import explorer
from loadahead.reports.page.markup import Html, element, joined, table
from loadahead.reports.page.markup import page as whole_page
from loadahead.reports.page.point_command import PointCommand
from loadahead.reports.page.tiles import tiles
from loadahead.reports.plots import PLOTS, Drawing
from loadahead.reports.reliability import cost_sentences, step_time_sentences
from loadahead.reports.run_data import HorizonPoint, RunData, load_run
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import step_times
from loadahead.reports.tables import (
    Grid,
    comparison_grid,
    format_error,
    kinds_grid,
    memory_grid,
    sweep_grid,
    time_grid,
)
from loadahead.reports.training_check import worst
from loadahead.sim.choice import choices
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.units import counted, format_bytes, format_duration

# The page of a longer sweep shows its best rows and links the file.
LONGEST_SWEEP, BEST_ROWS = 24, 12
# Predictions closer than this claim no order.
MARGIN = 0.10
# What of a step is shown for each horizon.
_OF_A_STEP: tuple[tuple[Callable[[StepMetrics], int], Callable[[int], str]], ...] = (
    (lambda step: step.step_time_ns, format_duration),
    (lambda step: step.peak_device_bytes, format_bytes),
)
# What a run may lack, in words, and whether it is there.
_PARTS: tuple[tuple[str, Callable[[RunData], bool]], ...] = (
    ("the plan (waits in the Gantt chart have no stated cause)", lambda data: data.plan is not None),
    ("the predicted timeline", lambda data: data.predicted is not None),
    ("the measured timeline", lambda data: data.measured is not None),
    ("the costs", lambda data: data.costs is not None),
    ("the sweep", lambda data: bool(data.sweep)),
    ("horizons run one by one", lambda data: bool(data.horizons)),
    ("the result of the execution", lambda data: bool(data.result)),
)


def write_report(
    directory: str | Path,
    commands: Callable[[RunData], Sequence[str]] | None = None,
    point_command: Callable[[RunData], PointCommand | None] | None = None,
) -> Path:
    """Write ``report.html``, which needs no other file, and ``figures/*.png`` beside it; return the page's path.

    ``commands`` returns the command lines that make the run's files again, to be shown on the page, and
    ``point_command`` the one that makes a point of the sweep, where there is one. Parts that the
    directory does not hold are left out and named. Raises InputError when a part is malformed, when there is none, or
    when the page cannot be written.
    """
    data = load_run(directory)
    root = Path(directory)
    comparison = None
    if data.predicted is not None and data.measured is not None:
        comparison = compare(data.predicted, data.measured)
    try:
        figures = _figures(data, root / run_directory.FIGURES_FOLDER)
        out = root / run_directory.PAGE
        explored = explorer(data, point_command(data) if point_command else None)
        page = _page(data, comparison, figures, explored, commands(data) if commands else ())
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{root}: the report cannot be written there ({error.strerror})") from error
    return out


def _page(data: RunData, comparison: Comparison | None, figures: Html, explored: Html, commands: Sequence[str]) -> str:
    name = _name(data)
    sections = [
        _head(data, name),
        tiles(data),
        _warnings(data),
        _advice(data),
        _comparison(comparison),
        explored,
        _figures_section(figures),
        _sweep(data),
        _horizons(data),
        _ranks(data),
        _reliability(data),
        _machine(data),
        _reproduce(commands),
        _missing(data),
    ]
    return whole_page(f"Loadahead: {name}", *sections)


def _section(title: str, *children: str) -> Html:
    return joined(element("h2", title), *children) if any(children) else Html()


def _paragraphs(sentences: list[str]) -> Html:
    return joined(*(element("p", sentence) for sentence in sentences))


def _name(data: RunData) -> str:
    for name in (data.plan and data.plan.name, data.result.get("scenario"), data.facts and data.facts.scenario):
        if isinstance(name, str) and name:
            return name
    names = [timeline.plan_name for timeline in (data.predicted, data.measured) if timeline is not None]
    return names[0] if names else "sweep"


def _head(data: RunData, name: str) -> Html:
    sides = [word for word, side in (("predicted", data.predicted), ("measured", data.measured)) if side is not None]
    what = " and ".join(sides or ["predicted"]).capitalize()
    policy = data.plan.policy if data.plan else {}
    facts = []
    if data.plan is not None:
        facts.append(f"{data.plan.ranks} rank{'s' * (data.plan.ranks != 1)}")
        if len(data.plan.stage_rank) > data.plan.ranks:
            facts.append(f"{len(data.plan.stage_rank)} stages")
        facts.append(f"{data.plan.microbatches} microbatch{'es' * (data.plan.microbatches != 1)}")
    if isinstance(policy.get("pipeline"), str):
        facts.append(f"pipeline {policy['pipeline']}")
    if policy.get("offload") and type(policy.get("horizon")) is int:
        facts.append(f"horizon {policy['horizon']} {policy.get('horizon_unit', '')}".strip())
    lines = [f"{what}: {', '.join(facts)}." if facts else f"{what}."]
    if data.plan is not None and data.plan.sentence:
        lines.append(data.plan.sentence)
    return joined(element("h1", name), *(element("p", line, class_="lead") for line in lines))


def _warnings(data: RunData) -> Html:
    texts: list[str] = []
    headers = [timeline.header for timeline in (data.predicted, data.measured) if timeline is not None]
    for source in (*headers, data.result):
        listed = source.get("warnings", [])
        texts += [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    if data.check.differences is not None:
        texts.append(data.check.sentence)
    return joined(*(element("p", text, class_="warning") for text in dict.fromkeys(texts)))


def _advice(data: RunData) -> Html:
    """Return which horizon to set, as it was predicted."""
    sentences = [data.advice] if data.advice is not None else list(data.facts.advice[:1]) if data.facts else []
    if not sentences:
        return Html()
    note = "From predicted steps of this scenario; the least device memory is that of the rank that needs most."
    return _section("Advice", _paragraphs(sentences), element("p", note, class_="note"))


def _comparison(comparison: Comparison | None) -> Html:
    if comparison is None:
        return Html()
    kinds = element(
        "details",
        element("summary", "Every kind of operation"),
        table(kinds_grid(comparison)),
        element("p", "Sums over the step; the last column is the mean absolute error of one operation.", class_="note"),
    )
    return _section(
        "Predicted and measured", table(comparison_grid(comparison)), _paragraphs(list(comparison.notes)), kinds
    )


def _figures(data: RunData, folder: Path) -> Html:
    """Save and embed every figure there is something to draw for; name the others with the reason."""
    shown, missing = [], []
    folder.mkdir(exist_ok=True)
    for name, plot in PLOTS.items():
        drawing = plot(data)
        path = folder / f"{name}.png"
        if not isinstance(drawing, Drawing):
            # A figure of an earlier run must not stay beside a page that does not show it.
            path.unlink(missing_ok=True)
            missing.append(element("p", f"Not drawn: {drawing.title.lower()}; {drawing.reason}.", class_="note"))
            continue
        drawing.save(path)
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        image = element("img", src=f"data:image/png;base64,{encoded}", alt=f"{drawing.title}. {drawing.caption}")
        caption = element("figcaption", drawing.caption)
        shown.append(joined(element("h3", drawing.title), element("figure", image, caption)))
    return joined(*shown, *missing)


def _figures_section(figures: Html) -> Html:
    return _section("Figures", figures)


def _sweep(data: RunData) -> Html:
    if not data.sweep:
        return Html()
    long = len(data.sweep) > LONGEST_SWEEP
    grid = sweep_grid(data.sweep, BEST_ROWS if long else None, data.model_axes)
    chosen = choices(data.sweep, model_axes=data.model_axes)
    sentences = [choice.sentence for choice in chosen[:BEST_ROWS]]
    if len(chosen) > len(sentences):
        sentences.append(f"... and {counted(len(chosen) - len(sentences), 'more model')}.")

    def links(*names: str) -> list[Html]:
        assert data.directory is not None
        return [joined(element("a", name, href=name), " ") for name in names if (data.directory / name).is_file()]

    files: list[Html | str] = ["All rows: ", *links(run_directory.SWEEP_CSV, run_directory.SWEEP_PARQUET)]
    if data.facts is not None:
        files += ["made with: ", *links(run_directory.SWEEP_FACTS)]
    if data.facts is not None:
        # The first one stands above, where the run has no advice of its own.
        sentences += data.facts.advice[0 if data.advice is not None else 1 : BEST_ROWS]
    of = f" of {data.facts.scenario}" if data.facts is not None and data.facts.scenario != _name(data) else ""
    return _section(f"Sweep{of}, simulated", table(grid), _paragraphs(sentences), element("p", *files, class_="note"))


def _horizon_cells(point: HorizonPoint) -> tuple[str, ...]:
    cells = [str(point.horizon)]
    for value, show in _OF_A_STEP:
        predicted, measured = (None if side is None else value(side) for side in (point.predicted, point.measured))
        error = None if predicted is None or measured is None else relative_error(predicted, measured)
        cells += [*("–" if number is None else show(number) for number in (predicted, measured)), format_error(error)]
    return tuple(cells)


def _horizons(data: RunData) -> Html:
    if not data.horizons:
        return Html()
    grid = Grid(
        headers=("horizon", "step, predicted", "measured", "error", "peak device, predicted", "measured", "error"),
        rows=tuple(_horizon_cells(point) for point in data.horizons),
        text_columns=frozenset(),
    )
    sentences = _order_sentences(data.horizons) + _gradient_sentences(data.horizons)
    return _section("Horizon by horizon", table(grid), _paragraphs(sentences))


def _order_sentences(points: tuple[HorizonPoint, ...]) -> list[str]:
    both = [(p.horizon, p.predicted, p.measured) for p in points if p.predicted and p.measured]
    if len(both) < 2:
        return []
    predicted_ns, measured_ns = [p.step_time_ns for _, p, _ in both], [m.step_time_ns for _, _, m in both]
    if max(predicted_ns) <= min(predicted_ns) * (1 + MARGIN):
        return [f"All predictions lie within {MARGIN:.0%} of each other: no order of the horizons is claimed."]
    wrong = order_disagreements(predicted_ns, measured_ns, MARGIN)
    pairs = ", ".join(f"{both[i][0]} and {both[j][0]}" for i, j in wrong)
    sentence = (
        f"Predicted more than {MARGIN:.0%} apart and measured the other way round: horizons {pairs}."
        if wrong
        else f"Horizons that are predicted more than {MARGIN:.0%} apart were all measured in that order."
    )
    tau = kendall_tau(predicted_ns, measured_ns)
    if tau is not None:
        sentence += f" Kendall's tau-b of all step times is {tau:.2f}; it counts differences below the spread as well."
    return [sentence]


def _gradient_sentences(points: tuple[HorizonPoint, ...]) -> list[str]:
    checked = [point for point in points if point.check.max_grad_error is not None]
    if not checked:
        return []
    found = worst({point.horizon: point.check for point in checked})
    if found is not None:
        return [f"Horizon {found[0]}: {found[1].sentence}."]
    return [f"Gradients were bit-identical to plain training's at all {len(checked)} horizons that were checked."]


def _ranks(data: RunData) -> Html:
    parts = []
    for title, timeline in (("Predicted", data.predicted), ("Measured", data.measured)):
        if timeline is not None and "summary" in timeline.header:
            metrics = timeline.metrics
            parts += [element("h3", title), table(memory_grid(metrics)), table(time_grid(metrics))]
    return _section("Rank by rank", *parts)


def _reliability(data: RunData) -> Html:
    sentences = []
    if data.measured is not None:
        steps = step_times(data.measured, run_directory.MEASURED)
        sentences += step_time_sentences(steps)
        link = data.measured.header.get("link")
        if isinstance(link, str):
            sentences.append(link)
    elif data.predicted is not None or data.sweep:
        sentences.append("Nothing was measured: every figure here is a prediction.")
    if data.costs is not None:
        sentences += cost_sentences(data.costs.source, data.costs.evidence)
    elif data.facts is not None:
        for source in dict.fromkeys(costs.source for costs in data.facts.costs):
            sentences += cost_sentences(source, {})
    return _section("How far to trust this", _paragraphs(sentences))


def _machine(data: RunData) -> Html:
    machine = None if data.measured is None else data.measured.header.get("machine")
    machine = data.result.get("machine") if machine is None else machine
    rows = []
    if isinstance(machine, Mapping):
        for key, value in machine.items():
            text = format_bytes(value) if key.endswith("_bytes") and type(value) is int else str(value)
            rows.append((key.removesuffix("_bytes").replace("_", " "), text))
    if data.measured is not None:
        rows.insert(0, ("run on", data.measured.source))
    if data.predicted is not None:
        rows.append(("simulated by", f"the {data.predicted.source} engine"))
    rows.append(
        (
            "this page",
            f"Loadahead {_version('loadahead')}, Python {platform.python_version()}, "
            f"NumPy {_version('numpy')}, Matplotlib {_version('matplotlib')}",
        )
    )
    grid = Grid(headers=("", ""), rows=tuple(rows), text_columns=frozenset({0, 1}))
    return _section("Machine and versions", table(grid))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def _reproduce(commands: Sequence[str]) -> Html:
    return _section("To reproduce, in this folder", element("pre", "\n".join(commands))) if commands else Html()


def _missing(data: RunData) -> Html:
    without = [text for text, is_there in _PARTS if not is_there(data)]
    if not without:
        return Html()
    return element("p", f"This run has no: {'; '.join(without)}. What needs them is left out.", class_="note")
