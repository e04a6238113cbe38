"""GPUs that communicate form groups: those of one tensor-parallel layer, those of one layer's replicas, ..."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Says how many GPUs a collective has and on how many hosts they stand.

    Attributes:
        gpus: how many take part; with one nothing has to be communicated.
        hosts: on how many hosts they stand.
        lanes: how many such groups have GPUs on one of these hosts, and so share its network.
    """

    gpus: int = 1
    hosts: int = 1
    lanes: int = 1
