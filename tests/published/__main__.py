"""Prints published figures beside predictions: ``python -m tests.published``."""

from __future__ import annotations

from tests.published import calculon, recomputation, simumax
from tests.published.rows import Beside, mean_error


def _show(title: str, rows: list[Beside]) -> None:
    worst = max(rows, key=lambda row: abs(row.error))
    print(f"{title}\n{'':48} {'published':>10} {'predicted':>10}")
    print("\n".join(row.line() for row in rows))
    print(f"mean error {mean_error(rows):.1%}, largest {worst.error:+.1%} ({worst.name})\n")


def main() -> None:
    """Print all."""
    _show("Step times, Korthikanti et al. (2022), Table 5", recomputation.step_times())
    _show("The same, interleaved in the paper", recomputation.interleaved_step_times())
    _show("Memory, Korthikanti et al. (2022), Figure 1", recomputation.memory())
    steps, peaks = simumax.steps_and_peaks()
    _show("Step times on eight B200 (SimuMax, 2026)", steps)
    _show("Peaks on eight B200 (SimuMax, 2026)", peaks)
    _show("Peaks beside Calculon's", [*calculon.peaks(), *calculon.peaks(blocks_alone=True)])


if __name__ == "__main__":
    main()
