"""The texts that commands print for people: a sentence or two and a table from `loadahead.reports.tables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loadahead.cli.tables import table_text
from loadahead.reports.answer import Words, answer, plain_words
from loadahead.reports.compare import Comparison, ComparisonOfMany
from loadahead.reports.run_data import RunData, load_run
from loadahead.reports.step_comparison import StepComparison
from loadahead.reports.sweep_comparison import SweepComparison, sweeps_grid
from loadahead.reports.tables import (
    Grid,
    comparison_grid,
    kinds_grid,
    many_grid,
    memory_grid,
    step_grid,
    step_kinds_grid,
    sweep_grid,
    time_grid,
)
from loadahead.reports.training_check import EQUAL, worst
from loadahead.sim.step_metrics import STEP_TIME
from loadahead.sim.units import counted, format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from loadahead.demo import DemoResult
    from loadahead.prediction import Prediction
    from loadahead.runs import Run
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.tuning import Tuning
    from loadahead.sweeps.run import Swept


# Rows of a sweep that are shown; the files hold all of them.
MOST_ROWS = 50
# So many ranks are shown, half of them the first: a table of thousands takes longer than the simulation.
MOST_RANKS = 128


def plan_text(plan: Plan, order_given: bool) -> str:
    """Return in words what a plan is, what it offloads, and the order that was given for it."""
    ranks = counted(plan.ranks, "rank")
    lines = [f"{plan.name}: {len(plan)} operations on {ranks}, {plan.microbatches} microbatches; proven safe to run"]
    if order_given:
        lines.append(f"Order {plan.policy['pipeline']}: {counted(len(plan.stage_rank), 'stage')} on {ranks}.")
    return "\n".join([*lines, *([plan.sentence] if plan.sentence else [])])


def bound_text(tuning: Tuning) -> str:
    """Return how far a tuned step is from what no plan of its order under its limits is faster than."""
    from loadahead.sim.tuning.words import gap_text

    takes = f"takes less than {format_duration(tuning.bound.step_time_ns)}"
    # Where the least memory is looked for, the bound on the time says nothing of how good the plan is.
    if tuning.limit_ns is not None:
        return f"Tuned: no plan of this order that needs no more memory {takes}."
    return f"Tuned: no plan of this order under these limits {takes}; this one takes {gap_text(tuning.gap)}."


def answer_text(name: str, data: RunData, words: Words = plain_words) -> str:
    """Return the answer as lines, which begin with what it is about."""
    return f"{name}: " + "\n".join(answer(data, words))


def step_text(predicted: Prediction, words: Words = plain_words) -> str:
    """Return a predicted step in words, the answer first, and as a table of its ranks."""
    job, step, metrics = predicted.job, predicted.step, predicted.step.metrics
    found = {} if predicted.advice is None else predicted.advice.to_dict()
    data = RunData(plan=job.plan, predicted=step, findings=found, keep_all=predicted.keep_all)
    lines = [answer_text(job.name, data, words)]
    lines += [job.plan.sentence] if job.plan.sentence else []
    lines += [] if job.tuning is None else [bound_text(job.tuning)]
    contended = step.header.get("contended", [])
    if contended:
        lines.append(
            "Copies and sends slow each other down on shared links: "
            f"{', '.join(contended[:4])}{', ...' if len(contended) > 4 else ''}."
        )
    if predicted.jitter is not None:
        lines.append(jitter_sentence(predicted.jitter))
    grids = (some_rows(memory_grid(metrics)), some_rows(time_grid(metrics)))
    if len(metrics.ranks) > MOST_RANKS:
        lines.append(f"Of {len(metrics.ranks)} ranks the first and the last are shown (all of them: --json).")
    return "\n".join([*lines, *(part for grid in grids for part in ("", table_text(grid)))])


def some_rows(grid: Grid, most: int = MOST_RANKS) -> Grid:
    """Return a table with the first and the last of its rows where it has many."""
    if len(grid.rows) <= most:
        return grid
    between = ("...",) * len(grid.headers)
    return replace(grid, rows=(*grid.rows[: most // 2], between, *grid.rows[-(most // 2) :]))


def advice_text(advice: Advice) -> str:
    """Return the advice as the command line shows it."""
    return f"Advice: {advice.sentence}"


def jitter_sentence(jitter: dict[str, Any]) -> str:
    """Return the sentence that says how far the step's time spreads."""
    times = {name: format_duration(ns) for name, ns in jitter[STEP_TIME].items()}
    return (
        f"In {jitter['draws']} draws (seed {jitter['seed']}) with spread {jitter['compute']:g} on compute and "
        f"{jitter['copies']:g} on copies, {jitter['distribution']}, the step takes {times['mean']} on average, "
        f"{times['p05']} to {times['p95']} in 90 % of them{'; ' + jitter['note'] if 'note' in jitter else ''}."
    )


def warnings_to_show(warnings: Sequence[str], most: int = 20) -> list[str]:
    """Return the first few warnings: a sweep over many scenarios may have one for each."""
    more = len(warnings) - most
    return [*warnings[:most], *([f"{counted(more, 'more warning')} (all of them: --json)"] if more > 0 else [])]


