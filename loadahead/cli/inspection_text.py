"""Shows an inspection: units, processes, resources, copies and what fits, neighbours that are equal told once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from loadahead.cli.rank_map import rank_map_text
from loadahead.cli.tables import table_text
from loadahead.inspection import Inspection
from loadahead.inspection.copies import StageCopies
from loadahead.inspection.groups import NBYTES, GroupTimes
from loadahead.inspection.resources import Resource
from loadahead.inspection.room import Room
from loadahead.inspection.units import NOT_KNOWN, UnitFacts, UnitPlace
from loadahead.reports.tables import NOTHING, Grid
from loadahead.sim.costs import is_estimate
from loadahead.sim.planner import Policy
from loadahead.sim.units import counted, format_bytes, format_duration, format_flops, format_rate, format_ratio

_Item = TypeVar("_Item")
# Rows of a table that are shown: of more, only the first; --json has all.
MOST_ROWS = 40
# smp's names for orders, and what others call these; "interleaved" means virtual stages elsewhere.
_ALSO_CALLED = {"interleaved": " (plain 1F1B, no virtual stages)", "simple": " (GPipe)"}


def inspection_text(found: Inspection) -> str:
    """Return what was understood, in sentences and tables."""
    parts = [
        f"{found.scenario}: {_model_sentence(found)}\n{policy_sentence(found.policy)}",
        table_text(units_grid(found.units, found.costs)),
        rank_map_text(found.ranks),
        *([_sends_sentence(found)] if found.degrees.pipeline_parallel_degree > 1 else []),
        table_text(resources_grid(found.resources)),
        *([table_text(groups_grid(found.groups))] if found.groups else []),
        *([table_text(copies_grid(found.stages))] if any(stage.ratios for stage in found.stages) else []),
        "\n".join(stage_sentences(found.stages)),
        *([] if found.room is None else [table_text(room_grid(found.room))]),
        "\n".join(found.room_sentences),
    ]
    return "\n\n".join(parts)


def _model_sentence(found: Inspection) -> str:
    flops = [unit.facts.flops for unit in found.units]
    known = [each for each in flops if each is not None]
    each = " and GPU of a tensor group" if found.degrees.tensor_parallel_degree > 1 else ""
    work = f"; {format_flops(sum(known))} forward for each microbatch{each}" if known else ""
    if known and len(known) < len(flops):
        work += f", {counted(len(flops) - len(known), 'unit')} left out whose FLOPs are not counted"
    frozen = sum(unit.facts.frozen for unit in found.units)
    first = "The first is" if frozen == 1 else f"The first {frozen} are"
    without = f" {first} frozen: no recompute and no backward." if frozen else ""
    return f"{counted(len(found.units), 'unit')} in {counted(len(found.stages), 'stage')}{work}.{without}"


def policy_sentence(policy: Policy) -> str:
    """Return the order, the microbatches, and whether and when boundaries leave."""
    many = "1 microbatch" if policy.microbatches == 1 else f"{policy.microbatches} microbatches"
    cap = "" if policy.active_microbatches is None else f", at most {policy.active_microbatches} of them active"
    order = f"Order {policy.pipeline}{_ALSO_CALLED.get(policy.pipeline, '')}, {many}{cap}"
    if not policy.checkpoint:
        return f"{order}; no unit is recomputed from its boundary, so that none leaves the GPU."
    if not policy.offload:
        return f"{order}; activation checkpointing is on, offloading is off."
    if policy.is_tuned:
        return f"{order}; offloading, tuning decides which boundaries leave and when."
    horizon = counted(policy.horizon, policy.horizon_unit.removesuffix("s"))
    return f"{order}; offloading with a horizon of {horizon} and a release window of {policy.release_window}."


def _sends_sentence(found: Inspection) -> str:
    pairs, partly = found.degrees.pipeline_parallel_degree - 1, found.partly_crossing_sends
    wholly = [p for p in found.crossing_sends if p not in set(partly)]
    if not found.crossing_sends:
        return "Sends between neighbouring ranks of the pipeline stay on a host."
    clauses: list[str] = []
    for senders, where in ((wholly, ""), (partly, f" in some {_parts(found)}")):
        named = ", ".join(f"{p} and {p + 1}" for p in senders[:8]) + (", ..." if len(senders) > 8 else "")
        which = "all neighbouring ranks" if len(senders) == pairs else f"ranks {named}"
        go = "" if clauses else " of the pipeline go from host to host"
        if senders:
            clauses.append(f"between {which}{go}{where}")
    others = "" if len(found.crossing_sends) == pairs else "; the others stay on a host"
    return f"Sends {', those '.join(clauses)}{others}."


def _parts(found: Inspection) -> str:
    """Return what differs in where it stands: replicas of the pipeline, tensor parts, or both."""
    replicas, parts = found.degrees.data_parallel_degree > 1, found.degrees.tensor_parallel_degree > 1
    return " or ".join([*(["replicas"] if replicas else []), *(["tensor parts"] if parts else [])])


def _runs(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> list[list[_Item]]:
    """Return neighbours with equal keys together."""
    return [list(group) for _, group in groupby(items, key)]


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def units_grid(units: Sequence[UnitPlace], costs: str | None = None) -> Grid:
    """Return a row for equal neighbours of a stage; stages in a row whose units are equal have their rows together."""
    stages = [_runs(own, lambda unit: unit.facts) for own in _runs(units, lambda unit: unit.stage)]
    alike = _runs(stages, lambda runs: tuple((run[0].facts, len(run)) for run in runs))
    rows = []
    for group in alike:
        numbers = [runs[0][0].stage for runs in group]
        for run in group[0]:
            rows.append((_span(numbers), _span([unit.unit for unit in run]), _layers(run, len(group)), *_facts(run[0])))
    headers = ("stage", "unit", "layers", "boundary", "saved", "workspace", "static", "FLOPs")
    times = ("forward", "recompute", "backward")
    note = "Sizes and FLOPs are one GPU's, for one microbatch; FLOPs are the forward's."
    if units[0].facts.forward_ns is None:
        note += f" Times and workspaces: {NOT_KNOWN}."
    elif costs is not None and is_estimate(costs):
        note += f" Times are an {costs}."
    return _cut(Grid(headers=(*headers, *times), rows=tuple(rows), text_columns=frozenset({2}), note=note))


def _layers(run: Sequence[UnitPlace], stages: int) -> str:
    """Return the layers of a run's units; their numbers too where the row is about one stage."""
    first, last = run[0], run[-1]
    if first.layers is None or last.layers is None:
        return NOTHING
    kinds = " + ".join(kind if count == 1 else f"{count} {kind}" for kind, count in first.facts.kinds)
    return kinds if stages > 1 else f"{_span(range(first.layers[0], last.layers[1]))}: {kinds}"


