"""What docs/machines.md has to hold of the catalogue: its tables and the sources of every figure.

``python -m tests.support.machines_page`` prints it, to be put there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loadahead.scenarios.catalogue.hardware import ACCELERATORS, Accelerator
from loadahead.scenarios.catalogue.machines import MACHINES, Machine
from loadahead.scenarios.roofline import Curve, Kernels
from loadahead.sim.units import format_duration, format_rate

GIB = 2**30
# The figures that a machine may have beside those of its GPUs.
SHARED = (
    "gpus_per_switch",
    "uplink_d2h",
    "uplink_h2d",
    "duplex",
    "host_memory",
    "host_memory_bandwidth",
    "network_bandwidth",
    "gpu_network_bandwidth",
    "network_latency",
)
MACHINE_HEADS = (
    "`machine`",
    "GPUs",
    "GPUs per switch",
    "uplink, each way",
    "host memory",
    "its bandwidth",
    "network of the host",
    "of one GPU",
    "network latency",
    "between GPUs",
    "a GPU's link to the host",
)
ACCELERATOR_HEADS = ("`preset`", "memory", "link to the host, each way", "between GPUs", "memory bandwidth", "bfloat16")
KERNEL_HEADS = (
    "`preset`",
    "of its peak, by a product's GFLOP",
    "of its memory's bandwidth",
    "start of a kernel",
    "step between products",
    "flash attention, by its GFLOP",
    "backward",
)
NOT_KNOWN = "not known"


def machines_table() -> str:
    return _table(MACHINE_HEADS, [_machine(name, each) for name, each in MACHINES.items()])


def accelerators_table() -> str:
    return _table(ACCELERATOR_HEADS, [_accelerator(name, each) for name, each in ACCELERATORS.items()])


def kernels_table() -> str:
    return _table(KERNEL_HEADS, [_kernels(name, each.kernels) for name, each in ACCELERATORS.items()])


def kernels_sources() -> str:
    """What each GPU's kernels are taken from, those of one source together."""
    by_source: dict[str, list[str]] = {}
    for name, row in ACCELERATORS.items():
        by_source.setdefault(row.kernels.source, []).append(f"`{name}`")
    return "\n".join(f"- {', '.join(names)}: {source}." for source, names in by_source.items())


def sources_of(name: str, row: Machine | Accelerator) -> str:
    """The sources of one row, each with the figures that come from it, and the figures that nothing gives."""
    by_source: dict[str, list[str]] = {}
    for figure, source in row.sources.items():
        by_source.setdefault(source, []).append(f"`{figure}`")
    lines = [f"- {', '.join(figures)}: {source}." for source, figures in by_source.items()]
    missing = _missing(row) if isinstance(row, Machine) else []
    lines += [f"- Not known, so that it limits nothing: {', '.join(missing)}."] if missing else []
    return "\n".join([f"**`{name}`**", "", *lines])


def parts() -> list[str]:
    rows: Mapping[str, Machine | Accelerator] = {**MACHINES, **ACCELERATORS}
    tables = [machines_table(), accelerators_table(), kernels_table(), kernels_sources()]
    return [*tables, *(sources_of(name, row) for name, row in rows.items())]


def _missing(row: Machine) -> list[str]:
    """The figures that are not known; the uplink of a switch with one GPU is that GPU's link."""
    own = ("uplink_d2h", "uplink_h2d") if row.gpus_per_switch == 1 else ()
    return [f"`{figure}`" for figure in SHARED if getattr(row, figure) is None and figure not in own]


def _machine(name: str, row: Machine) -> list[str]:
    assert (row.uplink_d2h, row.d2h) == (row.uplink_h2d, row.h2d), "one cell says both directions"
    return [
        f"`{name}`",
        f"{row.gpus_per_host} x `{row.preset}`",
        _cell(row.gpus_per_switch, str),
        "not shared" if row.gpus_per_switch == 1 else _cell(row.uplink_d2h, format_rate),
        _cell(row.host_memory, lambda size: f"{size / GIB:.0f} GiB"),
        _cell(row.host_memory_bandwidth, format_rate),
        _cell(row.network_bandwidth, format_rate),
        _cell(row.gpu_network_bandwidth, format_rate) + (f" for {row.gpus_per_nic}" if row.gpus_per_nic else ""),
        _cell(row.network_latency, format_duration),
        "NVLink" if row.p2p_link is None else f'"{row.p2p_link}"',
        "the preset's" if row.d2h is None else format_rate(row.d2h),
    ]


def _accelerator(name: str, row: Accelerator) -> list[str]:
    assert row.d2h == row.h2d, "one cell says both directions"
    return [
        f"`{name}`",
        f"{row.memory / GIB:.2f} GiB",
        format_rate(row.d2h),
        format_rate(row.p2p_bandwidth),
        format_rate(row.memory_bandwidth),
        f"{row.flops / 1e12:g} TFLOP/s",
    ]


def _kernels(name: str, kernels: Kernels) -> list[str]:
    return [
        f"`{name}`",
        _curve(kernels.products),
        f"{kernels.memory_share:.2f}",
        format_duration(kernels.start_ns),
        format_duration(kernels.step_ns),
        _curve(kernels.flash),
        _curve(kernels.flash_backward),
    ]


def _curve(points: Curve) -> str:
    return ", ".join(f"{flops / 1e9:.4g}: {share:.2f}" for flops, share in points)


def _cell(value: int | None, show: Callable[[int], str]) -> str:
    return NOT_KNOWN if value is None else show(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows]).replace(
        " --- ", "---"
    )


if __name__ == "__main__":
    print(*parts(), sep="\n\n")
