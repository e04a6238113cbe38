"""Says of each result which numbers and sentences a notebook shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.notebook.subjects import class_name
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.summary import headline
from loadahead.reports.sweep_comparison import sweeps_grid
from loadahead.reports.tables import (
    NOTHING,
    Grid,
    comparison_grid,
    format_error,
    format_share,
    kinds_grid,
    many_grid,
    memory_grid,
    step_grid,
    step_kinds_grid,
    sweep_grid,
    time_grid,
)
from loadahead.reports.tuning_tables import frontier_grid
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Space
from loadahead.sim.units import counted, format_bytes, format_duration, format_number, format_rate

if TYPE_CHECKING:
    from loadahead.api import SweepTable
    from loadahead.inspection import Inspection
    from loadahead.reports.compare import Comparison, ComparisonOfMany
    from loadahead.reports.step_comparison import StepComparison
    from loadahead.reports.sweep_comparison import SweepComparison
    from loadahead.runs import Run
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.step_metrics import StepMetrics
    from loadahead.sim.timeline import Timeline
    from loadahead.training import TrainingStep
    from loadahead.tuning import Tuned

# A table in a notebook has at most so many rows; ``to_pandas`` has all.
MOST_ROWS = 16
# So many models of a sweep are told of, one sentence each.
MOST_MODELS = 4
# So many sentences on an inspection's stages.
MOST_STAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Holds what is shown beside the figures.

    Attributes:
        numbers: a table of one row, which stands above the figures.
        tables: those that stand below them.
        folded: those that are unfolded by their title.
    """

    title: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    numbers: Grid | None = None
    tables: tuple[Grid, ...] = ()
    folded: Mapping[str, tuple[Grid, ...]] = field(default_factory=dict)


def _of_texts(listed: object) -> tuple[str, ...]:
    """Return the texts of what a file's header may hold."""
    return tuple(text for text in listed if isinstance(text, str)) if isinstance(listed, list | tuple) else ()


def _cut(grid: Grid) -> Grid:
    """Return the first rows of a table, and say so."""
    if len(grid.rows) <= MOST_ROWS:
        return grid
    note = f"{grid.note} The first {MOST_ROWS} of {len(grid.rows)} rows; to_pandas() has all.".strip()
    return Grid(headers=grid.headers, rows=grid.rows[:MOST_ROWS], text_columns=grid.text_columns, note=note)


def _ranks(metrics: StepMetrics) -> dict[str, tuple[Grid, ...]]:
    return {"Rank by rank": (_cut(memory_grid(metrics)), _cut(time_grid(metrics)))}


def _plan(plan: Plan) -> Sheet:
    stages = len(plan.stage_rank)
    sizes = [counted(plan.ranks, "rank"), *([counted(stages, "stage")] if stages != plan.ranks else [])]
    sizes += [f"{plan.microbatches} microbatch{'es' * (plan.microbatches != 1)}", counted(len(plan), "operation")]
    sentence = () if plan.sentence is None else (plan.sentence,)
    return Sheet(title=f"Plan {plan.name}: {', '.join(sizes)}", sentences=sentence, tables=(_cut(_plan_grid(plan)),))


def _plan_grid(plan: Plan) -> Grid:
    ops, buffers = plan.ops, plan.buffers

    def count(*kinds: Kind) -> list[int]:
        found: list[int] = np.bincount(ops.rank[np.isin(ops.kind, kinds)], minlength=plan.ranks).tolist()
        return found

    def total(rank: Any, amounts: Any) -> list[int]:
        out = np.zeros(plan.ranks, dtype=np.int64)
        np.add.at(out, rank, amounts)
        sums: list[int] = out.tolist()
        return sums

    leaving, slots = ops.kind == Kind.OFFLOAD, buffers.space == Space.HOST
    columns = (
        range(plan.ranks),
        count(Kind.FORWARD),
        count(Kind.RECOMPUTE),
        count(Kind.BACKWARD, Kind.BACKWARD_INPUT),
        count(Kind.OFFLOAD),
        map(format_bytes, total(ops.rank[leaving], ops.nbytes[leaving])),
        map(format_bytes, total(buffers.rank[slots], buffers.nbytes[slots])),
    )
    return Grid(
        headers=("rank", "forwards", "recomputes", "backwards", "offloads", "copied out", "host slots"),
        rows=tuple(tuple(map(str, row)) for row in zip(*columns, strict=True)),
        text_columns=frozenset(),
    )


