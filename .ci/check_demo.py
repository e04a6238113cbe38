"""What must hold of a demo's output: python check_demo.py DIRECTORY."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(directory: Path) -> None:
    result = json.loads((directory / "result.json").read_text())
    assert result["max_grad_error"] == 0.0, f"max_grad_error is {result['max_grad_error']}"
    assert result["losses"][-1] < result["losses"][0], f"the loss did not fall: {result['losses']}"
    comparison = json.loads((directory / "comparison.json").read_text())
    assert abs(comparison["peak_device_error"]) <= 0.01, f"peak_device_error is {comparison['peak_device_error']}"
    # Not judged: the machine may be busy with something else.
    print(f"the predicted step time is {comparison['step_time_error']:+.1%} off the measured one")
    for name in ("plan.json", "costs.json", "predicted.jsonl", "measured.jsonl", "sweep.csv", "sweep.parquet"):
        assert (directory / name).stat().st_size > 0, f"{name} is empty"
    assert len(json.loads((directory / "horizons.json").read_text())["points"]) >= 2
    page = next(directory.glob("report.*"))
    assert page.stat().st_size > 10_000, f"{page} is too small to hold the plots"
    print(f"{page.name}, gradients, loss and peak memory are as they must be")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
