"""Every machine's figures have sources of their own, and are what its processors, switches and cards can carry."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.catalogue.machines import MACHINES, Machine, find_machine, nearest_machine

GIB = 2**30
PCIE_X16 = {3: 15.75e9, 4: 31.5e9, 5: 63.0e9}
# The generation of PCI Express that the processors have.
PCIE = {
    "p3.16xlarge": 3,
    "p3dn.24xlarge": 3,
    "p4d.24xlarge": 3,
    "p4de.24xlarge": 3,
    "p5.48xlarge": 4,
    "p5e.48xlarge": 4,
    "p5en.48xlarge": 5,
    "dgx-a100": 4,
    "dgx-h100": 5,
    "dgx-h200": 5,
    "dgx-b200": 5,
    "8x-l40s": 4,
    "2x-rtx-4090": 4,
}
# Sockets, channels of each, million transfers per second; 8 bytes each.
CHANNELS = {
    "p4d.24xlarge": (2, 6, 2933),
    "p4de.24xlarge": (2, 6, 2933),
    "p5.48xlarge": (2, 8, 3200),
    "p5e.48xlarge": (2, 8, 3200),
    "p5en.48xlarge": (2, 8, 4800),
    "dgx-a100": (2, 8, 3200),
    "dgx-h100": (2, 8, 4400),
    "dgx-h200": (2, 8, 4400),
    "dgx-b200": (2, 8, 4400),
}
# Cards and Gbit/s of each; how many of them one GPU sends over.
NETWORK = {
    "p3.16xlarge": (1, 25, None),
    "p3dn.24xlarge": (1, 100, None),
    "p4d.24xlarge": (4, 100, 1),
    "p4de.24xlarge": (4, 100, 1),
    "p5.48xlarge": (32, 100, 4),
    "p5e.48xlarge": (32, 100, 4),
    "p5en.48xlarge": (16, 200, 2),
    "dgx-a100": (8, 200, 1),
    "dgx-h100": (8, 400, 1),
    "dgx-h200": (8, 400, 1),
    "dgx-b200": (8, 400, 1),
}
HOST_MEMORY_GIB = {
    "p3.16xlarge": 488,
    "p3dn.24xlarge": 768,
    "p4d.24xlarge": 1152,
    "p4de.24xlarge": 1152,
    **dict.fromkeys(
        ("p5.48xlarge", "p5e.48xlarge", "p5en.48xlarge", "dgx-a100", "dgx-h100", "dgx-h200", "dgx-b200"), 2048
    ),
}
ROWS = list(MACHINES.items())


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_each_figure_has_a_source_that_names_a_document_and_its_year(name: str, row: Machine) -> None:
    figures = [each.name for each in fields(Machine) if each.name != "sources"]
    assert set(row.sources) == {figure for figure in figures if getattr(row, figure) is not None}
    for figure, source in row.sources.items():
        assert re.search(r"\b20[12]\d\b", source), (name, figure, source)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_its_gpus_are_in_the_catalogue_and_its_switches_have_as_many_each(name: str, row: Machine) -> None:
    accelerator = ACCELERATORS[row.preset]
    assert row.p2p_link == accelerator.p2p_link
    assert row.gpus_per_host % (row.gpus_per_switch or 1) == 0
    assert row.gpus_per_host == {"2x-rtx-4090": 2}.get(name, 8)
    assert (row.uplink_d2h is None and row.uplink_h2d is None) or row.gpus_per_switch is not None


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_no_link_to_the_host_is_faster_than_its_generation(name: str, row: Machine) -> None:
    accelerator = ACCELERATORS[row.preset]
    rates = [row.d2h or accelerator.d2h, row.h2d or accelerator.h2d, row.uplink_d2h, row.uplink_h2d]
    assert all(2 / 3 * PCIE_X16[PCIE[name]] < rate < 0.9 * PCIE_X16[PCIE[name]] for rate in rates if rate is not None)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_memory_and_network_are_their_arithmetic(name: str, row: Machine) -> None:
    sockets, channels, mega_transfers = CHANNELS.get(name, (0, 0, 0))
    assert (row.host_memory_bandwidth or 0) == sockets * channels * mega_transfers * 10**6 * 8
    assert (row.host_memory or 0) == HOST_MEMORY_GIB.get(name, 0) * GIB
    cards, gigabits, of_a_gpu = NETWORK.get(name, (0, 0, None))
    assert (row.network_bandwidth or 0) == cards * gigabits * 10**9 // 8
    assert (row.gpu_network_bandwidth or 0) == (of_a_gpu or 0) * gigabits * 10**9 // 8
    # All cards' GPUs together are the host's: what a GPU's cards reach, by the GPUs that have them together.
    if row.gpu_network_bandwidth is not None and row.network_bandwidth is not None:
        assert row.gpu_network_bandwidth * row.gpus_per_host // (row.gpus_per_nic or 1) == row.network_bandwidth
    assert row.network_latency is None or 1_000 < row.network_latency < 1_000_000
    # A network that nothing is known of has no latency either.
    assert row.network_latency is None or row.network_bandwidth is not None


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        *((name, name) for name in MACHINES),
        ("ml.p4d.24xlarge", "p4d.24xlarge"),
        ("ml.p3.16xlarge", "p3.16xlarge"),
        ("p4d", "p4d.24xlarge"),
        ("P4DE", "p4de.24xlarge"),
        ("ml.p5en", "p5en.48xlarge"),
        ("p5", "p5.48xlarge"),
        ("p3", "p3.16xlarge"),
        ("dgx_h100", "dgx-h100"),
        ("DGX A100", "dgx-a100"),
        (" DGX-B200 ", "dgx-b200"),
        ("8x L40S", "8x-l40s"),
        ("2x_RTX_4090", "2x-rtx-4090"),
        ("p4d.48xlarge", None),
        ("p3.2xlarge", None),
        ("dgx", None),
        ("ml.", None),
        ("", None),
    ],
)
def test_spellings(spelled: str, name: str | None) -> None:
    assert find_machine(spelled) == name


def test_no_two_machines_answer_to_one_spelling() -> None:
    spellings = [*MACHINES, *(name.partition(".")[0] for name in MACHINES if "." in name)]
    assert [find_machine(each) for each in MACHINES] == list(MACHINES)
    assert len({spelled.casefold() for spelled in spellings}) == len(spellings)


@pytest.mark.parametrize(
    ("spelled", "near"),
    [("p4d.48xlarge", "p4d.24xlarge"), ("dgx-h101", "dgx-h100"), ("ml.p4x", "p4d.24xlarge"), ("tpu", None), ("", None)],
)
def test_the_nearest_spelling(spelled: str, near: str | None) -> None:
    assert nearest_machine(spelled) == near
