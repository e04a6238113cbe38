"""How many processes the options start, and how the degrees of parallelism divide them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadahead.scenarios.placement import GPUS_PER_HOST
from loadahead.sim.errors import InputError
from loadahead.sim.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """Holds how processes are divided, each with a GPU of its own.

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
        """How many processes there are in all."""
        return self.data * self.pipeline * self.tensor

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
    *,
    pipeline: int,
    tensor: int,
    multiple: int,
    data: int | None,
    launch: Mapping[str, int],
    gpus: int | None,
    machine: str | None,
    source: str,
) -> Degrees:
    """Return how processes are divided; raise InputError where the degrees do not divide them.

    Args:
        multiple: what the number of replicas is a multiple of, as they share out state or experts.
        data: the number of replicas where it is set by hand, so that nothing has to be divided.
        launch: what is given of ``processes_per_host`` and ``instance_count``.
        gpus: how many GPUs a host of the machine has; None: that is not known.
    """
    product, said = pipeline * tensor, list[str]()
    least = product * (multiple if data is None else data)
    per_host, hosts = launch.get("processes_per_host"), launch.get("instance_count")
    if per_host is not None and gpus is not None and per_host > gpus:
        raise InputError(
            f"{source}: processes_per_host is {per_host} and a {machine} has {counted(gpus, 'GPU')}; it must be at "
            "most that, as each process has a GPU of its own"
        )
    is_chosen = per_host is None and gpus is None
    if per_host is None and gpus is not None:
        per_host = gpus
        said.append(f"processes_per_host is not given: {gpus} are taken, one for each GPU of a {machine}")
    elif per_host is None:
        if hosts is not None:  # the fewest with which all hosts' processes are whole replicas
            per_host = least // math.gcd(least, hosts)
        else:  # hosts have as many each, so that no replica is there which nobody asked for
            per_host = max(number for number in range(1, GPUS_PER_HOST + 1) if least % number == 0)
        said.append(
            "neither processes_per_host nor a machine is given: "
            f"{processes_on(per_host, hosts or math.lcm(least, per_host) // per_host)} are taken, as the degrees need"
        )
    if data is not None:
        hosts = -(-least // per_host)
    elif hosts is None:
        hosts = math.lcm(least, per_host) // per_host
        if hosts > 1 and not is_chosen:
            said.append(
                f"instance_count is not given: {hosts} hosts are taken, the fewest whose processes the degrees divide"
            )
    processes = least if data is not None else hosts * per_host
    if processes % product:
        raise InputError(
            f"{source}: pipeline_parallel_degree {pipeline} times tensor_parallel_degree {tensor} is {product}, which "
            f"does not divide {processes_on(per_host, hosts)}, {processes} in all; it must divide them"
        )
    return Degrees(
        pipeline=pipeline, tensor=tensor, data=processes // product, hosts=hosts, per_host=per_host, said=tuple(said)
    )


def processes_on(per_host: int, hosts: int) -> str:
    """Return in words how many processes are on how many hosts."""
    each = f"{per_host} process{'' if per_host == 1 else 'es'}"
    return f"{each} on one host" if hosts == 1 else f"{each} on each of {hosts} hosts"
