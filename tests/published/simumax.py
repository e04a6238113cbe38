"""Llama 3's blocks trained by Megatron-LM on eight B200, measured by SimuMax's authors, with SimuMax's own predictions.

MooreThreads/SimuMax, docs/b200/b200_release_v1.2_summary.json (commit 4dcaae5, 2026), the rows without context
parallelism: sequences of 4096 tokens, gradients added up in float32, a distributed optimizer, flash attention, sequence
parallelism, nothing recomputed, and none of the communication of replicas beside computation
(simu_tools/megatron_scripts/scripts/run_pretrain_llama3.sh).
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.published.rows import GIB, Beside, predicted, with_ends

ROWS = Path(__file__).parent / "simumax_b200.json"


def steps_and_peaks() -> tuple[list[Beside], list[Beside]]:
    """Return each row's step time, and its largest peak of any GPU."""
    steps, peaks = [], []
    for row in json.loads(ROWS.read_text()):
        step = predicted(
            {
                "preset": row["model"],
                "layers": row["layers"],
                "kv_heads": row["kv_heads"],
                "sequence": 4096,
                "gradient_dtype": "float32",
            },
            "dgx-b200",
            parallel={
                "pipeline": "1f1b",
                "microbatches": row["microbatches"],
                "tensor_parallel_degree": row["tensor"],
                "pipeline_parallel_degree": row["pipeline"],
                "data_parallel_degree": row["data"],
                "sequence_parallel": True,
                "zero_stage": 1,
                "overlap_grad_reduce": False,
            },
            checkpoint={"enabled": False, "partition": with_ends(row["layers"], row["pipeline"])},
        )
        steps.append(
            Beside(
                name=row["case"],
                published=row["step_ms"],
                predicted=step.metrics.step_time_ns / 1e6,
                unit="ms",
                theirs=row["simumax_step_ms"] / row["step_ms"] - 1,
            )
        )
        peak = max(rank.peak_device_bytes for rank in step.metrics.ranks)
        peaks.append(
            Beside(
                name=row["case"],
                published=row["peak_gib"],
                predicted=peak / GIB,
                unit="GiB",
                theirs=row["simumax_peak_gib"] / row["peak_gib"] - 1,
            )
        )
    return steps, peaks
