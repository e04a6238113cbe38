"""Processes stand on hosts: which host, GPU and PCIe switch each has, and which part of the step it works on.

A simulated rank is one GPU of the pipeline and stands for its peers: those that hold the same stage in other
tensor-parallel parts and in other replicas. All run in step, so that where they stand decides which links are busy at
the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints

# The orders of data (D), pipeline (P) and tensor (T) parallelism: the right-most varies fastest over the processes, as
# in SageMaker's ``placement_strategy``.
PlacementOrder = Literal["DPT", "DTP", "PDT", "PTD", "TDP", "TPD"]
PLACEMENT_ORDERS: tuple[str, ...] = get_args(PlacementOrder)
# A map of more processes would take long to look at, and no cluster has them.
MOST_PROCESSES = 200_000


class Reach(IntEnum):
    """Says where a rank's peers stand and those that they send to: on one host each, on two, or some so and some so."""

    HOST = 0
    BOTH = 1
    NETWORK = 2


_Degree = Annotated[int, Field(ge=1, le=MOST_PROCESSES)]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RankMap:
    """Says where each process stands and what it works on; all arrays have shape (processes,).

    Attributes:
        rank: the processes' numbers, as a launcher counts them.
        host: the host, filled one after the other.
        gpu, switch: the GPU and the PCIe switch, counted from 0 on each host.
        d, p, t: the replica, the rank of the pipeline, and the tensor-parallel part.
    """

    rank: Ints
    host: Ints
    gpu: Ints
    switch: Ints
    d: Ints
    p: Ints
    t: Ints

    @property
    def hosts(self) -> int:
        """Return how many hosts there are."""
        return int(self.host[-1]) + 1

    def by_host(self, pipeline: int) -> Ints:
        """Return rows of host, rank of the pipeline, and how many GPUs of the host work for it; in ascending order.

        Shape (pairs that are there, 3): a host has only a few of many ranks.
        """
        pair, gpus = np.unique(self.host * pipeline + self.p, return_counts=True)
        return np.stack([pair // pipeline, pair % pipeline, gpus], axis=1)

    def rows(self) -> list[dict[str, int]]:
        """Return a dictionary for each process (DESIGN, section 4, inspect)."""
        names = ("rank", "host", "gpu", "switch", "d", "p", "t")
        columns = [getattr(self, name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


class Placement(BaseModel):
    """Says how many replicas and tensor-parallel parts there are, and on what hosts all processes stand.

    Attributes:
        order: one of :data:`PLACEMENT_ORDERS`.
        data, tensor: replicas, and GPUs that share the work of a rank.
        gpus_per_host: processes on one host; None: all are on the same one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    order: PlacementOrder = "DPT"
    data: _Degree = 1
    tensor: _Degree = 1
    gpus_per_host: _Degree | None = None

    def processes(self, pipeline: int) -> int:
        """Return how many processes there are for so many ranks of the pipeline."""
        return self.data * pipeline * self.tensor

    def table(self, pipeline: int, gpus_per_switch: int | None = None) -> RankMap:
        """Return where all processes stand; raise InputError where there are too many.

        Args:
            pipeline: ranks of the pipeline.
            gpus_per_switch: GPUs of a host that sit behind one PCIe switch; None: all of them.
        """
        processes = self.processes(pipeline)
        if processes > MOST_PROCESSES:
            raise InputError(
                f"data, pipeline and tensor parallelism of {self.data} x {pipeline} x {self.tensor} need {processes} "
                f"processes; at most {MOST_PROCESSES} can be placed, use smaller degrees"
            )
        return _table(self, pipeline, gpus_per_switch)

    def lanes(self, pipeline: int) -> Ints:
        """Return the process of each rank in every replica and tensor-parallel part; shape (lanes, ranks)."""
        found = self.table(pipeline)
        out = np.empty((self.data * self.tensor, pipeline), dtype=np.int64)
        out[found.d * self.tensor + found.t, found.p] = found.rank
        return out

    def reach(self, pipeline: int, sender: Ints, receiver: Ints) -> Ints:
        """Return the :class:`Reach` of what ranks send to others, of all lanes together; shape as ``sender``."""
        if not self.is_apart(pipeline):
            return np.full(len(sender), Reach.HOST, dtype=np.int64)
        pairs, back = np.unique(sender * pipeline + receiver, return_inverse=True)
        host = _hosts(self, pipeline)
        leaves = host[:, pairs // pipeline] != host[:, pairs % pipeline]
        found = np.where(leaves.all(axis=0), Reach.NETWORK, np.where(leaves.any(axis=0), Reach.BOTH, Reach.HOST))
        out: Ints = found[back]
        return out

    def is_apart(self, pipeline: int) -> bool:
        """Return whether any lane has ranks on several hosts."""
        return self.gpus_per_host is not None and _is_apart(self, pipeline)

    def occupancy(self, pipeline: int) -> Ints:
        """Return the rows of :meth:`RankMap.by_host` of hosts that differ in them, which are counted from 0."""
        return _occupancy(self, pipeline)


@lru_cache(maxsize=64)
def _hosts(placement: Placement, pipeline: int) -> Ints:
    """Return the host of each rank, of lanes that differ in that; shape (lanes, ranks)."""
    out: Ints = np.unique(placement.table(pipeline).host[placement.lanes(pipeline)], axis=0)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def _is_apart(placement: Placement, pipeline: int) -> bool:
    host = _hosts(placement, pipeline)
    return bool((host != host[:, :1]).any())


@lru_cache(maxsize=64)
def _occupancy(placement: Placement, pipeline: int) -> Ints:
    rows = placement.table(pipeline).by_host(pipeline)
    of_host = np.split(rows[:, 1:], np.flatnonzero(np.diff(rows[:, 0])) + 1)
    alike = {one.tobytes(): one for one in of_host}.values()
    host = np.repeat(np.arange(len(alike)), [len(one) for one in alike])
    return np.ascontiguousarray(np.column_stack([host, np.concatenate(list(alike))]), dtype=np.int64)


@lru_cache(maxsize=64)
def _table(placement: Placement, pipeline: int, gpus_per_switch: int | None) -> RankMap:
    degrees = {"D": placement.data, "P": pipeline, "T": placement.tensor}
    shape = [degrees[letter] for letter in placement.order]
    rank = np.arange(placement.processes(pipeline), dtype=np.int64)
    part: dict[str, Any] = dict(zip(placement.order, np.unravel_index(rank, shape), strict=True))
    host, gpu = np.divmod(rank, placement.gpus_per_host or len(rank))
    switch = gpu // gpus_per_switch if gpus_per_switch is not None else np.zeros_like(gpu)
    columns = {"host": host, "gpu": gpu, "switch": switch, "d": part["D"], "p": part["P"], "t": part["T"]}
    found = RankMap(rank=rank, **{name: np.asarray(column, dtype=np.int64) for name, column in columns.items()})
    for name in ("rank", *columns):
        getattr(found, name).setflags(write=False)
    return found
