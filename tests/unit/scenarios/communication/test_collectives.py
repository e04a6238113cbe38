"""Times of collectives follow the rings' closed forms, NCCL's figures worked out by hand, and what others measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.catalogue.nccl import GPUS, TREE_CORRECTION
from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.communication.groups import Group
from loadahead.scenarios.communication.links import Channels, Links, channels_of
from loadahead.scenarios.communication.tuning import Collective, quickest, ways
from loadahead.scenarios.parallelism import collectives_of
from loadahead.scenarios.tables import Hardware, Parallel
from tests.support.measured_collectives import MEASURED, Measured, table

MIB, GIB = 2**20, 2**30
HOST, TWO_HOSTS = Group(gpus=8), Group(gpus=16, hosts=2)


def links(**hardware: Any) -> Links:
    return Hardware(**hardware).connections()


def called(group: Group) -> int:
    """What PyTorch's call adds: 16 us, and 5.2 us for each further GPU of the host."""
    return 16_000 + 5_200 * (group.gpus // group.hosts - 1)


def of(**hardware: Any) -> Collectives:
    return Collectives(links=links(**hardware))


@pytest.mark.parametrize("gpus", [2, 3, 4, 8])
@pytest.mark.parametrize("preset", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "v100-sxm2-32gb", "l40s"])
def test_of_many_bytes_a_ring_sends_each_gpus_part_to_all_others(preset: str, gpus: int) -> None:
    """Patarasu and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations" (2009)."""
    group, nbytes = Group(gpus=gpus), 2**44
    connections, collectives = links(preset=preset), of(preset=preset)
    bandwidth = channels_of(connections, group).total
    part = nbytes * (gpus - 1) / gpus / bandwidth
    assert collectives.all_gather(group, nbytes) == pytest.approx(part, rel=1e-5)
    assert collectives.reduce_scatter(group, nbytes) == pytest.approx(part, rel=1e-5)
    ring = min(way.ns(nbytes) for way in ways(connections, group, "all_reduce") if way.algorithm == "ring")
    assert ring == pytest.approx(2 * part, rel=1e-5)
    # Sums in switches and trees may be quicker, never slower.
    assert collectives.all_reduce(group, nbytes) <= ring + called(group) + 1


@pytest.mark.parametrize(
    ("preset", "channels"),
    [
        # 12 NVLinks of 20 GB/s as NCCL counts them: six channels of 40 GB/s, each made two.
        ("a100-sxm-80gb", Channels(count=12, each=20.0)),
        # 18 of 20.6: six of 60, each made two.
        ("h100-sxm", Channels(count=12, each=30.0)),
        # 18 of 40.1: eight of 90, each made two.
        ("b200-sxm", Channels(count=16, each=45.0)),
        # PCIe 4.0 x16: two of 12.
        ("l40s", Channels(count=2, each=12.0)),
    ],
)
def test_channels_inside_a_host_are_those_that_nccls_search_finds(preset: str, channels: Channels) -> None:
    assert channels_of(links(preset=preset), HOST) == channels


@pytest.mark.parametrize(
    ("machine", "group", "channels"),
    [
        # A card of 50 GB/s for each GPU, of which NCCL counts 48.
        ("dgx-h100", TWO_HOSTS, Channels(count=8, each=48.0)),
        ("dgx-a100", TWO_HOSTS, Channels(count=8, each=24.0)),
        # Four cards for eight GPUs.
        ("p4d", TWO_HOSTS, Channels(count=4, each=12.0)),
        # Eight groups of a GPU on each host: half a card each.
        ("p4d", Group(gpus=4, hosts=4, lanes=8), Channels(count=1, each=6.0)),
        # One such channel of 48 GB/s is made two.
        ("dgx-h100", Group(gpus=4, hosts=4, lanes=8), Channels(count=2, each=24.0)),
        # One card of 12.5 GB/s for all: eight groups have an eighth of it each.
        ("p3dn", Group(gpus=4, hosts=4, lanes=8), Channels(count=1, each=1.5)),
    ],
)
def test_between_hosts_a_ring_has_a_channel_for_each_card_of_its_gpus(
    machine: str, group: Group, channels: Channels
) -> None:
    found = channels_of(links(machine=machine), group)
    assert (found.count, found.each) == (channels.count, pytest.approx(channels.each))


