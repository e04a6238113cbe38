"""Boundaries smaller than ``min_bytes`` stay: by hand, for one rank with two units of 16 KiB and 1 MB."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.sim.costs import Costs
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import decisions_of
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.units import LARGEST_AMOUNT, bytes_apart
from loadahead.sim.workload import UnitShape, Workload
from tests.support.plans import MB, MS, uniform_costs

SMALL, LEAST, LARGE = 16 * 2**10, 64 * 2**10, MB
M = 6  # microbatches: FORWARDs are the tasks 0 to 11, of unit 0 the even ones, and BACKWARDs 12 to 23, the odd ones


def workload(*sizes: int, frozen: int = 0) -> Workload:
    units = tuple(UnitShape(boundary_bytes=size, gradient_bytes=0) for size in sizes)
    return Workload(stages=(units,), frozen_units=frozen)


def policy(**choices: Any) -> Policy:
    fields: dict[str, Any] = {
        "pipeline": "simple",
        "microbatches": M,
        "ranks": 1,
        "horizon": 2,
        "min_bytes": LEAST,
    }
    return Policy(**fields | choices)


def slots(*sizes: int, **choices: Any) -> dict[int, list[tuple[int, int]]]:
    """Each unit's slots of RELEASE and ACQUIRE, by microbatch."""
    rows = list(decisions_of(build_plan(workload(*sizes), policy(**choices))).rows())
    out: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        out.setdefault(row["unit"], []).append((row["release"], row["acquire"]))
    return out


STAY = [(-1, -1)] * M


def test_in_tasks_the_large_ones_leave_as_they_would_without_it() -> None:
    """Of microbatch j the large unit's FORWARD is task 2j + 1 and its BACKWARD task 12 + 2j; h is 2 and w is 1."""
    large = [(2 * j + 3, 12 + 2 * j - 2) for j in range(M)]
    assert slots(SMALL, LARGE) == {0: STAY, 1: large}
    assert slots(SMALL, LARGE, min_bytes=0)[1] == large


def test_in_layers_a_small_boundary_takes_none_of_the_places() -> None:
    """The first two come before the first BACKWARD, task 12; the next one after each BACKWARD of a large unit."""
    large = [(2 * j + 3, 12 if j < 2 else 12 + 2 * (j - 2) + 1) for j in range(M)]
    assert slots(SMALL, LARGE, horizon_unit="layers") == {0: STAY, 1: large}
    assert slots(SMALL, LARGE, horizon_unit="layers", min_bytes=0)[1] != large


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_memory_by_hand(engine: str) -> None:
    """At the turn all six small boundaries are on the GPU, and three large ones: the last two and the first to come.

    Six host slots of 1 MB hold what left. The step has no stall: 12 FORWARDs of 1 ms, 12 BACKWARDs of 2 ms.
    """
    costs: Costs = uniform_costs(1, 2, d2h_bandwidth=10 * 10**9, h2d_bandwidth=10 * 10**9)
    metrics: StepMetrics = simulate(build_plan(workload(SMALL, LARGE), policy()), costs, engine).metrics
    assert (metrics.offloaded, metrics.kept) == (M, M)
    assert metrics.peak_boundary_bytes == M * SMALL + 3 * LARGE
    assert metrics.ranks[0].peak_host_bytes == M * LARGE
    assert metrics.step_time_ns == 36 * MS


@pytest.mark.parametrize("unit", ["tasks", "layers"])
def test_a_boundary_of_exactly_so_many_bytes_leaves(unit: str) -> None:
    assert build_plan(workload(LARGE), policy(min_bytes=LARGE, horizon_unit=unit)).policy["offloaded"] == M
    assert build_plan(workload(LARGE), policy(min_bytes=LARGE + 1, horizon_unit=unit)).policy["offloaded"] == 0


