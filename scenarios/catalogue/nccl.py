"""NCCL's own figures of GPUs, links and protocols, from which it reckons how long a collective takes.

All are from NVIDIA/nccl at version 2.30 (commit 5067397, June 2026), in the file that each comment names: NCCL measured
them and chooses by them. Latencies are in ns here and in µs there; bandwidths are in GB/s, which are bytes per ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Generation = Literal["volta", "ampere", "hopper", "blackwell"]


class Protocols(NamedTuple):
    """Holds a figure of each of NCCL's protocols: how data and the word that it is there are sent together."""

    ll: int
    ll128: int
    simple: int


class ByHosts(NamedTuple):
    """Holds a figure for a group on one host, on two, and on more."""

    one: float
    two: float
    more: float

    def of(self, hosts: int) -> float:
        """Return the figure for so many hosts."""
        return self[min(hosts, 3) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Holds what NCCL knows of a generation of GPUs; each figure of a channel is the most that one carries.

    Attributes:
        of_nvlink: the part of NVLink's bandwidth in the datasheets that NCCL counts: src/graph/topo.h, SM70_NVLINK_BW,
            SM80_..., SM90_..., SM100_..., over the 25 GB/s of a link (50 GB/s from Blackwell on) in each direction.
        inside, between: the bandwidths that a channel may have inside a host and between hosts: src/graph/search.cc,
            speedArrayIntra, speedArrayInter, and those of sm90 and sm100.
        doubles: whether many channels of 25 to 50 GB/s are doubled: src/graph/search.cc, ncclTopoDupChannels.
        ll: what protocol LL reaches inside a host: src/graph/tuning.cc, llMaxBws.
        ring_ll128, tree, tree_ll128, nvls_tree: a channel's: src/graph/tuning.cc, perChMaxRingLL128Bws,
            perChMaxTreeBws, perChMaxTreeLL128Bws, perChMaxNVLSTreeBws.
        nvls: what of the bandwidth sums in the switch (NVLink SHARP) reach: src/graph/tuning.cc, nvlsEfficiency; 0: the
            GPUs have none.
        plateau: by what a ring's latency grows between hosts: src/graph/tuning.cc, ncclTopoGetAlgoTime.
    """

    of_nvlink: float
    inside: tuple[float, ...]
    between: tuple[float, ...]
    doubles: bool
    ll: float
    ring_ll128: ByHosts
    tree: ByHosts
    tree_ll128: ByHosts
    nvls_tree: ByHosts
    nvls: float
    plateau: float


_INSIDE = (40.0, 30.0, 20.0, 18.0, 15.0, 12.0, 10.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0)
_BETWEEN = (48.0, 30.0, 28.0, 24.0, 20.0, 18.0, 15.0, 12.0, 10.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.4, 1.2, 0.24, 0.12)
_SM90 = (48.0, 45.0, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0, 3.0, 2.4, 1.2, 0.24, 0.12)
_SM100 = (96.0, 86.0, 80.0, 48.0, 45.1, 42.0, 40.0, *_SM90[4:])

GPUS: dict[Generation, Gpu] = {
    "volta": Gpu(
        of_nvlink=20.0 / 25,
        inside=_INSIDE,
        between=_BETWEEN,
        doubles=True,
        ll=39.0,
        ring_ll128=ByHosts(20.0, 20.0, 20.0),
        tree=ByHosts(26.5, 18.5, 10.0),
        tree_ll128=ByHosts(20.0, 20.0, 20.0),
        nvls_tree=ByHosts(26.5, 18.5, 10.0),
        nvls=0.0,
        plateau=1.9,
    ),
    "ampere": Gpu(
        of_nvlink=20.0 / 25,
        inside=_INSIDE,
        between=_BETWEEN,
        doubles=True,
        ll=87.7,
        ring_ll128=ByHosts(20.0, 20.0, 20.0),
        tree=ByHosts(24.0, 23.6, 17.8),
        tree_ll128=ByHosts(20.0, 20.0, 20.0),
        nvls_tree=ByHosts(24.0, 23.6, 17.8),
        nvls=0.0,
        plateau=1.4,
    ),
    "hopper": Gpu(
        of_nvlink=20.6 / 25,
        inside=(60.0, 50.0, 40.0, 30.0, 24.0, 20.0, 15.0, 12.0, 11.0, 6.0, 3.0),
        between=_SM90,
        doubles=False,
        ll=141.0,
        ring_ll128=ByHosts(36.7, 36.7, 36.7),
        tree=ByHosts(38.7, 41.4, 36.0),
        tree_ll128=ByHosts(36.7, 36.7, 29.0),
        nvls_tree=ByHosts(0.0, 57.7, 45.5),
        nvls=0.85,
        plateau=1.4,
    ),
    "blackwell": Gpu(
        of_nvlink=40.1 / 50,
        inside=(90.0, 80.0, 70.0, 60.0, 50.0, 45.0, 40.0, 30.0, 24.0, 20.0, 19.0, 18.0),
        between=_SM100,
        doubles=False,
        ll=2 * 141.0,
        ring_ll128=ByHosts(40.0, 40.0, 40.0),
        tree=ByHosts(70.0, 42.8, 24.0),
        tree_ll128=ByHosts(55.6, 31.67, 20.0),
        nvls_tree=ByHosts(0.0, 96.0, 80.0),
        nvls=0.74,
        plateau=1.4,
    ),
}
# What is taken where nothing says which GPU it is: none of its figures is larger than those of later ones.
ANY_GENERATION: Generation = "ampere"

# What LL reaches between hosts depends on their processors: src/graph/tuning.cc, llMaxBws, the row of Intel's.
LL_BETWEEN = ByHosts(39.0, 39.0, 20.4)

# What a collective takes before its first step: src/graph/tuning.cc, baseLatencies.
BASE_TREE = Protocols(6_800, 14_000, 8_400)
BASE_RING = Protocols(6_600, 14_000, 8_400)
BASE_PAT_NS = 8_000


class Steps(NamedTuple):
    """Holds what one step over a kind of link takes, by algorithm."""

    tree: Protocols
    ring: Protocols
    nvls_ns: int
    nvls_tree_ns: int


# src/graph/tuning.cc, hwLatencies.
NVLINK = Steps(Protocols(600, 1_250, 4_000), Protocols(600, 1_900, 3_400), 25_000, 25_000)
PCIE = Steps(Protocols(1_000, 1_900, 4_000), Protocols(1_000, 2_500, 5_700), 0, 0)
NETWORK = Steps(Protocols(5_000, 8_500, 14_000), Protocols(2_700, 4_000, 14_000), 18_000, 20_900)

# What posting to a network card takes, for which a ring's steps inside a host wait too; Simple posts three times:
# src/graph/tuning.cc, getNetOverhead, the value of Intel's processors and of all others but AMD's.
POST_NS = 1_000
POSTS = Protocols(1, 1, 3)

# What protocols and algorithms reach of a graph's bandwidth: src/graph/tuning.cc, ncclTopoTuneModel.
LL_OF_RING, LL128_OF_RING = 0.5, 0.92
OF_TREE, LL_OF_TREE = 0.92, 1 / 3.8
LL128_OF_TREE = ByHosts(7 / 9, 120 / 128, 120 / 128)
OF_PAT = 0.75
# A parallel aggregated tree's latency: log2 of the hosts, in parts of a network's step, and a part for each GPU.
PAT_OF_STEP, PAT_EACH_NS = 1 / 3.5, 2_800
# From so many bytes a channel and GPU on, a ring's latency between hosts grows: ncclTopoGetAlgoTime.
PLATEAU_BYTES = 64
# What a tree reaches for 64 B, 128 B, ... 256 MiB: src/graph/tuning.cc, treeCorrectionFactor.
TREE_CORRECTION: dict[str, tuple[float, ...]] = {
    "ll": (1, 1, 1, 1, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1),
    "ll128": (1, 1, 1, 1, 1, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 1, 1),
    "simple": (
        *(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5),
        *(0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9),
    ),
}

# A search takes at most half of all channels for one graph: src/include/device.h, MAXCHANNELS; src/init.cc.
MOST_CHANNELS = 32
# It tries smaller channels while they are about half as large as the best ones so far: src/graph/search.cc.
SMALLEST_OF_BEST = 0.49
# Channels of at least so much are doubled, and with ``doubles`` unset only few of them or large ones.
DOUBLED_FROM, LARGE, FEW = 25.0, 50.0, 4

# What NCCL counts of a card: 12, 24 and 48 GB/s of 100, 200 and 400 Gbit/s: src/graph/search.cc, speedArrayInter.
# NVIDIA says 46 to 48 GB/s of 400 Gbit/s (NVIDIA/nccl-tests#290, 2025).
OF_NETWORK = 0.96

# NCCL has no figure of sends' bandwidth over NVLink. 195 GB/s were measured where it counts 240 (sendrecv_perf on eight
# A100; li-plus/playground, cuda/nccl.md), and 577 where it counts 722 (all-to-all on eight B200, SimuMax's
# configs/system/b200_bf16_ceperm.json, 2026).
SENDS_OF_NVLINK = 0.8

# A send is a call of one step with protocol Simple, which is what NCCL sends with above a few KiB.
SEND_OVER_NVLINK_NS = BASE_RING.simple + NVLINK.ring.simple
SEND_OVER_PCIE_NS = BASE_RING.simple + PCIE.ring.simple
SEND_BETWEEN_HOSTS_NS = BASE_RING.simple + NETWORK.ring.simple

# What a collective takes beyond NCCL's reckoning when PyTorch calls it: once, and for each further GPU of the host.
# All-gathers and reduce-scatters of 2 to 8 B200 take 32 to 87 and 34 to 82 us at zero bytes (MooreThreads/SimuMax,
# configs/system/b200_bf16_ceperm.json, 2026), where NCCL reckons with 12 to 32; other GPUs are taken to be alike.
CALLED_NS, CALLED_EACH_NS = 16_000, 5_200
