"""A host has to have room for the slots of all its GPUs, whichever ranks they work for."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.sim.ir.plan import Ints
from loadahead.sim.placement import Placement
from loadahead.sim.step_metrics import bytes_missing
from loadahead.sim.units import format_bytes


def slots_of_hosts(peak_host: Ints, occupancy: Ints) -> list[int]:
    """Return the bytes of all slots on each host.

    Args:
        peak_host: the bytes of a rank's slots; shape (ranks,).
        occupancy: rows of host, rank, and how many GPUs of the host work for it; shape (rows, 3).
    """
    # In Python's integers, as many GPUs' bytes might leave 64 bits.
    of_rank, out = peak_host.tolist(), [0] * (int(occupancy[-1, 0]) + 1)
    for host, rank, gpus in occupancy.tolist():
        out[host] += gpus * of_rank[rank]
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Says what the fullest host needs: the bytes of all its GPUs' slots, and how many GPUs these are.

    ``alone``: there is one host, and each of its GPUs is a rank.
    """

    nbytes: int
    gpus: int
    alone: bool

    @classmethod
    def of(cls, peak_host: Ints, placement: Placement) -> HostMemory:
        """Return what it needs where the pools of each rank have these bytes; ``peak_host`` has shape (ranks,)."""
        occupancy = placement.occupancy(len(peak_host))
        needs = slots_of_hosts(peak_host, occupancy)
        fullest = max(range(len(needs)), key=needs.__getitem__)
        gpus = int(occupancy[occupancy[:, 0] == fullest, 2].sum())
        alone = len(needs) == 1 and placement.processes(len(peak_host)) == len(peak_host) == gpus
        return cls(nbytes=needs[fullest], gpus=gpus, alone=alone)

    def shortage(self, capacity: int | None) -> str | None:
        """Return a sentence where a host of so many bytes has too little; None where it suffices or is not known."""
        if capacity is None or not bytes_missing(self.nbytes, capacity):
            return None
        needs, has = format_bytes(self.nbytes), format_bytes(capacity)
        if not self.alone:
            one = "the one GPU that works" if self.gpus == 1 else f"all {self.gpus} GPUs"
            together = " together" if self.gpus > 1 else ""
            return (
                f"the slots of {one} on a host need {needs} of its memory{together} and a host has {has}: this plan "
                "would run out of host memory"
            )
        slots = f"all {self.gpus} ranks' slots" if self.gpus > 1 else "the rank's slots"
        return (
            f"{slots} need {needs} of host memory together and the host has {has}: this plan would run out of host "
            "memory"
        )
