"""A plan and its costs become a predicted timeline, whichever engine runs it."""

from __future__ import annotations

from loadahead.sim.costs import Costs
from loadahead.sim.engines.base import Engine, Times
from loadahead.sim.engines.compiled_engine import run as compiled_run
from loadahead.sim.engines.simpy_engine import run as simpy_run
from loadahead.sim.errors import InputError
from loadahead.sim.host_memory import HostMemory
from loadahead.sim.ir.plan import Plan
from loadahead.sim.links import contended, link_of
from loadahead.sim.memory import MemoryWalk, samples, walk
from loadahead.sim.metrics import step_metrics
from loadahead.sim.routes import LinkTable
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_bytes

ENGINES: dict[str, Engine] = {"simpy": simpy_run, "compiled": compiled_run}
DEFAULT_ENGINE = "compiled"


def find_engine(name: str) -> Engine:
    """Return the engine of that name; raise InputError when there is none."""
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; it must be one of {', '.join(ENGINES)}")
    return ENGINES[name]


def simulate(plan: Plan, costs: Costs, engine: str = DEFAULT_ENGINE) -> Timeline:
    """Return the predicted timeline of one step; raise InputError when the costs do not describe the plan.

    ``header["summary"]`` holds the step's metrics,
    ``header["warnings"]`` sentences about them, ``header["capacity_bytes"]`` the device's memory,
    ``header["host_capacity_bytes"]`` the host's where it is known, and ``header["contended"]`` the names of the shared
    links that were asked for more than they have. ``header["resident_bytes"]`` has for each rank what is on its device
    throughout: weights, their gradients and the optimizer's state.
    """
    times = find_engine(engine)(plan, costs)
    memory = walk(plan, costs)
    levels = samples(plan, memory.during, memory.after, times.start_ns, times.end_ns)
    without_summary = Timeline.of_plan(plan, engine, times.start_ns, times.end_ns, levels)
    summary = step_metrics(plan, without_summary, memory, costs.placement, costs.launches(plan)).to_dict()
    return Timeline.of_plan(
        plan,
        engine,
        times.start_ns,
        times.end_ns,
        levels,
        summary=summary,
        warnings=[*over_capacity(memory, costs), *([times.note] if times.note else [])],
        contended=contended_links(plan, costs, times),
        capacity_bytes=costs.memory_bytes,
        host_capacity_bytes=costs.host_memory_bytes,
        costs=costs.source,
        resident_bytes=memory.static.tolist(),
    )


def contended_links(plan: Plan, costs: Costs, times: Times) -> list[str]:
    """Return the names of the shared links on which copies slowed each other down."""
    table = LinkTable.of_plan(costs, plan)
    if not table.names:
        return []
    link = link_of(plan, table)
    return contended(table, link, times.start_ns + costs.latencies(plan), times.end_ns)


def over_capacity(memory: MemoryWalk, costs: Costs) -> list[str]:
    """Return a sentence for each rank whose peak is more than its device has, and one where the host has too little."""
    of_devices = [
        f"rank {rank} needs {format_bytes(int(peak))} of device memory and has {format_bytes(costs.memory_bytes)}: "
        "this plan would run out of memory"
        for rank, peak in enumerate(memory.peak_device)
        if peak > costs.memory_bytes
    ]
    of_host = HostMemory.of(memory.peak_host, costs.placement).shortage(costs.host_memory_bytes)
    return of_devices if of_host is None else [*of_devices, of_host]
