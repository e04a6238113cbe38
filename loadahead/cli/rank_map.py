"""Shows where processes stand, as the command line does."""

from __future__ import annotations

from loadahead.cli.tables import table_text
from loadahead.reports.rank_map import KEY, degrees_sentence, left_out_sentence, rank_grid
from loadahead.sim.placement import RankMap


def rank_map_text(rank_map: RankMap) -> str:
    """Return the degrees and the hosts in a sentence, and a row for each process, or for the first and last of many."""
    left_out = left_out_sentence(rank_map, " (all: --json)")
    lines = [degrees_sentence(rank_map), *([left_out] if left_out else [])]
    return "\n".join([*lines, "", table_text(rank_grid(rank_map)), KEY])
