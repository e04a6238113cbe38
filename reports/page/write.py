"""Writes one page from a run directory: the answer first, then numbers, figures, tables, and how far to trust them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from loadahead.reports import run_directory
from loadahead.reports.answer import answer_of
from loadahead.reports.compare import compare
from loadahead.reports.page import assets, head
from loadahead.reports.page.background import machine_section, missing_sentence, trust_section
from loadahead.reports.page.commands import CommandsOf, PageCommands, no_commands
from loadahead.reports.page.explorer import explorer
from loadahead.reports.page.figures import figures_section, remove_figures
from loadahead.reports.page.going_on import reproduce_section, traces_section
from loadahead.reports.page.outline import Entry, Part, Section, there
from loadahead.reports.page.run_sections import comparison_section, horizons_section, ranks_section
from loadahead.reports.page.smp_section import smp_section
from loadahead.reports.page.sweep_section import sweep_section
from loadahead.reports.page.tiles import tiles
from loadahead.reports.page.tuned_section import tuned_section
from loadahead.reports.run_data import RunData, load_run
from loadahead.sim.errors import InputError

# What begins the addresses and the files of a sweep that is of something else than the run beside it.
SWEEP = "sweep-"
# Further warnings are folded.
MOST_WARNINGS = 3


def write_report(
    directory: str | Path, commands: CommandsOf | None = None, warn: Callable[[Iterable[str]], object] | None = None
) -> Path:
    """Write ``report.html``, which needs no other file, and ``figures/`` beside it; return the page's path.

    ``commands`` returns the command lines that the page shows; ``warn`` is told of files that it goes on without. Parts
    that the directory does not hold are left out and named. Raises InputError when a part is malformed, when there is
    none, or when the page cannot be written.
    """
    data = load_run(directory)
    if warn is not None:
        warn(data.unread.values())
    root = Path(directory)
    try:
        page = _page(data, root / run_directory.FIGURES_FOLDER, (commands or no_commands)(data))
        out = root / run_directory.PAGE
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{root}: the report cannot be written there ({error.strerror})") from error
    return out


def parts_of(data: RunData) -> tuple[RunData, ...]:
    """Return a run and a sweep that are of different things apart from each other; what belongs together as it is."""
    if data.facts is None or not data.sweep:
        return (data,)
    of_sweep = {name: text for name, text in data.unread.items() if name == run_directory.SWEEP_POINTS}
    of_run = {name: text for name, text in data.unread.items() if name not in of_sweep}
    run = replace(data, sweep=(), facts=None, points=None, unread=of_run)
    name = head.run_name(run)
    theirs, ours = run.about.model, data.facts.about.model if data.facts.about is not None else None
    same = data.facts.scenario == name and (theirs is None or ours is None or theirs == ours)
    if name is None or same:
        return (data,)
    sweep = RunData(directory=data.directory, sweep=data.sweep, facts=data.facts, points=data.points, unread=of_sweep)
    return run, sweep


def _page(data: RunData, figures: Path, commands: PageCommands) -> str:
    apart = parts_of(data)
    parts = [_part(one, figures, commands, SWEEP if place else "", len(apart)) for place, one in enumerate(apart)]
    if len(apart) == 1:
        remove_figures(figures, SWEEP)
    after = there(
        [
            smp_section(data.smp),
            machine_section(data),
            traces_section(data, commands),
            reproduce_section(data, commands),
        ]
    )
    return assets.rendered(
        title=_title(apart),
        parts=parts,
        after=after,
        missing=missing_sentence(data),
        contents=_contents(parts, after),
        most_warnings=MOST_WARNINGS,
    )


def _title(apart: Sequence[RunData]) -> str:
    """Return what the page is of; of two parts both names."""
    if len(apart) == 1:
        return head.title_of(apart[0])
    run, sweep = (head.name_of(one) for one in apart)
    return f"A run of {run} and a sweep of {sweep}"


def _part(data: RunData, figures: Path, commands: PageCommands, whose: str, parts: int) -> Part:
    comparison = None
    if data.predicted is not None and data.measured is not None:
        comparison = compare(data.predicted, data.measured)
    sections = [
        tuned_section(data.tuning),
        figures_section(data, figures, whose),
        comparison_section(comparison),
        sweep_section(data),
        horizons_section(data),
        ranks_section(data),
        trust_section(data),
    ]
    return Part(
        whose=whose,
        title=f"{'The sweep' if whose else 'The run'}: {head.title_of(data)}" if parts > 1 else "",
        facts=head.facts_of(data),
        answer=answer_of(data, commands.next_words),
        plan=_plan_sentence(data),
        tiles=tiles(data),
        warnings=head.warnings_of(data),
        explorer=explorer(data, commands.point, whose, level=3 if parts > 1 else 2),
        sections=there(sections),
    )


def _plan_sentence(data: RunData) -> str:
    """Return what the plan says of itself; of a tuned one the answer says it already, and more."""
    return "" if data.plan is None or data.tuning is not None else data.plan.sentence or ""


def _contents(parts: Sequence[Part], after: Sequence[Section]) -> list[Entry]:
    """Return the page's table of contents."""
    out = []
    for part in parts:
        inner = bool(part.title)
        if inner:
            out.append(Entry(key=f"{part.whose}part", title=part.title))
        if part.explorer:
            out.append(Entry(key=f"{part.whose}explore", title="Explorer", inner=inner))
        out += [Entry(key=f"{part.whose}{one.key}", title=one.title, inner=inner) for one in part.sections]
    return [*out, *(Entry(key=one.key, title=one.title) for one in after)]
