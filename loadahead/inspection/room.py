"""What fits: each rank's peak of device memory, and each host's pinned slots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.jobs import missing_text
from loadahead.sim.costs import Costs
from loadahead.sim.host_memory import slots_of_hosts
from loadahead.sim.memory import MemoryWalk, walk
from loadahead.sim.placement import RankMap
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.step_metrics import CAPACITY, bytes_missing
from loadahead.sim.units import bytes_apart, counted, format_bytes
from loadahead.sim.workload import Workload

if TYPE_CHECKING:
    from loadahead.sim.tuning import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRoom:
    """Says what a rank of the pipeline needs on its GPU and in slots on the host, in bytes.

    Attributes:
        p: the rank; each of its peers in other replicas and tensor parts needs as much.
        peak_device_bytes: with the scenario's own offloading.
        peak_keeping_all_bytes: with all boundaries on the GPU.
        slots_bytes: pinned on the host.
    """

    p: int
    peak_device_bytes: int
    peak_keeping_all_bytes: int
    slots_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoom:
    """Says what the slots of a host's GPUs take together, in bytes; a capacity of None is not known."""

    host: int
    gpus: int
    slots_bytes: int
    capacity_bytes: int | None

    @property
    def fits(self) -> bool:
        """Return whether the slots fit, as far as that is known."""
        return not bytes_missing(self.slots_bytes, self.capacity_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Return the host as plain data."""
        return {
            "host": self.host,
            "gpus": self.gpus,
            "slots_bytes": self.slots_bytes,
            CAPACITY: self.capacity_bytes,
            "fits": self.fits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Says what every rank and every host needs, what a GPU has, and how many boundaries leave it.

    ``keeps_budget`` is whether the plan keeps the budget that tuning had, and ``of_budget`` says so in a sentence; it
    is empty where a horizon decides, which has none.
    """

    ranks: tuple[RankRoom, ...]
    hosts: tuple[HostRoom, ...]
    capacity_bytes: int
    offloaded: int
    keeps_budget: bool = True
    of_budget: str = ""

    @property
    def fullest(self) -> RankRoom:
        """Return the first of the ranks that need most on the device."""
        return max(self.ranks, key=lambda rank: rank.peak_device_bytes)

    @property
    def fullest_host(self) -> HostRoom:
        """Return the first of the hosts whose slots take most."""
        return max(self.hosts, key=lambda host: host.slots_bytes)

    @property
    def device_fits(self) -> bool:
        """Return whether every rank's peak fits its GPU."""
        return not bytes_missing(self.fullest.peak_device_bytes, self.capacity_bytes)

    @property
    def fits(self) -> bool:
        """Return whether the plan fits the devices and the hosts, as far as these are known, and keeps its budget."""
        return self.keeps_budget and self.device_fits and all(host.fits for host in self.hosts)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return a sentence about the devices and one about the hosts, and where tuning decides one on its budget."""
        return self._of_devices(), self._of_hosts(), *([self.of_budget] if self.of_budget else [])

    def _of_devices(self) -> str:
        own, keeping = self.fullest, max(rank.peak_keeping_all_bytes for rank in self.ranks)
        peak, kept, capacity = bytes_apart(own.peak_device_bytes, keeping, self.capacity_bytes)
        if len(self.ranks) == 1:
            of_which = f"the rank needs {peak} of {capacity}"
        elif all(rank.peak_device_bytes == own.peak_device_bytes for rank in self.ranks):
            of_which = f"each rank needs {peak} of {capacity}"
        else:
            of_which = f"rank {own.p} needs {peak} of {capacity}, and no rank more"
        missing = bytes_missing(own.peak_device_bytes, self.capacity_bytes)
        verdict = f"does not fit, {format_bytes(missing)} are missing" if missing else "fits"
        without = bytes_missing(keeping, self.capacity_bytes)
        return (
            f"Device memory: {of_which}: {verdict}. Keeping all boundaries on the GPU would need {kept}, which "
            f"{'does not fit' if without else 'fits'}."
        )

    def _of_hosts(self) -> str:
        most = self.fullest_host
        if self.offloaded and not most.slots_bytes:
            return "Host memory: the boundaries that leave the GPU have no bytes, so that their slots take none."
        if not most.slots_bytes:
            return "Host memory: no boundary leaves the GPU, so that no slots are needed."
        which = "the host" if len(self.hosts) == 1 else f"host {most.host}"
        needs = f"the slots of the {counted(most.gpus, 'GPU')} of {which} take"
        if len(self.hosts) > 1:
            alike = [host.slots_bytes for host in self.hosts].count(most.slots_bytes)
            of_others = "as much as on each other host" if alike == len(self.hosts) else "no host's take more"
            needs = f"the slots of the {counted(most.gpus, 'GPU')} of {which} ({of_others}) take"
        if most.capacity_bytes is None:
            return f"Host memory: {needs} {format_bytes(most.slots_bytes)}; what a host has is not known."
        size, capacity = bytes_apart(most.slots_bytes, most.capacity_bytes)
        missing = bytes_missing(most.slots_bytes, most.capacity_bytes)
        verdict = f"does not fit, {format_bytes(missing)} are missing" if missing else "fits"
        return f"Host memory: {needs} {size} of {capacity}: {verdict}."


def room_of(
    workload: Workload,
    policy: Policy,
    costs: Costs,
    places: RankMap,
    name: str,
    tuning: Tuning | None = None,
) -> Room:
    """Return what the scenario's plan needs, walked from the plan itself; ``name`` is the plan's.

    ``tuning`` is what decided, whose plan may be the nearest to its budget; None: a horizon.
    """
    decisions = None if tuning is None else tuning.chosen.decisions
    plan = build_plan(workload, policy, decisions=decisions, name=name, echo={})
    own, leaves = walk(plan, costs), policy.offload and policy.checkpoint
    keeping = _keeping_all(workload, policy, costs, name) if leaves else own
    slots = slots_of_hosts(own.peak_host, places.by_host(policy.ranks))
    gpus = np.bincount(places.host, minlength=places.hosts)
    return Room(
        ranks=tuple(
            RankRoom(p=p, peak_device_bytes=peak, peak_keeping_all_bytes=kept, slots_bytes=host)
            for p, (peak, kept, host) in enumerate(
                zip(own.peak_device.tolist(), keeping.peak_device.tolist(), own.peak_host.tolist(), strict=True)
            )
        ),
        hosts=tuple(
            HostRoom(host=host, gpus=count, slots_bytes=nbytes, capacity_bytes=costs.host_memory_bytes)
            for host, (count, nbytes) in enumerate(zip(gpus.tolist(), slots, strict=True))
        ),
        capacity_bytes=costs.memory_bytes,
        offloaded=int(plan.policy["offloaded"]),
        keeps_budget=tuning is None or tuning.fits,
        of_budget="" if tuning is None else _of_budget(tuning),
    )


def _of_budget(tuning: Tuning) -> str:
    """Return whether the plan keeps its budget, and what that is; or what is missing, and which would do."""
    from loadahead.sim.tuning import budget_text

    if not tuning.fits:
        return f"Budget: {missing_text(tuning)}."
    return f"Budget: the plan keeps it. {budget_text(tuning)}"


def _keeping_all(workload: Workload, policy: Policy, costs: Costs, name: str) -> MemoryWalk:
    return walk(build_plan(workload, replace(policy, offload=False), name=name, echo={}), costs)
