"""Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022), on DGX A100 80GB.

Table 3 has the models, Table 5 the step times and Figure 1 the memory; the figure's numbers in GiB are those that
Calculon reads off it (calculon-ai/calculon, calculon/llm/validation.py, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import loadahead as la
from loadahead.scenarios.prepare import prepare
from tests.published.rows import GIB, Beside, predicted, with_ends

MACHINE = "dgx-a100"
TENSOR = 8
# Weights and gradients in 16 and in 32 bits: of Figure 1's parameters and optimizer state each takes 18 bytes.
GRADIENTS = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Holds a row of Table 5: seconds with full recomputation, and with selective and sequence parallelism."""

    preset: str
    blocks: int
    pipeline: int
    microbatches: int
    microbatch_size: int
    full: float
    selective: float
    interleaved: int = 1


RUNS = (
    Run(preset="megatron-22b", blocks=48, pipeline=1, microbatches=1, microbatch_size=4, full=1.42, selective=1.10),
    Run(
        preset="megatron-175b",
        blocks=96,
        pipeline=8,
        microbatches=64,
        microbatch_size=1,
        full=18.13,
        selective=13.75,
        interleaved=3,
    ),
    Run(
        preset="megatron-530b",
        blocks=105,
        pipeline=35,
        microbatches=280,
        microbatch_size=1,
        full=49.05,
        selective=37.83,
        interleaved=3,
    ),
    Run(
        preset="megatron-1t", blocks=128, pipeline=64, microbatches=512, microbatch_size=1, full=94.42, selective=71.49
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Holds a model of Figure 1: GiB of state, and of activations with nothing recomputed and with the paper's way."""

    preset: str
    state: float
    none: float
    selective: float


MEMORY = (
    Memory(preset="megatron-22b", state=45.5625, none=59.25, selective=9.5625),
    Memory(preset="megatron-1t", state=32.958984375, none=131.25, selective=26.5625),
)


def _tables(run: Run, *, selective: bool, enabled: bool = True) -> dict[str, Any]:
    return {
        "parallel": {
            "pipeline": "1f1b",
            "microbatches": run.microbatches,
            "pipeline_parallel_degree": run.pipeline,
            "tensor_parallel_degree": TENSOR,
            "sequence_parallel": selective,
        },
        "checkpoint": {
            "enabled": enabled,
            "recompute_granularity": "selective" if selective else "full",
            "partition": with_ends(run.blocks, run.pipeline),
        },
    }


def _model(run: Run) -> dict[str, Any]:
    return {"preset": run.preset, "microbatch_size": run.microbatch_size, "gradient_dtype": GRADIENTS}


def step_times() -> list[Beside]:
    """Return Table 5's rows that no order interleaves: 22B and 1T."""
    return [row for run in RUNS if run.interleaved == 1 for row in _steps(run)]


def interleaved_step_times() -> list[Beside]:
    """Return Table 5's other rows, with 1F1B's bubble, and with the bubble that interleaving leaves of it.

    With v stages a rank the bubble is (p - 1) / (v m) of the rest (Narayanan et al., 2021, section 2.2.2).
    """
    out = []
    for run in RUNS:
        if run.interleaved > 1:
            for row in _steps(run):
                bubble = (run.pipeline - 1) / run.microbatches
                seconds = row.predicted * (1 + bubble / run.interleaved) / (1 + bubble)
                closed = Beside(name=row.name, published=row.published, predicted=seconds, unit="s", note="interleaved")
                out += [
                    Beside(name=row.name, published=row.published, predicted=row.predicted, unit="s", note="1F1B"),
                    closed,
                ]
    return out


def _steps(run: Run) -> list[Beside]:
    return [
        Beside(
            name=f"{run.preset}, {'selective, sequence parallel' if selective else 'full recomputation'}",
            published=run.selective if selective else run.full,
            predicted=predicted(_model(run), MACHINE, **_tables(run, selective=selective)).metrics.step_time_ns / 1e9,
            unit="s",
        )
        for selective in (False, True)
    ]


def memory() -> list[Beside]:
    """Return Figure 1's bars of 22B and 1T: the state of a rank without the tables of tokens, and rank 0's activations.

    The figure counts blocks alone. Where a pipeline has more ranks the second has as many blocks and no table.
    """
    out = []
    for bars in MEMORY:
        run = next(run for run in RUNS if run.preset == bars.preset)
        blocks = run.blocks // run.pipeline
        for selective, published in ((False, bars.none), (True, bars.selective)):
            tables = _tables(run, selective=selective, enabled=selective)
            way = "selective, sequence parallel" if selective else "nothing recomputed"
            prepared = prepare(
                la.load({"model": {"kind": "transformer", **_model(run)}, "hardware": {"machine": MACHINE}, **tables})
            )
            state = blocks * prepared.units.layers[1].static_bytes
            out.append(
                Beside(name=f"{run.preset}, {way}: state", published=bars.state, predicted=state / GIB, unit="GiB")
            )
            # All microbatches that 1F1B has in flight on rank 0, each with what its units keep and their inputs.
            units = prepared.workload.stages[0]
            kept = sum(unit.saved_bytes + unit.boundary_bytes for unit in units)
            inside = min(run.pipeline, run.microbatches) * kept
            out.append(
                Beside(
                    name=f"{run.preset}, {way}: activations", published=published, predicted=inside / GIB, unit="GiB"
                )
            )
    return out
