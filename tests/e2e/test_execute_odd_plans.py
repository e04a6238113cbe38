"""A proven plan runs however it is written: other ids, other list orders, odd labels, more waits, later frees."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.replay.plan_match import unheld_workspaces
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import plan_from_json, plan_to_json
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.verify import verify
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, tiny_spec, workload_of
from tests.support.orders import V_SHAPED, written

SPEC = tiny_spec()
PEAKS = ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes")
TASKS = ("FORWARD", "RECOMPUTE", "BACKWARD", "OPTIMIZER_STEP")

Rows = list[dict[str, Any]]


class Writing:
    """A plan's rows, to be written otherwise; the queues hold ids of operations, in order."""

    def __init__(self, obj: dict[str, Any], seed: int) -> None:
        self.obj, self.chance = obj, random.Random(seed)
        self.ops: dict[int, dict[str, Any]] = {op["id"]: op for op in obj["ops"]}
        self.queues: dict[tuple[int, str], list[int]] = {}
        for op in obj["ops"]:
            self.queues.setdefault((op["rank"], op["queue"]), []).append(op["id"])

    def compute(self) -> list[list[int]]:
        return [queue for (_, name), queue in sorted(self.queues.items()) if name == "compute"]

    def before(self, op: int) -> set[int]:
        """The operations that happen before this one."""
        previous = {b: a for queue in self.queues.values() for a, b in zip(queue, queue[1:], strict=False)}
        seen: set[int] = set()
        waiting = [op]
        while waiting:
            one = waiting.pop()
            more = {*self.ops[one]["after"], *({previous[one]} if one in previous else ())} - seen
            seen |= more
            waiting += more
        return seen

    def listed(self) -> dict[str, Any]:
        """The plan as a file has it, its operations in any order that their queues and edges allow."""
        self.list_order(self.chance.choice)
        return self.obj

    def list_order(self, choose: Callable[[list[int]], int]) -> None:
        left = {key: list(queue) for key, queue in self.queues.items()}
        done: set[int] = set()
        rows: Rows = []
        while any(left.values()):
            ready = [queue[0] for queue in left.values() if queue and set(self.ops[queue[0]]["after"]) <= done]
            op = choose(ready)
            left[self.ops[op]["rank"], self.ops[op]["queue"]].pop(0)
            done.add(op)
            rows.append(self.ops[op])
        self.obj["ops"] = rows


# ---- harmless changes ----


def other_ids(plan: Writing) -> None:
    """Operations and buffers get ids of another order, with gaps."""
    rows, buffers = list(plan.ops.values()), plan.obj["buffers"]
    op_ids = dict(zip(plan.ops, plan.chance.sample(range(10**9), len(rows)), strict=True))
    buffer_ids = {
        row["id"]: new for row, new in zip(buffers, plan.chance.sample(range(10**9), len(buffers)), strict=True)
    }
    for row in rows:
        row["id"], row["after"] = op_ids[row["id"]], [op_ids[edge] for edge in row["after"]]
        for name in ("reads", "writes", "allocs", "frees"):
            row[name] = [buffer_ids[buffer] for buffer in row[name]]
    for row in buffers:
        row["id"] = buffer_ids[row["id"]]
    plan.chance.shuffle(buffers)
    plan.ops = {row["id"]: row for row in rows}
    plan.queues = {key: [op_ids[op] for op in queue] for key, queue in plan.queues.items()}


def no_labels(plan: Writing) -> None:
    """What neither computes nor copies names no unit."""
    for row in plan.ops.values():
        if row["kind"] in ("RELEASE", "ACQUIRE"):
            row["stage"] = row["unit"] = row["microbatch"] = -1


def more_edges(plan: Writing) -> None:
    """Operations wait for what happens before them anyway."""
    for op, row in plan.ops.items():
        known = sorted(plan.before(op) - set(row["after"]))
        row["after"] += plan.chance.sample(known, min(3, len(known)))
        plan.chance.shuffle(row["after"])


def freed_after_the_backward(plan: Writing) -> None:
    """A RELEASE after the BACKWARD frees what it read."""
    at = max(plan.ops) + 1
    for queue in plan.compute():
        for op in list(queue):
            row = plan.ops[op]
            if row["kind"] == "BACKWARD" and plan.chance.random() < 0.7:
                plan.ops[at] = row | {"id": at, "kind": "RELEASE", "after": [], "reads": [], "writes": [], "allocs": []}
                row["frees"] = []
                queue.insert(queue.index(op) + 1, at)
                at += 1


