"""Says where processes stand, as a sentence and a table; of many processes the first and the last hosts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loadahead.reports.tables import Grid
from loadahead.sim.ir.plan import Ints
from loadahead.sim.placement import RankMap
from loadahead.sim.units import counted

# So many processes are shown one by one, and of more as many as this of the first and of the last host.
MOST_SHOWN, MOST_OF_A_HOST = 32, 16
_COLUMNS = ("rank", "host", "gpu", "switch", "d", "p", "t")
_PARTS = ("d", "p", "t")
KEY = "rank: process; gpu and switch: counted on each host; d: replica; p: rank of the pipeline; t: tensor part"


def rank_grid(rank_map: RankMap) -> Grid:
    """Return a row for each process, or for the first and last of many."""
    shown = _shown(rank_map)
    columns = [getattr(rank_map, name)[shown].tolist() for name in _COLUMNS]
    rows = [tuple(map(str, row)) for row in zip(*columns, strict=True)]
    gap = np.flatnonzero(np.diff(shown) > 1)
    if len(gap):
        rows.insert(int(gap[0]) + 1, ("...",) * len(_COLUMNS))
    return Grid(headers=_COLUMNS, rows=tuple(rows), text_columns=frozenset())


def degrees_sentence(rank_map: RankMap) -> str:
    """Return how many processes there are, by which degrees, and on how many hosts."""
    d, p, t = (int(getattr(rank_map, name).max()) + 1 for name in _PARTS)
    processes = len(rank_map.rank)
    on_first, on_last = (int((rank_map.host == host).sum()) for host in (0, rank_map.hosts - 1))
    hosts = counted(rank_map.hosts, "host")
    if rank_map.hosts > 1:
        hosts += f" with {counted(on_first, 'GPU')} in use on each"
    if on_first != on_last:
        hosts += f" but {on_last} on the last"
    many = "1 process" if processes == 1 else f"{processes} processes"
    return f"{many} on {hosts}: data parallel {d}, pipeline parallel {p}, tensor parallel {t}."


def left_out_sentence(rank_map: RankMap, hint: str = "") -> str | None:
    """Return how the hosts that :func:`rank_grid` does not show differ from the first, GPU by GPU.

    None comes back where all are shown. ``hint`` says where all of them are.
    """
    shown = _shown(rank_map)
    if not (np.diff(shown) > 1).any():
        return None
    between = np.flatnonzero((rank_map.host > 0) & (rank_map.host < rank_map.hosts - 1))
    left_out = len(rank_map.rank) - len(shown)
    told = f"{left_out} of them are not shown"
    if not len(between):
        return f"{told}{hint}."
    # Hosts are filled one after the other, so that those between are full, as the first is.
    like = rank_map.gpu[between]
    differ = [name for name in _PARTS if (getattr(rank_map, name)[between] != getattr(rank_map, name)[like]).any()]
    same = [name for name in _PARTS if name not in differ]
    first, last = int(rank_map.host[between[0]]), int(rank_map.host[between[-1]])
    hosts = f"host {first} differs" if first == last else f"hosts {first} to {last} differ"
    alone = f" alone; {_and(same)} {'is' if len(same) == 1 else 'are'} the same" if same else ""
    return f"{told}{hint}: GPU by GPU, {hosts} from host 0 in {_and(differ)}{alone}."


def _shown(rank_map: RankMap) -> Ints:
    """Return the processes that get a row, in rising order."""
    if len(rank_map.rank) <= MOST_SHOWN:
        return rank_map.rank
    first = np.flatnonzero(rank_map.host == 0)[:MOST_OF_A_HOST]
    last = np.flatnonzero(rank_map.host == rank_map.hosts - 1)[-MOST_OF_A_HOST:]
    return np.union1d(first, last)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