def _facts(unit: UnitPlace) -> tuple[str, ...]:
    facts: UnitFacts = unit.facts
    sizes = (facts.boundary_bytes, facts.saved_bytes, facts.workspace_bytes, facts.static_bytes)
    times = (facts.forward_ns, facts.recompute_ns, facts.backward_ns)
    return (
        *(NOTHING if size is None else format_bytes(size) for size in sizes),
        NOTHING if facts.flops is None else format_flops(facts.flops),
        *(NOTHING if ns is None else format_duration(ns) for ns in times),
    )


def _cut(grid: Grid) -> Grid:
    """Return the grid with its first rows alone, where it has many, and how many are left out."""
    more = len(grid.rows) - MOST_ROWS
    if more <= 0:
        return grid
    note = " ".join(filter(None, [f"{counted(more, 'more row')} (all: --json).", grid.note]))
    return Grid(headers=grid.headers, rows=grid.rows[:MOST_ROWS], text_columns=grid.text_columns, note=note)


def resources_grid(resources: Sequence[Resource]) -> Grid:
    """Return a row for each resource."""
    rows = tuple(
        (
            each.name,
            "no limit known" if each.bandwidth is None else format_rate(each.bandwidth),
            NOTHING if each.latency_ns is None else format_duration(each.latency_ns),
            NOTHING if each.capacity_bytes is None else format_bytes(each.capacity_bytes),
            str(each.gpus),
        )
        for each in resources
    )
    return Grid(headers=("resource", "bandwidth", "latency", "size", "GPUs that share it"), rows=rows)