def later_releases(plan: Writing) -> None:
    """Every other RELEASE that nothing waits for stands behind the task that it stood before, or behind two."""
    waited_for = {edge for row in plan.ops.values() for edge in row["after"]}
    for queue in plan.compute():
        releases = [op for op in queue if plan.ops[op]["kind"] == "RELEASE" and op not in waited_for]
        for op in [op for op in releases if plan.chance.random() < 0.5]:
            place = queue.index(op)
            behind = [k for k in range(place, len(queue)) if plan.ops[queue[k]]["kind"] in ("FORWARD", "BACKWARD")]
            if len(behind) > 1:
                queue.remove(op)
                queue.insert(plan.chance.choice(behind[:2]), op)


def taken_behind_recomputes(plan: Writing) -> None:
    """What a BACKWARD needs beside its boundary is taken between its RECOMPUTE and itself."""
    for queue in plan.compute():
        for at in range(len(queue) - 2):
            acquire, recompute, then = (plan.ops[op] for op in queue[at : at + 3])
            if [acquire["kind"], recompute["kind"], then["kind"]] != ["ACQUIRE", "RECOMPUTE", "BACKWARD"]:
                continue
            waited = {*recompute["after"]}.union(*(plan.before(edge) for edge in recompute["after"]))
            if acquire["id"] not in waited and not {*acquire["allocs"]} & {*recompute["reads"]}:
                queue[at], queue[at + 1] = queue[at + 1], queue[at]


def merged(plan: Writing) -> None:
    """Neighbouring ACQUIREs are one, and neighbouring RELEASEs, unless the second waits for what the first lets go."""
    for queue in plan.compute():
        for op in list(queue):
            before = queue[queue.index(op) - 1] if queue.index(op) else op
            one, two = plan.ops[before], plan.ops[op]
            if before == op or one["kind"] != two["kind"] or one["kind"] not in ("RELEASE", "ACQUIRE"):
                continue
            if any(before in plan.before(edge) for edge in two["after"]):
                continue
            for name in ("after", "allocs", "frees"):
                one[name] = sorted({*one[name], *two[name]} - ({before} if name == "after" else set()))
            queue.remove(op)
            del plan.ops[op]
            for row in plan.ops.values():
                row["after"] = sorted({before if edge == op else edge for edge in row["after"]})


CHANGES = (other_ids, no_labels, more_edges, freed_after_the_backward, later_releases, merged)


# ---- runs ----


@cache
def costs(stages: int) -> Costs:
    return calibrate(workload(stages), SPEC, hardware=HARDWARE, repeats=1)


@cache
def workload(stages: int) -> Workload:
    return workload_of(SPEC, stages)


def sound(stages: int, **policy: Any) -> dict[str, Any]:
    fields = {"ranks": stages, "microbatches": 4, "horizon": 1} | policy
    obj = plan_to_json(build_plan(workload(stages), Policy(**fields)))
    del obj["decisions"]  # they say where each RELEASE stands
    return obj


def require_run(obj: dict[str, Any], stages: int, seed: int | None = None) -> None:
    """The plan is proven, gives plain training's gradients, and holds what it says."""
    plan = plan_from_json(obj)
    assert [violation.message for violation in verify(plan)] == []
    done = execute(plan, workload(stages), SPEC, costs=costs(stages), steps=2, poison=True, delays_seed=seed)
    assert done.max_grad_error == 0.0
    predicted = simulate(plan, costs(stages)).metrics
    for measured, wanted in zip(done.timeline.metrics.ranks, predicted.ranks, strict=True):
        assert [getattr(measured, name) for name in PEAKS] == [getattr(wanted, name) for name in PEAKS]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
def test_one_change(change: Callable[[Writing], None], ranks: int) -> None:
    plan = Writing(sound(ranks), 1)
    change(plan)
    require_run(plan.listed(), ranks)


def test_a_gradient_may_be_taken_between_recompute_and_backward() -> None:
    plan = Writing(sound(2, receive_ahead=0), 1)
    before = [list(queue) for queue in plan.compute()]
    taken_behind_recomputes(plan)
    assert plan.compute() != before
    require_run(plan.listed(), 2)


