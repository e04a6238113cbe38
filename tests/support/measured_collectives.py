"""What others measured of collectives, beside what is modelled: the table of docs/communication.md.

``python -m tests.support.measured_collectives`` prints it, to be put there. A measurement is told by its bus bandwidth,
as nccl-tests prints it: bytes over time, times (n - 1) / n, and twice that of an all-reduce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.communication.groups import Group
from loadahead.scenarios.tables import Hardware
from loadahead.sim.units import format_bytes

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A collective that was measured, by its bus bandwidth in GB/s, and how far off its modelled time may be."""

    hardware: dict[str, Any]
    what: str
    group: Group
    collective: str
    nbytes: int
    bandwidth: float
    limit: float
    source: str

    @property
    def name(self) -> str:
        return f"{self.what}, {self.collective} of {format_bytes(self.nbytes)}"

    @property
    def modelled(self) -> float:
        n, both = self.group.gpus, 2 if self.collective == "all_reduce" else 1
        time = getattr(Collectives(links=Hardware(**self.hardware).connections()), self.collective)
        return self.nbytes / float(time(self.group, self.nbytes)) * both * (n - 1) / n

    @property
    def difference(self) -> float:
        """How much longer it is modelled to take than it was measured to, as a share."""
        return self.bandwidth / self.modelled - 1


def _simumax(collective: str, nbytes: int, efficiency: float, fixed_us: float, step_us: float) -> float:
    """The bus bandwidth of SimuMax's line through measurements on eight B200, of 900 GiB/s (simumax/core/config.py)."""
    both = 2 if collective == "all_reduce" else 1
    moved = nbytes * both * 7 / 8
    time = moved / (900 * GIB * efficiency) * 1e9 + (fixed_us + both * 7 * step_us) * 1e3
    return moved / time


_B200 = {
    "all_reduce": (0.7424, 22.2316, 5.5183),
    "all_gather": (0.6735, 23.1049, 9.1828),
    "reduce_scatter": (0.6731, 25.5604, 8.0325),
}
_SIMUMAX = "a line through measurements: SimuMax, configs/system/b200_bf16_ceperm.json, 2026"

MEASURED = [
    Measured(
        hardware={"machine": "dgx-a100"},
        what="8 A100",
        group=Group(gpus=8),
        collective="all_reduce",
        nbytes=8 * GIB,
        bandwidth=230,
        limit=0.1,
        source="NVIDIA, NVIDIA/nccl-tests#149, 2023",
    ),
    Measured(
        hardware={"machine": "dgx-h100"},
        what="8 H100",
        group=Group(gpus=8),
        collective="all_reduce",
        nbytes=4 * GIB,
        bandwidth=476,
        limit=0.1,
        source="NVIDIA/nccl-tests#290, 2025",
    ),
    Measured(
        hardware={"machine": "dgx-h100"},
        what="8 H100",
        group=Group(gpus=8),
        collective="all_gather",
        nbytes=8 * GIB,
        bandwidth=350,
        limit=0.1,
        source="NVIDIA/nccl#1281, 2024; its size is not told",
    ),
    Measured(
        hardware={"machine": "dgx-h100"},
        what="8 H100",
        group=Group(gpus=8),
        collective="reduce_scatter",
        nbytes=8 * GIB,
        bandwidth=360,
        limit=0.1,
        source="NVIDIA/nccl#1281, 2024; its size is not told",
    ),
    *(
        Measured(
            hardware={"machine": "dgx-b200"},
            what="8 B200",
            group=Group(gpus=8),
            collective=collective,
            nbytes=nbytes,
            bandwidth=_simumax(collective, nbytes, *fitted),
            limit=limit,
            source=_SIMUMAX,
        )
        for nbytes, limit in ((64 * MIB, 0.45), (8 * GIB, 0.15))
        for collective, fitted in _B200.items()
    ),
    Measured(
        hardware={
            "preset": "a100-sxm-40gb",
            "gpus_per_host": 8,
            "gpu_network_bandwidth": "25 GB/s",
            "gpus_per_nic": 2,
        },
        what="3 hosts of 8 A100 and 4 cards of 200 Gbit/s",
        group=Group(gpus=24, hosts=3),
        collective="all_reduce",
        nbytes=128 * MIB,
        bandwidth=96,
        limit=0.25,
        source="the highest of 8 B to 128 MiB: NVIDIA/nccl-tests#119, 2022",
    ),
    *(
        Measured(
            hardware={"preset": "h100-sxm", "gpus_per_host": 8, "gpu_network_bandwidth": "25 GB/s"},
            what="2 hosts of 8 H100 and 8 cards of 200 Gbit/s",
            group=Group(gpus=16, hosts=2),
            collective="all_reduce",
            nbytes=nbytes,
            bandwidth=bandwidth,
            limit=limit,
            source="Google's a3-megagpu: lessizzmore/create-a3mega-ztan-fork, ztan-NCCL-test-result",
        )
        for nbytes, bandwidth, limit in ((GIB, 297.86, 0.25), (8 * GIB, 338.82, 0.25))
    ),
    Measured(
        hardware={"machine": "dgx-h100"},
        what="4 hosts of 8 H100",
        group=Group(gpus=32, hosts=4),
        collective="reduce_scatter",
        nbytes=8 * GIB,
        bandwidth=360,
        limit=0.1,
        source="NVIDIA/nccl#1229, 2024; its size is not told",
    ),
]


def table() -> str:
    """The table as Markdown."""
    heads = ["where", "collective", "bytes", "measured, GB/s", "modelled, GB/s", "modelled time", "source"]
    rows = [
        [
            case.what,
            case.collective.replace("_", "-"),
            format_bytes(case.nbytes),
            f"{case.bandwidth:.0f}",
            f"{case.modelled:.0f}",
            f"{case.difference:+.0%}",
            case.source,
        ]
        for case in MEASURED
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace(" --- ", "---")


if __name__ == "__main__":
    print(table())
