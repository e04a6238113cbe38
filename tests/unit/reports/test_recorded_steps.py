"""What is recorded of a step: the metrics' names, in the order of the records' JSON, read back as they were written."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError

from loadahead.reports.recorded_steps import MeasuredStep, PeerStep, RecordedStep
from loadahead.sim.engines import simulate
from loadahead.sim.step_metrics import RankMetrics, StepMetrics
from tests.support.plans import uniform_costs, uniform_plan

LINK = {"busy_ns": 1, "span_ns": 2, "expected_ns": 1, "transfers": 3}


def test_records_have_the_metrics_names() -> None:
    known = {field.name for metrics in (StepMetrics, RankMetrics) for field in fields(metrics)}
    assert RecordedStep.model_fields.keys() | PeerStep.model_fields.keys() <= known


def test_a_step_is_read_as_it_was_written() -> None:
    metrics = simulate(uniform_plan(1, 2, horizon=1), uniform_costs(1, 2)).metrics
    written = RecordedStep.of(metrics).model_dump()
    read = MeasuredStep.model_validate(written | {"links": {"d2h": LINK, "h2d": LINK}, "losses": [1.0]})
    (rank,) = metrics.ranks
    assert (read.step_time_ns, read.compute_ns, read.overlap) == (metrics.step_time_ns, rank.compute_ns, rank.overlap)
    assert read.stall_ns("prefetch") == rank.stall_prefetch_ns
    assert read.links.of("h2d").span_ns == 2
    with pytest.raises(ValidationError):
        MeasuredStep.model_validate(written)


def test_only_a_step_of_one_rank_is_recorded() -> None:
    metrics = simulate(uniform_plan(2, 1, horizon=1), uniform_costs(2)).metrics
    with pytest.raises(ValueError, match="unpack"):
        RecordedStep.of(metrics)
