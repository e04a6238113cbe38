"""Every accelerator's figures have sources, and are what its link and its memory can be."""

from __future__ import annotations

import re

import pytest

from loadahead.scenarios.catalogue.hardware import ACCELERATORS, Accelerator
from loadahead.scenarios.roofline import Compute

GIB = 2**30
# What PCI Express x16 carries in each direction, and the generation of each card's link (the vendor's datasheets).
PCIE_X16 = {3: 15.75e9, 4: 31.5e9, 5: 63.0e9}
GENERATIONS = {
    "h100-sxm": 5,
    "h200-sxm": 5,
    "b200-sxm": 5,
    "a100-sxm-80gb": 4,
    "a100-sxm-40gb": 4,
    "v100-sxm2-32gb": 3,
    "v100-sxm2-16gb": 3,
    "l40s": 4,
    "rtx-4090": 4,
}
# What the cards report, in GiB, and the round number of their names: the latter is of HBM modules, in GB or GiB.
REPORTED = {
    "h100-sxm": 79.6,
    "h200-sxm": 139.8,
    "a100-sxm-80gb": 79.2,
    "a100-sxm-40gb": 39.5,
    "v100-sxm2-32gb": 31.7,
}
NAMED = {
    "h100-sxm": 80,
    "h200-sxm": 141,
    "b200-sxm": 180,
    "a100-sxm-80gb": 80,
    "a100-sxm-40gb": 40,
    "v100-sxm2-32gb": 32,
    "v100-sxm2-16gb": 16,
    "l40s": 48,
    "rtx-4090": 24,
}
FIGURES = ("d2h", "h2d", "p2p_bandwidth", "memory", "memory_bandwidth", "flops", "link_latency")
ROWS = list(ACCELERATORS.items())


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_each_figure_has_a_source_that_names_a_document_and_its_year(name: str, row: Accelerator) -> None:
    assert set(row.sources) == {*FIGURES, *(["p2p_link"] if row.p2p_link else [])}
    for figure, source in row.sources.items():
        if figure == "link_latency":
            assert "no document gives it" in source
        else:
            assert re.search(r"\b20[12]\d\b", source), (name, figure, source)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_copies_reach_between_two_thirds_and_nine_tenths_of_the_links_datasheet(name: str, row: Accelerator) -> None:
    most = PCIE_X16[GENERATIONS[name]]
    assert 2 / 3 * most < row.d2h < 0.9 * most
    assert 2 / 3 * most < row.h2d < 0.9 * most
    if row.p2p_link == "pcie":
        assert row.p2p_bandwidth < 0.9 * most
    else:
        assert row.p2p_bandwidth > 2 * most


@pytest.mark.parametrize(("name", "reported"), REPORTED.items())
def test_capacities_are_what_the_cards_report(name: str, reported: float) -> None:
    assert ACCELERATORS[name].memory / GIB == pytest.approx(reported, abs=0.1)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_capacities_are_a_little_less_than_the_cards_names(name: str, row: Accelerator) -> None:
    assert 0.92 * NAMED[name] * GIB < row.memory < NAMED[name] * GIB
    # A source that says GiB or MiB says this figure.
    told = re.search(r"says ([\d.]+) (GiB|MiB)", row.sources["memory"])
    assert told is not None
    assert float(told[1]) * {"GiB": GIB, "MiB": 2**20}[told[2]] == pytest.approx(row.memory, abs=1)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_kernels_reach_no_more_than_the_peaks(name: str, row: Accelerator) -> None:
    sizes = [flops for flops, _ in row.kernels.products]
    assert sizes == sorted(set(sizes))
    assert all(0 < share < 1 for _, share in row.kernels.products)
    assert 0.6 < row.kernels.memory_share < 1
    assert row.kernels.source


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_larger_product_takes_longer(name: str, row: Accelerator) -> None:
    times = [flops / share for flops, share in row.kernels.products]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("name", "side", "tflops"),
    [
        ("h100-sxm", 10240, 719.72),
        ("h200-sxm", 2048, 676.59),
        ("v100-sxm2-16gb", 2048, 78.23),
        ("rtx-4090", 1024, 126.84),
    ],
)
def test_a_square_product_takes_as_long_as_it_was_measured_to(name: str, side: int, tflops: float) -> None:
    row = ACCELERATORS[name]
    compute = Compute(flops=row.flops, efficiency=None, memory_bandwidth=row.memory_bandwidth, kernels=row.kernels)
    flops = 2 * side**3
    assert compute.products_ns(flops, flops) == pytest.approx(flops / tflops / 1e12 * 1e9, abs=1)


def test_the_l40s_best_square_is_the_published_one() -> None:
    row = ACCELERATORS["l40s"]
    assert max(share for _, share in row.kernels.products) * row.flops == pytest.approx(269.15e12)
