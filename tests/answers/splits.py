"""Over which GPUs a model is spread: how many, of how many hosts, and tensor parallelism times pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadahead.scenarios.catalogue.machines import Machine
from loadahead.scenarios.catalogue.transformers import Shape

# Beyond one host, so many whole ones are tried.
HOSTS = (2, 4, 8)
MICROBATCHES_A_STAGE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Says over how many GPUs of how many hosts a model is spread, and how."""

    hosts: int
    tensor: int
    pipeline: int

    @property
    def gpus(self) -> int:
        """Return how many GPUs it takes: there is one replica."""
        return self.tensor * self.pipeline

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a step."""
        return MICROBATCHES_A_STAGE * self.pipeline


def counts(machine: Machine) -> Iterator[tuple[int, int]]:
    """Yield each number of GPUs that is tried, with how many hosts these are: the fewest first."""
    gpus = 1
    while gpus <= machine.gpus_per_host:
        yield gpus, 1
        gpus *= 2
    yield from ((hosts * machine.gpus_per_host, hosts) for hosts in HOSTS)


def splits(shape: Shape, machine: Machine, gpus: int, hosts: int) -> Iterator[Split]:
    """Yield the ways of spreading a model over so many GPUs, the smallest tensor parallelism first.

    Tensor parallelism stays inside a host and divides attention's heads and key-value heads. A stage has a layer or
    more.
    """
    for tensor in range(1, min(gpus, machine.gpus_per_host) + 1):
        heads = (shape.heads, shape.kv_heads or shape.heads)
        if gpus % tensor or any(each % tensor for each in heads) or gpus // tensor > shape.layers:
            continue
        yield Split(hosts=hosts, tensor=tensor, pipeline=gpus // tensor)