@pytest.mark.parametrize(
    ("machine", "group", "collective", "nbytes", "way", "us"),
    [
        # LL: 6.6 us, and 7 steps of 0.6 us; half of 360 GB/s is more than 141 GB/s, which LL reaches.
        ("dgx-h100", HOST, "all_gather", MIB, ("ring", "ll"), 6.6 + 7 * 0.6 + MIB * 7 / 8 / 141e3),
        # LL128: 14 us, 7 steps of 1.9 us; 0.92 of 360 GB/s.
        ("dgx-h100", HOST, "all_gather", 8 * MIB, ("ring", "ll128"), 14 + 7 * 1.9 + 8 * MIB * 7 / 8 / (0.92 * 360e3)),
        # Simple: 8.4 us, 14 steps of 3.4 us; 240 GB/s.
        ("dgx-a100", HOST, "all_reduce", GIB, ("ring", "simple"), 8.4 + 14 * 3.4 + GIB * 14 / 8 / 240e3),
        # NVLS: 25 us; eight heads of 40 GB/s, of which 0.85, seven eighths, both ways at once: 476 GB/s.
        ("dgx-h100", HOST, "all_reduce", GIB, ("nvls", "simple"), 25 + GIB * 14 / 8 / (8 * 40e3 * 0.85 * 7 / 8 * 2)),
        # Twelve steps inside at 3.4 us and two between hosts at 14 us; 8 cards of 24 GB/s.
        (
            "dgx-a100",
            TWO_HOSTS,
            "all_gather",
            GIB,
            ("ring", "simple"),
            8.4 + 14 * 3.4 + 14 + GIB * 15 / 16 / 192e3,
        ),
        # A tree: 14 us, twice 7 steps of 1.25 us and one of 8.5 us; 8 channels of 20 GB/s, and 0.6 of it for 1 MiB.
        (
            "dgx-a100",
            TWO_HOSTS,
            "all_reduce",
            MIB,
            ("tree", "ll128"),
            14 + 2 * (7 * 1.25 + 8.5) + MIB / (8 * 20e3 / 2 * 0.6),
        ),
        # A GPU on each of eight hosts: 8 us, three steps of 14 / 3.5 us, and 2.8 us for each; 0.75 of a card's 48 GB/s.
        (
            "dgx-h100",
            Group(gpus=8, hosts=8, lanes=8),
            "reduce_scatter",
            MIB,
            ("pat", "simple"),
            8 + 3 * 14 / 3.5 + 8 * 2.8 + MIB / (0.75 * 48e3),
        ),
    ],
)
def test_times_are_nccls_reckoning_worked_out_by_hand(
    machine: str, group: Group, collective: Collective, nbytes: int, way: tuple[str, str], us: float
) -> None:
    connections = links(machine=machine)
    assert quickest(connections, group, collective, nbytes)[:2] == way
    found = getattr(Collectives(links=connections), collective)(group, nbytes)
    assert found == pytest.approx(us * 1e3 + called(group), rel=1e-3)
    assert isinstance(found, int)


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: case.name)
def test_times_are_near_those_that_were_measured(case: Measured) -> None:
    assert abs(case.difference) <= case.limit, (case.name, case.difference)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("collective", [*get_args(Collective), "all_to_all"])
@pytest.mark.parametrize("group", [Group(gpus=2), HOST, TWO_HOSTS, Group(gpus=4, hosts=4, lanes=8)])
def test_more_bytes_take_no_less_time(machine: str, collective: str, group: Group) -> None:
    time = getattr(of(machine=machine), collective)
    found = [time(group, 1 << power) for power in range(6, 36, 3)]
    assert found == sorted(found)
    assert found[0] > 0
    assert time(Group(), GIB) == time(group, 0) == 0


