"""Makes a page's section about SageMaker's options: what became of each key, and where each process stands."""

from __future__ import annotations

from loadahead.reports.page.markup import element, joined, table
from loadahead.reports.page.outline import Block, Section, section
from loadahead.reports.rank_map import KEY, degrees_sentence, left_out_sentence, rank_grid
from loadahead.reports.smp_options import SmpOptions
from loadahead.reports.tables import Grid


def smp_section(options: SmpOptions | None) -> Section:
    """Return the keys and the rank map; nothing where the run is not of such options."""
    if options is None:
        return section("smp", "SageMaker's options")
    keys = Grid(
        headers=("key", "value", "where it went"),
        rows=tuple((row.key, row.value, row.where) for row in options.keys),
        text_columns=frozenset({0, 1, 2}),
    )
    words = f"{options.source} became the scenario {options.scenario}: model parallel library {options.version}."
    ranks = options.rank_map()
    left_out = left_out_sentence(ranks)
    sentences = [degrees_sentence(ranks), *([left_out] if left_out else [])]
    where = joined(
        *(element("p", sentence) for sentence in sentences),
        table(rank_grid(ranks), "Where each process stands", sortable=left_out is None),
        element("p", KEY, class_="note"),
    )
    return section(
        "smp",
        "SageMaker's options",
        joined(element("p", words), table(keys, "What became of each key")),
        Block(title="Where each process stands", body=where),
    )
