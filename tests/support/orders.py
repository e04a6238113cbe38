"""Orders and decisions for tests: interleaved by hand, and any that are valid at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from loadahead.sim.planner import Order, Policy
from loadahead.sim.workload import Workload
from tests.support.plans import workloads
from tests.support.slow_planner import rank_tasks

# Two ranks of two stages each and four microbatches, interleaved: what torch's ScheduleInterleaved1F1B runs.
INTERLEAVED = (
    "0F0,0F1,2F0,2F1,0F2,2B0,0F3,2B1,2F2,0B0,2F3,0B1,2B2,2B3,0B2,0B3",
    "1F0,1F1,3F0,3B0,3F1,3B1,1F2,1B0,1F3,1B1,3F2,3B2,3F3,3B3,1B2,1B3",
)
# The same ranks in a V: each microbatch comes back the way it went, and stages 1 and 2 are neighbours on one rank.
V_SHAPED = (
    "0F0,0F1,0F2,3F0,3B0,0F3,3F1,3B1,3F2,3B2,0B0,3F3,3B3,0B1,0B2,0B3",
    "1F0,2F0,1F1,2F1,1F2,2F2,1F3,2F3,2B0,1B0,2B1,1B1,2B2,1B2,2B3,1B3",
)


def written(rows: tuple[str, ...], name: str = "interleaved-by-hand") -> Order:
    """The order of rows as a file has them."""
    return Order.of([row.split(",") for row in rows], name)


def virtual_stages(ranks: int, each: int, microbatches: int) -> Order:
    """Interleaved 1F1B of so many stages a rank, as torch's ScheduleInterleaved1F1B has it.

    Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters" (2021). Rank r holds stages r,
    r + ranks and so on; microbatches go through them in rounds of ``ranks``, or of all where there are fewer.
    """
    a_round = microbatches // max(1, microbatches // ranks)
    if microbatches % a_round:
        raise ValueError(f"{microbatches} microbatches are no whole rounds of {a_round}")
    rows = []
    for rank in range(ranks):
        total = each * microbatches
        ahead = min(total, (each - 1) * a_round + 2 * (ranks - 1 - rank))
        forwards, backwards = (
            [_virtual(step, rank, ranks, each, a_round, letter) for step in range(total)] for letter in "FB"
        )
        row, rest = forwards[:ahead], forwards[ahead:]
        for forward, backward in zip(rest, backwards[: len(rest)], strict=True):
            row += [forward, backward]
        rows.append(row + backwards[len(rest) :])
    return Order.of(rows, f"virtual {ranks} x {each}, {microbatches} microbatches")


def _virtual(step: int, rank: int, ranks: int, each: int, a_round: int, letter: str) -> str:
    chunk = step // a_round % each
    stage = rank + ranks * (chunk if letter == "F" else each - 1 - chunk)
    return f"{stage}{letter}{step // (a_round * each) * a_round + step % a_round}"


def v_shape(ranks: int, microbatches: int, in_flight: int) -> Order:
    """Rank r holds stages r and 2 ranks - 1 - r, so that each microbatch comes back the way it went.

    The passes are those of :func:`as_run`, with at most so many microbatches in flight.
    """
    placement = [*range(ranks), *reversed(range(ranks))]
    return as_run(placement, microbatches, in_flight, f"v {ranks}, {microbatches} microbatches, {in_flight} in flight")


def as_run(placement: Sequence[int], microbatches: int, in_flight: int, name: str) -> Order:
    """The order of a run in which each pass takes one step, and each rank takes the best pass that is ready.

    Backwards are better than forwards, then later stages, then earlier microbatches; a microbatch enters only while
    fewer than ``in_flight`` are in the pipeline.
    """
    stages = len(placement)
    rows: list[list[str]] = [[] for _ in range(max(placement) + 1)]
    done: set[tuple[str, int, int]] = set()
    waiting = {(kind, stage, mb) for kind in "FB" for stage in range(stages) for mb in range(microbatches)}
    while waiting:
        entered = sum(("F", 0, mb) in done and ("B", 0, mb) not in done for mb in range(microbatches))
        ready = [
            one for one in waiting if _reads(*one, stages) <= done and (one[:2] != ("F", 0) or entered < in_flight)
        ]
        step = {}
        for kind, stage, mb in sorted(ready, key=lambda one: (one[0] == "B", one[1], -one[2])):
            step[placement[stage]] = kind, stage, mb
        for rank, (kind, stage, mb) in step.items():
            rows[rank].append(f"{stage}{kind}{mb}")
        done |= set(step.values())
        waiting -= set(step.values())
    return Order.of(rows, name)


@st.composite
def orders(draw: st.DrawFn, most_ranks: int = 3, most_stages: int = 5, most_microbatches: int = 4) -> Order:
    """Any order that does not deadlock: stages on any ranks, and passes as some run of the whole pipeline has them.

    In that run a pass comes once what it reads is there; which of those comes next, and so on which rank, is drawn.
    """
    stages = draw(st.integers(1, most_stages))
    ranks = draw(st.integers(1, min(most_ranks, stages)))
    more = st.lists(st.integers(0, ranks - 1), min_size=stages - ranks, max_size=stages - ranks)
    placement = draw(st.permutations([*range(ranks), *draw(more)]))
    microbatches = draw(st.integers(1, most_microbatches))
    rows: list[list[str]] = [[] for _ in range(ranks)]
    done: set[tuple[str, int, int]] = set()
    waiting = [(kind, stage, mb) for kind in "FB" for stage in range(stages) for mb in range(microbatches)]
    while waiting:
        ready = [one for one in waiting if _reads(*one, stages) <= done]
        kind, stage, mb = draw(st.sampled_from(ready))
        rows[placement[stage]].append(f"{stage}{kind}{mb}")
        done.add((kind, stage, mb))
        waiting.remove((kind, stage, mb))
    return Order.of(rows, "drawn")


def _reads(kind: str, stage: int, mb: int, stages: int) -> set[tuple[str, int, int]]:
    if kind == "F":
        return {("F", stage - 1, mb)} if stage else set()
    return {("F", stage, mb), ("B", stage + 1, mb)} if stage + 1 < stages else {("F", stage, mb)}


@st.composite
def workloads_for(draw: st.DrawFn, order: Order, most_units: int = 2) -> Workload:
    """Stages of differing numbers of units, as many as the order runs."""
    return draw(workloads(most_ranks=order.stages, least_ranks=order.stages, most_units=most_units))


@st.composite
def policies_for(draw: st.DrawFn, order: Order) -> Policy:
    """Any policy over an order that is given."""
    return Policy(
        order=order,
        microbatches=order.microbatches,
        ranks=order.ranks,
        checkpoint=draw(st.sampled_from([True, True, True, False])),
        offload=draw(st.sampled_from([True, True, True, False])),
        horizon=draw(st.integers(1, 6)),
        horizon_unit=draw(st.sampled_from(["tasks", "layers"])),
        release_window=draw(st.integers(1, 3)),
        receive_ahead=draw(st.integers(0, 3)),
        min_bytes=draw(st.sampled_from([0, 0, 1, 3, 4, 6])),
    )


@st.composite
def decision_rows(draw: st.DrawFn, workload: Workload, policy: Policy) -> list[Mapping[str, Any]]:
    """Any valid decisions, on every boundary in the order of a plan's file; without checkpointing all stay.

    Frozen units have none: their boundaries are gone once their FORWARD has ended.
    """
    rows: list[Mapping[str, Any]] = []
    for tasks in rank_tasks(workload, policy):
        for (stage, unit, microbatch), needed in tasks.backward_at.items():
            release = acquire = -1
            if policy.checkpoint and draw(st.sampled_from([True, True, False])):
                made = tasks.forward_at[stage, unit, microbatch]
                release = draw(st.integers(made + 1, needed))
                acquire = draw(st.integers(release, needed))
            mode = "recompute" if policy.checkpoint else "keep"
            place = {"stage": stage, "unit": unit, "microbatch": microbatch}
            rows.append(place | {"mode": mode, "release": release, "acquire": acquire})
    return sorted(rows, key=lambda row: (row["stage"], row["unit"], row["microbatch"]))