def _timeline(timeline: Timeline) -> Sheet:
    short = headline(timeline)
    how = f"measured on {timeline.source}" if timeline.is_measured else f"predicted by the {timeline.source} engine"
    costs = timeline.header.get("costs")
    sentences = [] if timeline.plan is None or timeline.plan.sentence is None else [timeline.plan.sentence]
    sentences += [f"Where times come from: {costs}."] if isinstance(costs, str) else []
    rows = [("step time", format_duration(short.step_time_ns))]
    if short.largest_device_bytes is not None:
        rows.append(("peak device memory", format_bytes(short.largest_device_bytes)))
    if short.peak_host_bytes is not None:
        rows.append(("peak host memory", format_bytes(short.peak_host_bytes)))
    if short.stalls_ns is not None:
        rows.append(("overlap", format_share(short.overlap)))
        for place, (stall, look) in enumerate(STALL_LOOKS.items()):
            rows.append((look.short if place else f"stall: {look.short}", format_duration(short.stalls_ns[stall])))
    ranks = len(short.peak_device_bytes)
    note = "Of the rank that has most of each." if ranks > 1 else ""
    folded = {}
    with suppress(InputError):
        folded = _ranks(timeline.metrics)
    return Sheet(
        title=f"A step of {timeline.plan_name}, {how}: {counted(len(timeline), 'operation')}, {counted(ranks, 'rank')}",
        sentences=tuple(sentences),
        warnings=_of_texts(timeline.header.get("warnings")),
        numbers=_in_a_row(rows, note),
        folded=folded,
    )


def _in_a_row(numbers: Sequence[tuple[str, str]], note: str) -> Grid:
    names, values = zip(*numbers, strict=True)
    return Grid(headers=names, rows=(values,), text_columns=frozenset(), note=note)


def _metrics(metrics: StepMetrics) -> Sheet:
    peak, host = format_bytes(metrics.peak_device_bytes), format_bytes(metrics.host_bytes)
    copies = f"{metrics.offloaded} of {metrics.offloaded + metrics.kept} boundaries are offloaded"
    return Sheet(
        title=f"A step of {format_duration(metrics.step_time_ns)}, peak device memory {peak}",
        sentences=(f"{copies}; the slots of the fullest host take {host}.",),
        tables=(_cut(memory_grid(metrics)), _cut(time_grid(metrics))),
    )


def _sweep(table: SweepTable) -> Sheet:
    if not table.rows:
        return Sheet(title="A sweep without points", warnings=table.warnings)
    chosen = table.choices()
    sentences = [choice.sentence for choice in chosen[:MOST_MODELS]]
    if len(chosen) > MOST_MODELS:
        sentences.append(f"... and {counted(len(chosen) - MOST_MODELS, 'more model')}.")
    if table.advice is not None:
        sentences.append(table.advice.sentence)
    of = "" if table.facts is None else f" of {table.facts.scenario}"
    return Sheet(
        title=f"A sweep{of}: {counted(len(table.rows), 'point')}",
        sentences=tuple(sentences),
        warnings=table.warnings,
        tables=(sweep_grid(table.rows, MOST_ROWS, () if table.facts is None else table.facts.model_axes),),
    )


def _comparison(found: Comparison) -> Sheet:
    return Sheet(
        title=f"{found.plan_name}, {' and '.join(found.sides)}",
        sentences=found.notes,
        tables=(comparison_grid(found),),
        folded={"Every kind of operation": (kinds_grid(found),)},
    )


def _comparisons(found: ComparisonOfMany) -> Sheet:
    return Sheet(
        title=f"{counted(len(found.pairs), 'pair')}, {' and '.join(found.sides)}",
        sentences=found.notes,
        tables=(_cut(many_grid(found)),),
        folded={"Every kind of operation": (kinds_grid(found),)},
    )


