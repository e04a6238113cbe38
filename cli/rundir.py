"""A run directory: what demo, execute and sweep write, and report and compare read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLAN, COSTS, RESULT, COMPARISON, HORIZONS = "plan.json", "costs.json", "result.json", "comparison.json", "horizons.json"
PREDICTED, MEASURED = "predicted.jsonl", "measured.jsonl"
SWEEP_CSV, SWEEP_PARQUET = "sweep.csv", "sweep.parquet"


def make(directory: Path) -> Path:
    """The directory, made where it is not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def write_json(directory: Path, name: str, content: dict[str, Any]) -> None:
    """One JSON object; NaN and infinity are no JSON and must not occur."""
    (directory / name).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_sweep(directory: Path, points: Sequence[dict[str, Any]]) -> None:
    """The sweep's table as CSV and as Parquet, one row per point."""
    import pandas as pd

    table = pd.DataFrame.from_records(list(points))
    table.to_csv(directory / SWEEP_CSV, index=False)
    table.to_parquet(directory / SWEEP_PARQUET, index=False)
