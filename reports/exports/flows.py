"""Says which arrows a trace has: where a boundary goes, what a send becomes, and what was waited for."""

from __future__ import annotations

from enum import Enum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from loadahead.sim.ir.kinds import RECV_KINDS, SENT_AS, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.stalls import Waits
from loadahead.sim.timeline import Timeline

BOUNDARY, TRANSFER, WAIT = "boundary", "transfer", "wait"
# What reads a boundary that has come back: the first of these that there is.
_READERS = (Kind.RECOMPUTE, Kind.BACKWARD, Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)
_Mask = npt.NDArray[np.bool_]


class Step(Enum):
    """Says where on an arrow's way an operation is."""

    START = "start"
    STEP = "step"
    END = "end"


# An arrow's kind, and the rows of the operations that it leads through.
Chain = tuple[str, tuple[int, ...]]


def chains(timeline: Timeline, waited: Waits | None) -> list[Chain]:
    """Return the arrows of a timeline; those of waits need its plan's edges.

    A wait for an operation that another arrow leads from to the same place has none of its own. Arrows go forward in
    time: there is none where times say otherwise, as those of several clocks may.
    """
    starts = timeline.start_ns.tolist()

    def forward(rows: tuple[int, ...]) -> bool:
        return all(starts[one] <= starts[other] for one, other in pairwise(rows))

    boundary, transfer = (list(filter(forward, some)) for some in (_boundaries(timeline), _transfers(timeline)))
    found = [(BOUNDARY, rows) for rows in boundary] + [(TRANSFER, rows) for rows in transfer]
    if waited is not None:
        drawn = {pair for rows in (*boundary, *transfer) for pair in pairwise(rows)}
        late = np.flatnonzero(waited.wait_ns > 0)
        pairs = zip(waited.edge[late].tolist(), late.tolist(), strict=True)
        found += [(WAIT, pair) for pair in pairs if pair not in drawn and forward(pair)]
    return found


def _boundaries(timeline: Timeline) -> list[tuple[int, ...]]:
    """Return OFFLOAD, PREFETCH and reader of each boundary that leaves and comes back, in the order of OFFLOADs."""
    key = _keys(timeline.stage, timeline.unit, timeline.microbatch)
    offloads = np.flatnonzero(timeline.kind == Kind.OFFLOAD)
    prefetch = _first(key, timeline.kind == Kind.PREFETCH, key[offloads])
    reader = np.full(len(offloads), -1, dtype=np.int64)
    for kind in _READERS:
        reader = np.where(reader >= 0, reader, _first(key, timeline.kind == kind, key[offloads]))
    rows = zip(offloads.tolist(), prefetch.tolist(), reader.tolist(), strict=True)
    chosen = (tuple(row for row in chain if row >= 0) for chain in rows)
    return [chain for chain in chosen if len(chain) > 1 and list(chain) == sorted(set(chain))]


def _transfers(timeline: Timeline) -> list[tuple[int, ...]]:
    """Return the SEND and the RECV of each transfer between stages, in the order of RECVs."""
    found: list[tuple[int, int]] = []
    for kind in sorted(RECV_KINDS):
        sent, step = SENT_AS[kind]
        receives = np.flatnonzero(timeline.kind == kind)
        sends = timeline.kind == sent
        key = _keys(np.where(sends, timeline.stage - step, timeline.stage), timeline.microbatch)
        found += zip(_first(key, sends, key[receives]).tolist(), receives.tolist(), strict=True)
    return [pair for pair in sorted(found, key=lambda pair: pair[1]) if 0 <= pair[0] < pair[1]]


def _keys(*columns: Ints | npt.NDArray[np.int32]) -> Ints:
    """Return one number for each row, equal where all columns are; shape (operations,)."""
    out: Ints = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return out


def _first(key: Ints, among: _Mask, wanted: Ints) -> Ints:
    """Return the first row among some that has each wanted key, or -1; shape as ``wanted``."""
    rows = np.flatnonzero(among)
    found, at = np.unique(key[rows], return_index=True)
    if not len(found):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(found, wanted), len(found) - 1)
    return np.where(found[place] == wanted, rows[at[place]], -1)