def _steps(found: StepComparison) -> Sheet:
    sides = " and ".join(f"{name}: {side.name}, {side.how}" for name, side in (("A", found.a), ("B", found.b)))
    return Sheet(
        title=f"Two steps. {sides}",
        sentences=(*found.sentences, *found.notes),
        tables=(step_grid(found),),
        folded={"Every kind of operation": (step_kinds_grid(found),)},
    )


def _sweeps(found: SweepComparison) -> Sheet:
    return Sheet(
        title=f"Two sweeps. A: {found.a.name} and B: {found.b.name}",
        sentences=found.sentences,
        tables=(sweeps_grid(found),) if found.moved else (),
    )


def _run(run: Run) -> Sheet:
    compared = _comparison(run.comparison())
    checked = (run.check.sentence,) if run.check.max_grad_error is not None else ("Gradients were not checked.",)
    steps = counted(len(run.execution.losses), "step")
    return Sheet(
        title=f"A run of {run.job.name} on {run.measured.source}: {steps}",
        sentences=(*checked, *compared.sentences),
        warnings=_of_texts(run.measured.header.get("warnings")),
        tables=compared.tables,
        folded={**compared.folded, "Measured, rank by rank": _ranks(run.metrics)["Rank by rank"]},
    )


def _costs(costs: Costs) -> Sheet:
    units = counted(sum(map(len, costs.units)), "unit")
    links = f"{format_rate(costs.d2h_bandwidth)} out, {format_rate(costs.h2d_bandwidth)} in"
    return Sheet(
        title=f"Costs of {units} in {counted(len(costs.units), 'stage')}, source: {costs.source}",
        sentences=(f"Copies go at {links}; a device has {format_bytes(costs.memory_bytes)}.",),
        tables=(_cut(_costs_grid(costs)),),
    )


def _costs_grid(costs: Costs) -> Grid:
    """Return a row for equal neighbours of a stage."""
    rows = []
    for stage, units in enumerate(costs.units):
        at = 0
        for unit, equal in groupby(units):
            many = len(list(equal))
            most = max(unit.workspace_forward, unit.workspace_recompute, unit.workspace_backward)
            times = map(format_duration, (unit.forward_ns, unit.recompute_ns, unit.backward_ns))
            rows.append((str(stage), str(at) if many == 1 else f"{at}-{at + many - 1}", *times, format_bytes(most)))
            at += many
    return Grid(
        headers=("stage", "units", "forward", "recompute", "backward", "workspace"),
        rows=tuple(rows),
        text_columns=frozenset(),
        note="Of one unit and microbatch; workspace: the most that is in use only while one of the three runs.",
    )


def _change(share: float | None) -> str:
    return NOTHING if share is None else f"{share:+.1%}".replace("%", " %").replace("-", "−")


def _advice(advice: Advice) -> Sheet:
    named = (
        ("all kept", advice.keep_all),
        ("advised", advice.best),
        ("the scenario's own", advice.own),
        ("the smallest", advice.smallest),
        ("the largest that saves memory", advice.largest),
        ("the largest that fits", advice.fitting),
    )
    rows = [
        (
            name,
            NOTHING if figures.horizon is None else str(figures.horizon),
            format_duration(figures.step_time_ns),
            NOTHING if figures is advice.keep_all else _change(figures.slower_than(advice.keep_all)),
            format_bytes(figures.peak_device_bytes),
            format_bytes(figures.host_bytes),
        )
        for name, figures in named
        if figures is not None
    ]
    headers = ("", "horizon", "step time", "against all kept", "peak device", "host, all GPUs")
    marked = frozenset(place for place, row in enumerate(rows) if row[0] == "advised")
    grid = Grid(headers=headers, rows=tuple(rows), marked=marked)
    return Sheet(title="Which horizon to set", sentences=(advice.sentence,), tables=(grid,))


