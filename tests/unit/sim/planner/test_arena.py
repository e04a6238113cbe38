"""A row, a section or a kind too many is a clear failure, and never overwrites a neighbour."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from loadahead.sim.ir.kinds import QUEUE_OF, Kind
from loadahead.sim.planner import Policy, arena, columns
from loadahead.sim.planner.arena import Arena, UnitSizes
from loadahead.sim.planner.horizon import horizon_decisions
from loadahead.sim.planner.lower import lower, lower_without_rows
from loadahead.sim.planner.operations import append
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.workload import Workload
from tests.support.plans import uniform_workload

POLICY = Policy(ranks=2, microbatches=4, horizon=1)
SIZES = uniform_workload(2, 2).boundary_bytes()
# Each section that grows, and the scalar that says how many rows it has room for.
ROOMS = {
    "END": arena.OP_ROOM,
    "BUFFER_ROWS": arena.BUFFER_ROOM,
    "RELEASE_ROWS": arena.RELEASE_ROOM,
    "SLOT_ROWS": arena.SLOT_ROOM,
}
COUNTED = {"END": arena.OPS, "BUFFER_ROWS": arena.BUFFERS, "RELEASE_ROWS": arena.RELEASED, "SLOT_ROWS": arena.SLOTS}


def made(missing: int = 0) -> tuple[Arena, Tasks, Workload]:
    """Return an arena with room for so many operations fewer than the plan has."""
    workload, order = uniform_workload(2, 2), POLICY.make_order()
    tasks = tasks_of(units_of(workload, order), order)
    decisions = horizon_decisions(tasks, SIZES, POLICY)
    operations = columns.operations_of(tasks, True, decisions.offloaded)
    out = Arena(tasks, UnitSizes.of(workload), operations - missing, checkpoint=True, recording=True)
    out.memory[arena.RECEIVE_AHEAD] = 1
    return out, tasks, workload


def walk(room: Arena, tasks: Tasks) -> int:
    decisions = horizon_decisions(tasks, SIZES, POLICY)
    assert decisions.offloaded > 0
    return int(lower(room.memory, decisions.release, decisions.acquire))


@pytest.mark.parametrize("missing", [1, 6, 50])
def test_too_few_operations_are_a_clear_failure(missing: int) -> None:
    whole, tasks, _ = made()
    assert walk(whole, tasks) == -1
    whole.require_room()
    small, tasks, _ = made(missing)
    assert walk(small, tasks) == -1
    with pytest.raises(RuntimeError, match=r"arena is too small: section (END|ROWS) has no room"):
        small.require_room()
    # Buffers, which lie behind the operations' rows, are those of the whole walk.
    count = int(whole.memory[arena.BUFFERS])
    assert np.array_equal(small.view(arena.BUFFER_ROWS)[:count], whole.view(arena.BUFFER_ROWS)[:count])
    kept = len(small.view(arena.ROWS)) - 1  # the last row is written again and again
    columns_but_lists = slice(0, 4)
    assert np.array_equal(
        small.view(arena.ROWS)[:kept, columns_but_lists], whole.view(arena.ROWS)[:kept, columns_but_lists]
    )


@pytest.mark.parametrize("section", ROOMS)
def test_each_growing_section_says_that_it_is_full(section: str) -> None:
    """Room for one row fewer than the walk needs, in each section in turn; nothing else changes."""
    whole, tasks, _ = made()
    walk(whole, tasks)
    needed = int(whole.memory[COUNTED[section]])
    small, tasks, _ = made()
    small.memory[ROOMS[section]] = needed - 1
    walk(small, tasks)
    with pytest.raises(RuntimeError, match=f"section {section} "):
        small.require_room()
    again, tasks, _ = made()
    again.memory[ROOMS[section]] = needed
    walk(again, tasks)
    again.require_room()


def test_a_span_too_many_is_not_written_into_the_next_ranks() -> None:
    room, tasks, _ = made()
    units = room.view(arena.UNIT_ROWS)
    units[:, arena.U_DURATION : arena.U_WORKSPACE] = 1
    walk(room, tasks)
    room.require_room()
    ranks = room.view(arena.RANK_ROWS)
    ranks[0, arena.R_LAST_SPAN] = ranks[0, arena.R_SPAN] - 2  # compute's last span of rank 0 has no room
    before = room.view(arena.SPANS).copy()
    walk(room, tasks)
    with pytest.raises(RuntimeError, match="section SPANS"):
        room.require_room()
    assert np.array_equal(room.view(arena.SPANS), before)


def test_an_entry_too_many_of_a_list_is_not_written_into_the_next_list() -> None:
    """An operation's four lists lie side by side, three entries each."""

    @numba.njit
    def append_all(m, which, count):  # type: ignore[no-untyped-def]
        for value in range(count):
            append(m, True, which, 0, value)

    room, tasks, _ = made()
    walk(room, tasks)
    row = room.view(arena.ROWS)[0]
    row[4:] = -1
    append_all(room.memory, 1, arena.LISTED)
    room.require_room()
    append_all(room.memory, 1, 1)
    with pytest.raises(RuntimeError, match="section ROWS"):
        room.require_room()
    first = 4 + arena.EDGES + arena.LISTED
    assert row[first : first + arena.LISTED].tolist() == [0, 1, 2]
    assert (row[4:first] == -1).all() and (row[first + arena.LISTED :] == -1).all()


def test_planning_in_too_small_an_arena_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind every plan: a wrong count of operations never makes a wrong plan."""
    right = columns.operations_of
    monkeypatch.setattr(columns, "operations_of", lambda *arguments: right(*arguments) - 6)
    from loadahead.sim.planner import build_plan

    with pytest.raises(RuntimeError, match="arena is too small"):
        build_plan(uniform_workload(2, 2), POLICY)
    monkeypatch.setattr(columns, "operations_of", lambda *arguments: right(*arguments) + 1)
    with pytest.raises(AssertionError, match="operations_of counts"):
        build_plan(uniform_workload(2, 2), POLICY)


def test_a_section_without_a_shape_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tasks, workload = made()
    monkeypatch.setattr(arena, "_SECTIONS_END", arena.LAUNCH + 1)
    with pytest.raises(KeyError):
        Arena(tasks, UnitSizes.of(workload), 10, checkpoint=True, recording=True)


def test_every_kind_has_a_queue_and_a_place_in_the_unit_rows() -> None:
    """A kind that is added has to be put on a queue, and gets its own duration and workspace."""
    assert set(QUEUE_OF) == set(Kind)
    assert [int(kind) for kind in Kind] == list(range(arena.KINDS))
    assert arena.U_WORKSPACE - arena.U_DURATION == arena.UNIT_WIDTH - arena.U_WORKSPACE == len(Kind)


def test_a_walk_leaves_nothing_behind_for_the_next() -> None:
    room, tasks, _ = made()
    walk(room, tasks)
    first = room.view(arena.ROWS).copy()
    stays = np.full(tasks.boundaries, -1, dtype=np.int64)
    assert lower_without_rows(room.memory, stays, stays) == -1
    walk(room, tasks)
    assert np.array_equal(room.view(arena.ROWS), first)
