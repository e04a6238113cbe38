"""Makes a page's section about a sweep: its table, or the best rows of a long one, and which row is marked and why."""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.reports import run_directory
from loadahead.reports.page.markup import Html, element, joined, links, paragraphs, table
from loadahead.reports.page.outline import Section, section
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import sweep_grid
from loadahead.sim.choice import choices
from loadahead.sim.units import counted

# The page of a longer sweep shows its best rows and links the file.
LONGEST_SWEEP, BEST_ROWS = 24, 12
# Of more combinations the first are told, folded.
MOST_ADVICE = 12


def sweep_section(data: RunData) -> Section:
    """Return the sweep's table and what it says; nothing where none was made."""
    key, title = "sweep", "Sweep, simulated"
    if not data.sweep:
        return section(key, title)
    long = len(data.sweep) > LONGEST_SWEEP
    grid = sweep_grid(data.sweep, BEST_ROWS if long else None, data.model_axes)
    chosen = choices(data.sweep, model_axes=data.model_axes)
    sentences = [choice.sentence for choice in chosen[:BEST_ROWS]]
    if len(chosen) > len(sentences):
        sentences.append(f"... and {counted(len(chosen) - len(sentences), 'more model')}.")
    parts = [table(grid, title), paragraphs(sentences)]
    if data.facts is not None:
        # The first one stands above where it is the marked point's, of which the answer says more.
        first, others = data.facts.advice[:1], data.facts.advice[1:]
        parts += [] if data.advice is None and data.found is not None else [paragraphs(list(first))]
        parts += _each(others)
    all_rows = _there(data, run_directory.SWEEP_CSV, run_directory.SWEEP_PARQUET)
    if all_rows:
        parts.append(element("p", f"All {len(data.sweep)} rows: ", links(all_rows), *_made_with(data), class_="note"))
    return section(key, title, joined(*parts))


def _each(advice: Sequence[str]) -> list[Html]:
    """Return what the horizons of each combination of the other axes say, to unfold."""
    if not advice:
        return []
    more = len(advice) - MOST_ADVICE
    told = [element("li", sentence) for sentence in advice[:MOST_ADVICE]]
    told += [element("li", f"... and {counted(more, 'more combination')}.")] if more > 0 else []
    words = f"What the horizons of {counted(len(advice), 'combination')} of the other axes say"
    return [element("details", element("summary", words), element("ul", *told))]


def _made_with(data: RunData) -> list[str]:
    facts = _there(data, run_directory.SWEEP_FACTS) if data.facts is not None else []
    return ["; made with: ", links(facts)] if facts else []


def _there(data: RunData, *names: str) -> list[str]:
    return [name for name in names if data.directory is not None and (data.directory / name).is_file()]
