"""How many processes the options start, and how the degrees of parallelism divide them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """Holds how processes are divided: ``data * pipeline * tensor`` is ``hosts * per_host``.

    ``said`` are sentences about what was not given and how it was found.
    """

    pipeline: int
    tensor: int
    data: int
    hosts: int
    per_host: int
    said: tuple[str, ...] = ()

    @property
    def processes(self) -> int:
        """How many processes there are, each with a GPU of its own."""
        return self.hosts * self.per_host

    def to_dict(self) -> dict[str, int]:
        """Return the degrees as plain data."""
        return {
            "pipeline_parallel": self.pipeline,
            "tensor_parallel": self.tensor,
            "data_parallel": self.data,
            "hosts": self.hosts,
            "processes_per_host": self.per_host,
            "processes": self.processes,
        }


def degrees_of(
    pipeline: int,
    tensor: int,
    shards: int,
    launch: Mapping[str, Any],
    gpus: int | None,
    machine: str | None,
    source: str,
) -> Degrees:
    """Return how processes are divided; raise InputError where the degrees do not divide them.

    Args:
        shards: over how many data-parallel processes state is sharded, which there are at least.
        launch: what is given of ``processes_per_host`` and ``instance_count``.
        gpus: how many GPUs a host of the machine has; None: that is not known.
    """
    product = pipeline * tensor
    per_host, hosts = launch.get("processes_per_host"), launch.get("instance_count")
    said = []
    if per_host is not None and gpus is not None and per_host > gpus:
        raise InputError(
            f"{source}: processes_per_host is {per_host} and a {machine} has {counted(gpus, 'GPU')}; it must be at most "
            "that, as each process has a GPU of its own"
        )
    if per_host is None and gpus is not None:
        per_host = gpus
        said.append(f"processes_per_host is not given: {per_host}, one for each GPU of a {machine}, are taken")
    if per_host is None:
        least = product * shards
        hosts = hosts or 1
        per_host = least // hosts if least % hosts == 0 else least
        said.append(
            f"neither processes_per_host nor a machine is given: {counted(per_host, 'process', 'processes')} on each of "
            f"{counted(hosts, 'host')} are taken, as the degrees need"
        )
    if hosts is None:
        hosts = math.lcm(product * shards, per_host) // per_host
        said.append(
            f"instance_count is not given: {counted(hosts, 'host')} of {per_host} processes are taken, the fewest whose "
            "processes the degrees divide"
        )
    processes = hosts * per_host
    if processes % product:
        raise InputError(
            f"{source}: pipeline_parallel_degree {pipeline} times tensor_parallel_degree {tensor} is {product}, which "
            f"does not divide the {processes} processes ({per_host} on each of {counted(hosts, 'host')}); it must divide "
            "them"
        )
    return Degrees(
        pipeline=pipeline,
        tensor=tensor,
        data=processes // product,
        hosts=hosts,
        per_host=per_host,
        said=tuple(said),
    )
