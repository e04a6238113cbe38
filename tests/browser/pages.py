"""Makes the pages that are looked at in a browser: of a demo, of a prediction alone, of a sweep of 64 ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loadahead.cli.main import run
from tests.support import tuned_runs
from tests.support.tuned_runs import plain_of, write_tuned

# The demo's model, of a size that trains in a second; its horizons and microbatch counts are fewer than the demo's.
TINY = "model.options={ blocks = 2, width = 32, heads = 2, context = 16, batch = 4, dropout = 0.2 }"


def _run(*arguments: Sequence[str] | str | Path) -> None:
    words = [str(argument) for argument in arguments]
    assert run(words) == 0, f"loadahead {' '.join(words)} failed"


def demo(folder: Path) -> Path:
    """A sweep, the chosen plan predicted and measured, and every horizon measured."""
    few = ["--horizons", "1,2,4", "--microbatches", "2,4", "--steps", "3"]
    _run("demo", "--set", TINY, *few, "-o", folder)
    return folder / "report.html"


def prediction(folder: Path) -> Path:
    """One plan's prediction, with nothing measured and nothing swept."""
    _run("simulate", "four-rank", "-o", folder)
    _run("report", folder)
    return folder / "report.html"


def sweep(folder: Path) -> Path:
    """A sweep over 64 ranks."""
    ranks = ["--set", "parallel.pipeline_parallel_degree=64"]
    axes = ["--horizon", "1,2,4", "--microbatches", "64,128"]
    _run("sweep", "uniform", *ranks, *axes, "-o", folder)
    _run("report", folder)
    return folder / "report.html"


def tuned(folder: Path) -> Path:
    """A tuned plan of 96 layers on 8 ranks, of which every other microbatch leaves."""
    data = tuned_runs.many(8, 12, 64)
    _run("report", write_tuned(folder, data, plain_of(data)))
    return folder / "report.html"


PAGES: dict[str, Callable[[Path], Path]] = {
    "demo": demo,
    "prediction": prediction,
    "sweep of 64 ranks": sweep,
    "tuned": tuned,
}