def _inspection(found: Inspection) -> Sheet:
    degrees = found.degrees
    of = [
        f"{word} parallel {degree}"
        for word, degree in (
            ("pipeline", degrees.pipeline_parallel_degree),
            ("tensor", degrees.tensor_parallel_degree),
            ("data", degrees.data_parallel_degree),
        )
    ]
    rows = tuple(
        (
            str(stage.stage),
            str(stage.rank),
            format_bytes(stage.static_bytes),
            NOTHING if stage.ratios is None or stage.ratios.k is None else format_number(stage.ratios.k),
            NOTHING if stage.free is None or stage.free.at is None else str(stage.free.at.horizon),
        )
        for stage in found.stages
    )
    headers = ("stage", "rank", "resident", "k", "free from horizon")
    note = "k: the time of a stage's copies out and back over that of its computing."
    processes = f"{degrees.processes} process{'es' * (degrees.processes != 1)} on {counted(degrees.hosts, 'host')}"
    return Sheet(
        title=f"{found.scenario}: {counted(len(found.units), 'unit')}, {', '.join(of)}, {processes}",
        sentences=(*found.room_sentences, *_stage_sentences(found)),
        warnings=found.warnings,
        tables=(_cut(Grid(headers=headers, rows=rows, text_columns=frozenset(), note=note)),),
    )


def _stage_sentences(found: Inspection) -> list[str]:
    """Return what the ratios mean, once for neighbours of which the same is true, of the first ones."""
    out = []
    for sentence, same in groupby(found.stages, lambda stage: stage.sentence):
        numbers = [stage.stage for stage in same]
        who = f"Stage {numbers[0]}" if len(numbers) == 1 else f"Stages {numbers[0]} to {numbers[-1]}"
        out.append(f"{who}: {sentence}")
    more = len(out) - MOST_STAGES
    return [*out[:MOST_STAGES], *([f"... and {counted(more, 'more sentence')} on other stages."] if more > 0 else [])]


def _training(step: TrainingStep) -> Sheet:
    done = f"{counted(step.step, 'step')} done"
    try:
        planned = _plan(step.plan)
    except InputError as error:
        return Sheet(title=f"A training step, {done}", sentences=(f"{error}.",), warnings=step.warnings)
    return Sheet(
        title=f"A training step, {done}: {planned.title[0].lower()}{planned.title[1:]}",
        sentences=planned.sentences,
        warnings=step.warnings,
        tables=planned.tables,
    )


def _tuned(tuned: Tuned) -> Sheet:
    """Return the answer; the frontier where it was made, as it may take minutes."""
    row, bound = tuned.tuning.chosen.row, tuned.bound
    numbers = [
        ("step time", format_duration(row.step_time_ns)),
        ("bound", format_duration(bound.step_time_ns)),
        ("gap", format_error(tuned.gap)),
        ("peak device memory", format_bytes(row.peak_device_bytes)),
        ("boundaries of it", format_bytes(row.peak_boundary_bytes)),
        ("host memory", format_bytes(row.host_bytes)),
        ("leave", f"{row.offloaded} of {row.offloaded + row.kept}"),
    ]
    whole = tuned.known_frontier
    return Sheet(
        title=f"{tuned.job.name}, tuned{'' if tuned.fits else ': no plan fits'}",
        sentences=tuple(tuned.sentences),
        warnings=tuned.warnings,
        numbers=_in_a_row(numbers, ""),
        tables=() if whole is None or not whole.points else (_cut(frontier_grid(whole, tuned.tuning)),),
        folded=_ranks(tuned.step.metrics),
    )


_SHEETS: dict[str, Callable[[Any], Sheet]] = {
    "loadahead.sim.ir.plan.Plan": _plan,
    "loadahead.sim.timeline.Timeline": _timeline,
    "loadahead.sim.step_metrics.StepMetrics": _metrics,
    "loadahead.sim.costs.Costs": _costs,
    "loadahead.sim.advice.answer.Advice": _advice,
    "loadahead.api.SweepTable": _sweep,
    "loadahead.runs.Run": _run,
    "loadahead.reports.compare.Comparison": _comparison,
    "loadahead.reports.compare.ComparisonOfMany": _comparisons,
    "loadahead.reports.step_comparison.StepComparison": _steps,
    "loadahead.reports.sweep_comparison.result.SweepComparison": _sweeps,
    "loadahead.inspection.inspection.Inspection": _inspection,
    "loadahead.training.TrainingStep": _training,
    "loadahead.tuning.Tuned": _tuned,
}


def sheet_of(result: object) -> Sheet | None:
    """Return what is shown of a result beside its figures; None for what has nothing but its line."""
    make = _SHEETS.get(class_name(result))
    return None if make is None else make(result)