def test_a_slower_network_and_more_groups_that_share_it_take_longer() -> None:
    a100 = {"preset": "a100-sxm-80gb", "gpus_per_host": 8, "network_bandwidth": "50 GB/s"}
    quick, slow = of(**a100), of(**a100 | {"network_bandwidth": "25 GB/s"})
    late = of(**a100 | {"network_latency": "1 ms"})
    group = Group(gpus=4, hosts=4)
    assert slow.all_gather(group, GIB) == pytest.approx(2 * quick.all_gather(group, GIB), rel=0.01)
    alone, shared = quick.all_gather(group, GIB), quick.all_gather(Group(gpus=4, hosts=4, lanes=8), GIB)
    assert shared == pytest.approx(8 * alone, rel=0.01)
    # Three steps over the network, each a millisecond less what NCCL reckons with.
    more = late.all_gather(group, GIB) - alone
    assert more == 3 * (1_000_000 - 22_400)


def test_where_nothing_is_known_of_a_network_hosts_are_as_one() -> None:
    collectives = of(preset="a100-sxm-80gb")
    for collective in ("all_reduce", "all_gather", "all_to_all"):
        time = getattr(collectives, collective)
        assert time(Group(gpus=16, hosts=2, lanes=8), GIB) == time(Group(gpus=16), GIB)


def test_links_that_are_written_stand_for_nvlink_of_a_kind_that_is_not_known() -> None:
    # Of 300 GB/s NCCL counts four fifths, on an A100; where nothing is written, bytes take no time.
    assert of(p2p_bandwidth="300 GB/s").all_reduce(HOST, GIB) == of(preset="a100-sxm-80gb").all_reduce(HOST, GIB)
    assert of().all_gather(HOST, GIB) == of().all_gather(HOST, 2**40) < 100_000


def test_all_to_all_sends_each_part_at_once() -> None:
    # A part of an eighth to seven others, over four fifths of what NCCL counts of NVLink.
    inside = of(machine="dgx-h100").all_to_all(HOST, GIB)
    assert inside == pytest.approx(8_400 + 3_400 + GIB * 7 / 8 / (450 * 0.824 * 0.8), rel=1e-5)
    # On N hosts the network carries (N - 1) / N of all; NVIDIA/nccl-tests#130 gives N / (N - 1) of a GPU's bandwidth.
    for hosts in (2, 4, 8):
        group = Group(gpus=8 * hosts, hosts=hosts)
        bandwidth = GIB * (1 - 1 / group.gpus) / of(machine="dgx-h100").all_to_all(group, GIB)
        ideal = hosts / (hosts - 1) * 48 * (1 - 1 / group.gpus)
        assert bandwidth == pytest.approx(ideal, rel=0.01)


def test_collectives_follow_from_the_degrees_and_are_none_where_communication_is_ideal() -> None:
    parallel = Parallel(tensor_parallel_degree=8, pipeline_parallel_degree=2, data_parallel_degree=4)
    found = collectives_of(parallel, Hardware(machine="dgx-h100"))
    assert found is not None
    assert (found.tensor, found.data) == (Group(gpus=8), Group(gpus=4, hosts=4, lanes=8))
    assert found.links == links(machine="dgx-h100")
    assert hash(found) == hash(collectives_of(parallel, Hardware(machine="dgx-h100")))
    assert collectives_of(parallel, Hardware(machine="dgx-h100", communication="ideal")) is None


def test_nccl_counts_of_each_nvlink_what_its_constants_say() -> None:
    # src/graph/topo.h: 12 links of 20 GB/s, 18 of 20.6, 18 of 40.1, and six of 20 in a V100.
    counted = {"a100-sxm-80gb": 12 * 20, "h100-sxm": 18 * 20.6, "b200-sxm": 18 * 40.1, "v100-sxm2-32gb": 6 * 20}
    for preset, total in counted.items():
        assert links(preset=preset).inside() == pytest.approx(total)
    assert {each.generation for each in ACCELERATORS.values()} == set(GPUS)
    assert {len(each) for each in TREE_CORRECTION.values()} == {23}


def test_the_page_has_the_table_of_measurements() -> None:
    page = Path(__file__).parents[4] / "docs" / "communication.md"
    assert table() in page.read_text(encoding="utf-8"), "put what `python -m tests.support.measured_collectives` prints"