def test_a_workspace_that_a_run_does_not_hold_is_told() -> None:
    """Predicted peaks count it, and a run has no use for it yet."""
    obj = sound(1)
    recompute, backward = (next(op for op in obj["ops"] if op["kind"] == kind) for kind in ("RECOMPUTE", "BACKWARD"))
    names = {name: recompute[name] for name in ("stage", "unit", "microbatch")}
    assert names == {name: backward[name] for name in names}
    obj["buffers"].append({"id": 10**6, "rank": 0, "space": "device", "bytes": 1000, "role": "workspace"} | names)
    for op, lists in ((recompute, ("writes", "allocs")), (backward, ("reads", "frees"))):
        for name in lists:
            op[name].append(10**6)
    plan = plan_from_json(obj)
    assert verify(plan) == []
    done = execute(plan, workload(1), SPEC, costs=costs(1), steps=2)
    assert done.max_grad_error == 0.0
    told = [line for line in done.timeline.header["warnings"] if "workspace" in line]
    assert len(told) == 1 and told[0].startswith("the plan has 1 workspace buffer of 1000 B in all")


def test_a_workspace_inside_of_the_first_backward_is_no_gradient() -> None:
    obj = sound(1)
    backward = next(op for op in obj["ops"] if op["kind"] == "BACKWARD" and op["unit"] == 0)
    names = {name: backward[name] for name in ("stage", "unit", "microbatch")}
    obj["buffers"].append({"id": 10**6, "rank": 0, "space": "device", "bytes": 0, "role": "workspace"} | names)
    for name in ("writes", "allocs", "frees"):
        backward[name].append(10**6)
    require_run(obj, 1)


def test_what_a_task_takes_and_frees_is_held_at_once() -> None:
    """The next FORWARD frees what a RELEASE would have freed before it: boundaries of both count."""
    obj = sound(1, pipeline="simple")
    at = {op["id"]: place for place, op in enumerate(obj["ops"])}
    for release in [op for op in obj["ops"] if op["kind"] == "RELEASE"]:
        following = [op for op in obj["ops"][at[release["id"]] :] if op["kind"] == "FORWARD" and op["allocs"]]
        if following:
            following[0]["frees"] += release["frees"]
            following[0]["after"] += release["after"]
            obj["ops"].remove(release)
    require_run(obj, 1)


def test_recomputes_cannot_be_exchanged_for_workspaces_that_hold_nothing() -> None:
    """The verifier cannot know what a unit keeps; the model does."""
    obj = sound(1, offload=False)
    obj["ops"] = [op for op in obj["ops"] if op["kind"] != "RECOMPUTE"]
    for number, op in enumerate([op for op in obj["ops"] if op["kind"] == "FORWARD"]):
        names = {name: op[name] for name in ("stage", "unit", "microbatch")}
        obj["buffers"].append(
            {"id": 10**6 + number, "rank": 0, "space": "device", "bytes": 0, "role": "workspace"} | names
        )
        backward = next(
            other for other in obj["ops"] if other["kind"] == "BACKWARD" and names == {k: other[k] for k in names}
        )
        for lists in (op["writes"], op["allocs"], backward["reads"], backward["frees"]):
            lists.append(10**6 + number)
    plan = plan_from_json(obj)
    assert verify(plan) == []
    with pytest.raises(InputError, match=r"BACKWARD 0\.\d+\.\d+ has no RECOMPUTE and its FORWARD keeps 0 bytes"):
        execute(plan, workload(1), SPEC, costs=costs(1), steps=2)


@pytest.mark.parametrize("freed_late", [False, True])
def test_what_a_run_holds_is_no_workspace_to_warn_of(freed_late: bool) -> None:
    plan = Writing(sound(2, checkpoint=False), 1)
    if freed_late:
        freed_after_the_backward(plan)
    assert unheld_workspaces(plan_from_json(plan.listed())) == (0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_several_changes(seed: int) -> None:
    chance = random.Random(seed)
    if seed % 4 == 3:
        stages, obj = 4, sound(4, ranks=2, order=written(V_SHAPED))
    else:
        stages = chance.choice([1, 2, 4])
        pipeline, window = chance.choice(["simple", "interleaved"]), chance.choice([1, 2])
        obj = sound(stages, pipeline=pipeline, release_window=window, receive_ahead=chance.choice([0, 1, 2]))
    for change in chance.sample(CHANGES, 4):
        plan = Writing(obj, seed)
        change(plan)
        obj = plan.listed()
    require_run(obj, stages, seed)
