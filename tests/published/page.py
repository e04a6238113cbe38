"""The table of docs/transformers.md: published figures beside predictions.

``python -m tests.published.page`` prints it, to be put there.
"""

from __future__ import annotations

from tests.published import calculon, recomputation, simumax
from tests.published.rows import Beside, mean_error

HEADS = ("what", "published", "predicted", "difference", "of the others")


def table() -> str:
    """Return the table in Markdown: every row of a few, and of many the mean and the worst."""
    steps, peaks = simumax.steps_and_peaks()
    rows = [
        *map(_row, recomputation.step_times()),
        *map(_row, recomputation.interleaved_step_times()),
        *map(_row, recomputation.memory()),
        _many("24 step times of Llama 3's blocks on eight B200", steps),
        _many("their peaks", peaks),
        *map(_row, [*calculon.peaks(), *calculon.peaks(blocks_alone=True)]),
    ]
    lines = [HEADS, ["---"] * len(HEADS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(row: Beside) -> list[str]:
    name = f"{row.name}, {row.note}" if row.note else row.name
    return [
        name,
        f"{row.published:.2f} {row.unit}",
        f"{row.predicted:.2f} {row.unit}",
        f"{100 * row.error:+.1f} %",
        "",
    ]


def _many(name: str, rows: list[Beside]) -> list[str]:
    worst = max(rows, key=lambda row: abs(row.error))
    theirs = [abs(row.theirs) for row in rows]
    return [
        f"{name}; the worst is {worst.name}",
        f"{worst.published:.2f} {worst.unit}",
        f"{worst.predicted:.2f} {worst.unit}",
        f"mean {100 * mean_error(rows):.1f} %, worst {100 * worst.error:+.1f} %",
        f"SimuMax: mean {100 * sum(theirs) / len(theirs):.1f} %, worst {100 * max(theirs):.1f} %",
    ]


if __name__ == "__main__":
    print(table())