def groups_grid(groups: Sequence[GroupTimes]) -> Grid:
    """Return a row for each kind of group."""
    rows = tuple(
        (
            each.name,
            str(each.gpus),
            str(each.hosts),
            str(each.lanes),
            *map(format_duration, (each.all_reduce_ns, each.all_gather_ns, each.all_to_all_ns)),
        )
        for each in groups
    )
    headers = ("group", "GPUs", "hosts", "share a host's network", "all-reduce", "all-gather", "all-to-all")
    return Grid(
        headers=headers,
        rows=rows,
        text_columns=frozenset({0}),
        note=f"GPUs that communicate inside layers and at the step's end: times of {format_bytes(NBYTES)}.",
    )


def copies_grid(stages: Sequence[StageCopies]) -> Grid:
    """Return a row for equal neighbours: a stage's copies over its computing, and from where on they are free."""
    known = [stage for stage in stages if stage.ratios is not None]
    rows = []
    for run in _runs(known, lambda stage: (stage.ratios, stage.free)):
        ratios, free = run[0].ratios, run[0].free
        assert ratios is not None
        shown = (ratios.k, ratios.alone, ratios.out, ratios.back)
        figures = (NOTHING if figure is None else format_ratio(figure) for figure in shown)
        at = None if free is None else free.at
        window, horizon = (NOTHING, NOTHING) if at is None else (str(at.release_window), str(at.horizon))
        leave = NOTHING if free is None else f"{free.leaving} of {free.boundaries}"
        rows.append((_span([stage.stage for stage in run]), *figures, horizon, window, leave))
    headers = ("stage", "k", "k alone", "out", "back", "free: from horizon", "release window", "leave there")
    note = (
        "k: copies out and back over forward, recompute and backward, all GPUs of a host copying at once; alone: no "
        "other GPU copies; out: copies out over forward; back: copies back over recompute and backward."
    )
    return _cut(Grid(headers=headers, rows=tuple(rows), text_columns=frozenset(), note=note))


def room_grid(room: Room) -> Grid:
    """Return a row for equal neighbours: a rank's peaks of device memory, and its slots on the host."""
    rows = [
        (
            _span([rank.p for rank in run]),
            format_bytes(run[0].peak_device_bytes),
            format_bytes(run[0].peak_keeping_all_bytes),
            format_bytes(run[0].slots_bytes),
        )
        for run in _runs(room.ranks, lambda rank: replace(rank, p=0))
    ]
    headers = ("p", "peak device memory", "keeping all boundaries", "host slots")
    return _cut(Grid(headers=headers, rows=tuple(rows), text_columns=frozenset()))


def stage_sentences(stages: Sequence[StageCopies]) -> list[str]:
    """Return what the ratios mean, once for stages in a row of which the same is true."""
    out = []
    for run in _runs(stages, lambda stage: stage.sentence):
        numbers = [stage.stage for stage in run]
        who = f"Stage {numbers[0]}" if len(numbers) == 1 else f"Stages {numbers[0]} to {numbers[-1]}"
        out.append(f"{who}: {run[0].sentence}")
    more = len(out) - MOST_ROWS
    return [*out[:MOST_ROWS], *([f"... and {counted(more, 'more')} (all: --json)"] if more > 0 else [])]
