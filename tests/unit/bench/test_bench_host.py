"""What the bench says of its rounds follows from them."""

from __future__ import annotations

import pytest

from tests.bench.bench_host import print_issued, print_ratios, resampled_ratio
from tests.bench.spread import Spread

STEADY = {"offloading": 30_000, "keeping": 10_000, "checkpoint": 20_000}


def said(rounds: dict[str, list[dict[str, int]]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_ratios(rounds, offloaded=4)
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line]


def test_what_offloading_adds_is_the_difference_by_boundary(capsys: pytest.CaptureFixture[str]) -> None:
    lean = {"offloading": 20_000, "keeping": 10_000, "checkpoint": 20_000, "lean": 17_000}
    assert said({"old": [STEADY] * 3, "new": [lean] * 3}, capsys) == [
        "old: offloading adds 5.0 (5.0 to 5.0) µs to a unit whose boundary it moves",
        "new: offloading adds 2.5 (2.5 to 2.5) µs to a unit whose boundary it moves",
        "old: ours, offloading / torch's checkpoint 1.500 (1.500 to 1.500)",
        "new: ours, offloading / torch's checkpoint 1.000 (1.000 to 1.000)",
        "what offloading adds, new / old: 0.500 (90 % of resampled rounds 0.500 to 0.500)",
        "new: ours, lean, offloading / torch's checkpoint 0.850 (0.850 to 0.850)",
        "goal: what offloading adds, new / old, at most 0.75: 0.500, met",
        "goal: lean offloading / torch's checkpoint at most 0.85: 0.850, met",
    ]


def test_goals_that_are_not_met_or_not_there_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert said({"old": [STEADY] * 2, "new": [STEADY] * 2}, capsys)[-2:] == [
        "goal: what offloading adds, new / old, at most 0.75: 1.000, not met",
        "goal: lean offloading / torch's checkpoint at most 0.85: this tree has no lean units",
    ]
    alone = said({"new": [STEADY | {"lean": 18_000}] * 2}, capsys)
    assert alone[-1] == "goal: lean offloading / torch's checkpoint at most 0.85: 0.900, not met"
    assert not any("old" in line for line in alone)


def test_what_a_kind_of_run_does_not_issue_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_issued({"old": {"keeping": {"FORWARD": 9.04}}, "new": {"offloading": {"FORWARD": 8.0, "OFFLOAD": 2.0}}})
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert head[-4:] == ["old", "keeping", "new", "offloading"]
    assert rows == [["FORWARD", "9.0", "8.0"], ["OFFLOAD", "-", "2.0"]]


def test_spread_and_resampling() -> None:
    assert Spread.of([4, 1, 2, 3, 5]) == Spread(2, 3, 4)
    low, high = resampled_ratio([9, 10, 11] * 9, [18, 20, 22] * 9)
    assert 0.4 < low <= 0.5 <= high < 0.62
