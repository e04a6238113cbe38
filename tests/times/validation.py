"""The CPU's validation on a quiet machine: every claim of its grid holds, and slower links take longer."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from loadahead.cli.main import run
from loadahead.reports.verdicts.base import FAILS, NOT_CLAIMED
from tests.times.figure import Figure


def evidence() -> dict[str, Any]:
    said = io.StringIO()  # the figures are printed when all are there
    with tempfile.TemporaryDirectory() as out, redirect_stdout(io.StringIO()) as printed, redirect_stderr(said):
        run(["validate", "--device", "cpu", "-o", out, "--json"])
    return json.loads(printed.getvalue())  # type: ignore[no-any-return]


def claims() -> Sequence[Figure]:
    found = evidence()
    return [*_steps(found), *_claims(found), *_slower(found)]


def _steps(found: dict[str, Any]) -> list[Figure]:
    return [
        Figure(
            name=one["name"],
            measured=one["measured"]["step_times_ns"],
            predicted=one["predicted"]["step_time_ns"],
        )
        for one in found["configurations"]
        if one["status"] == "measured"
    ]


def _claims(found: dict[str, Any]) -> list[Figure]:
    return [
        Figure(
            name=verdict["claim"],
            measured=[verdict["value"]],
            wanted=f"{verdict['shown']}, {verdict['threshold']}",
            holds=verdict["outcome"] != FAILS,
            show=lambda value: f"{value:.4g}",
        )
        for verdict in found["verdicts"]
        if verdict["outcome"] != NOT_CLAIMED and verdict["value"] is not None
    ]


def _slower(found: dict[str, Any]) -> list[Figure]:
    """Of the configurations that differ in nothing but the link's speed."""
    alike = {
        one["copies"]: one
        for one in found["configurations"]
        if one["offload"] and (one["microbatches"], one["horizon"], one["pipeline"]) == (4, 1, "simple")
    }
    return [
        Figure(
            name=f"16 times slower links, {side} step time in steps of the faster",
            measured=[alike[16][side]["step_time_ns"] / alike[1][side]["step_time_ns"]],
            wanted="more than 1.5",
            holds=alike[16][side]["step_time_ns"] > 1.5 * alike[1][side]["step_time_ns"],
            show=lambda value: f"{value:.2f}",
        )
        for side in ("predicted", "measured")
    ]