@pytest.mark.parametrize(
    ("sizes", "choices", "because", "sentence"),
    [
        (
            (SMALL, LARGE),
            {},
            {"smaller_than_min_bytes": 6},
            "6 of 12 boundaries are offloaded; 6 boundaries of 16 KiB stay on the GPU because they are smaller than "
            "offload.min_bytes (64 KiB).",
        ),
        (
            (SMALL, LARGE, SMALL // 2),
            {"microbatches": 4},
            {"smaller_than_min_bytes": 8},
            "4 of 12 boundaries are offloaded; 8 boundaries of 8 KiB to 16 KiB stay on the GPU because they are "
            "smaller than offload.min_bytes (64 KiB).",
        ),
        (
            (SMALL, LARGE),
            {"horizon": 12},
            {"backward_too_soon": 6, "smaller_than_min_bytes": 6},
            "Nothing is offloaded: of 12 boundaries 6 stay on the GPU because their BACKWARD comes within 13 tasks of "
            "their FORWARD (horizon 12 + release window 1), and 6 of 16 KiB because they are smaller than "
            "offload.min_bytes (64 KiB).",
        ),
        (
            (SMALL, SMALL),
            {},
            {"smaller_than_min_bytes": 12},
            "Nothing is offloaded: 12 boundaries of 16 KiB stay on the GPU because they are smaller than "
            "offload.min_bytes (64 KiB).",
        ),
        (
            (SMALL, LARGE, LARGE),
            {"horizon": 10, "microbatches": 4},
            {"backward_too_soon": 4, "smaller_than_min_bytes": 4},
            "4 of 12 boundaries are offloaded; 4 stay on the GPU because their BACKWARD comes within 11 tasks of their "
            "FORWARD (horizon 10 + release window 1), and 4 of 16 KiB because they are smaller than offload.min_bytes "
            "(64 KiB).",
        ),
        (
            (2**20 - 1, 2 * 2**20),
            {"min_bytes": 2**20},
            {"smaller_than_min_bytes": 6},
            "6 of 12 boundaries are offloaded; 6 boundaries of 1048575 B stay on the GPU because they are smaller than "
            "offload.min_bytes (1048576 B).",
        ),
        (
            (SMALL, LARGE),
            {"min_bytes": SMALL},
            {},
            "All 12 boundaries are offloaded.",
        ),
        (
            (SMALL, LARGE),
            {"offload": False},
            {"offload_activations_false": 12},
            "Nothing is offloaded: offload_activations is false, the 12 boundaries stay on the GPU.",
        ),
    ],
)
def test_the_plan_says_why_they_stay(
    sizes: tuple[int, ...], choices: dict[str, Any], because: dict[str, int], sentence: str
) -> None:
    made = build_plan(workload(*sizes), policy(**choices)).policy
    assert made["kept_because"] == because
    assert made["kept"] == sum(because.values())
    assert made["sentence"] == sentence
    assert made["min_bytes"] == choices.get("min_bytes", LEAST)


def test_one_microbatch_is_told_in_the_singular() -> None:
    made = build_plan(workload(LARGE, LARGE, SMALL, LARGE), policy(microbatches=1, horizon=1)).policy
    assert made["sentence"].startswith("2 of 4 boundaries are offloaded; 1 stays on the GPU because its BACKWARD")
    assert made["sentence"].endswith(", and 1 of 16 KiB because it is smaller than offload.min_bytes (64 KiB).")
    alone = build_plan(workload(SMALL), policy(microbatches=1, horizon=1)).policy
    assert alone["sentence"] == (
        "Nothing is offloaded: 1 boundary of 16 KiB stays on the GPU because it is smaller than "
        "offload.min_bytes (64 KiB)."
    )


def test_frozen_units_are_not_counted() -> None:
    """What is frozen is freed by its FORWARD: it does not stay."""
    made = build_plan(workload(SMALL, SMALL, LARGE, frozen=1), policy()).policy
    assert (made["offloaded"], made["kept_because"]) == (M, {"smaller_than_min_bytes": M})
    assert workload(2 * LARGE, SMALL, frozen=1).largest_boundary() == SMALL


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "64 KiB", None, LARGEST_AMOUNT + 1, 10**200])
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match=r"^min_bytes is .*; it must be an integer of at least 0") as caught:
        policy(min_bytes=wrong)
    assert len(str(caught.value)) < 200


def test_sizes_that_differ_never_read_alike() -> None:
    assert bytes_apart(16 * 2**10, 64 * 2**10) == ["16 KiB", "64 KiB"]
    assert bytes_apart(2**20 - 1, 2**20) == ["1048575 B", "1048576 B"]
    assert bytes_apart(2**20, 2**20) == ["1 MiB", "1 MiB"]