def sweep_text(name: str, swept: Swept, words: Words = plain_words, most: int = 8) -> str:
    """Return a sweep's answer, its best points as a table, and what its horizons say of each combination of others."""
    data = RunData(sweep=swept.rows, facts=swept.facts)
    each = swept.advice.each_in_words()
    lines = each[:most]
    if len(each) > most:
        lines.append(f"... and {counted(len(each) - most, 'more combination')} (all of them: --json)")
    table = table_text(sweep_grid(swept.rows, MOST_ROWS, swept.facts.model_axes))
    return "\n\n".join([answer_text(name, data, words), table, *(["\n".join(lines)] if lines else [])])


def comparison_text(result: Comparison | ComparisonOfMany | StepComparison) -> str:
    """Return what is compared with what, both sides, then every kind of operation, as tables."""
    if isinstance(result, StepComparison):
        said = [f"{name}: {side.name}, {side.how}" for name, side in (("A", result.a), ("B", result.b))]
        tables = [step_grid(result), step_kinds_grid(result)]
        return "\n\n".join(["\n".join([*said, *result.sentences]), *map(table_text, tables), *_last(result)])
    first = comparison_grid(result) if isinstance(result, Comparison) else many_grid(result)
    named = [] if result.files is None else [", ".join(map(" ".join, zip(_sides(result), result.files, strict=True)))]
    return "\n\n".join([*named, table_text(first), table_text(kinds_grid(result)), *_last(result)])


def _sides(result: Comparison | ComparisonOfMany) -> tuple[str, str]:
    a, b = result.sides
    return f"{a[0].upper()}{a[1:]}:", f"{b}:"


def _last(result: Comparison | ComparisonOfMany | StepComparison) -> list[str]:
    """Return what is to be noted of the two, and what else could be compared where two runs were named."""
    others = () if isinstance(result, ComparisonOfMany) else result.others
    also = [f"To compare others of the two: {'; or '.join(map(' '.join, others))}"] if others else []
    return [*result.notes, *also]


def sweep_comparison_text(result: SweepComparison) -> str:
    """Return how one sweep differs from another, in words and as a table of what moved most."""
    lines = [f"A: {result.a.name}", f"B: {result.b.name}", *result.sentences]
    return "\n".join([*lines, *(["", table_text(sweeps_grid(result))] if result.moved else [])])


def run_text(run: Run, advice: Advice | None, words: Words = plain_words) -> str:
    """Return a run beside its prediction, in words, the answer first, and as a table."""
    found = {} if advice is None else advice.to_dict()
    data = RunData(plan=run.job.plan, predicted=run.predicted, measured=run.measured, costs=run.costs, findings=found)
    return f"{answer_text(run.job.name, data, words)}\n{_trained(run)}"


def _trained(run: Run) -> str:
    """Return what a run trained and how that compares with plain training, then the comparison as a table."""
    done, link = run.execution, run.measured.header.get("link")
    loss = f"loss {done.losses[0]:.4f} -> {done.losses[-1]:.4f}; {run.check.sentence}"
    lines = [f"Trained {counted(len(done.losses), 'step')} on {run.measured.source}, {loss}"]
    lines += [run.job.plan.sentence] if run.job.plan.sentence else []
    comparison = run.comparison()
    lines += [str(link)] if link else []
    return "\n".join([*lines, "", table_text(comparison_grid(comparison)), *comparison.notes])


def costs_text(name: str, costs: Costs) -> str:
    """Return calibrated costs as a table, a row per unit."""
    rows = [
        (
            f"{s}.{u}",
            unit.way,
            *(format_duration(ns) for ns in (unit.forward_ns, unit.recompute_ns, unit.backward_ns)),
            *(format_bytes(n) for n in (unit.workspace_forward, unit.workspace_recompute, unit.workspace_backward)),
        )
        for s, stage in enumerate(costs.units)
        for u, unit in enumerate(stage)
    ]
    headers = ("unit", "way", "forward", "recompute", "backward", "workspace: forward", "recompute", "backward")
    link = f"link {format_rate(costs.d2h_bandwidth)} out, {format_rate(costs.h2d_bandwidth)} in"
    static = ", ".join(format_bytes(n) for n in costs.static_bytes)
    text = table_text(Grid(headers=headers, rows=tuple(rows)))
    return f"{name}: {costs.source}\n\n{text}\n\n{link}; resident per stage: {static}"


def demo_text(done: DemoResult, words: Words = plain_words) -> str:
    """Return the demo's answer, its sweep, its run beside the prediction, and where its report is."""
    said = answer_text(done.run.job.name, load_run(done.report.parent), words)
    nearest = [] if done.choice.fits else ["Nothing fits; the nearest is run all the same."]
    sweep = table_text(sweep_grid(done.sweep, MOST_ROWS))
    return "\n\n".join([said, *nearest, sweep, _trained(done.run), *_order(done), f"report: {done.report}"])


def _order(done: DemoResult) -> list[str]:
    if not done.horizons:
        return []
    found = worst({point.horizon: point.run.check for point in done.horizons})
    checked = f"In all of them {EQUAL}" if found is None else f"At horizon {found[0]}: {found[1].sentence}"
    return [
        f"Horizons measured: {len(done.horizons)}; pairs predicted more than 10 % apart and measured in the other "
        f"order: {done.horizons_in_wrong_order()}. {checked}."
    ]
