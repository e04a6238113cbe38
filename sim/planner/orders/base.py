"""What a pipeline order is: for each rank, the sequence of stage passes it runs."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Pass(NamedTuple):
    """One microbatch through one stage, forward or backward. The planner cuts it into one task per unit."""

    backward: bool
    stage: int
    microbatch: int


class PipelineOrder(Protocol):
    """Makes the sequence of passes of one rank.

    ``active`` is the cap on microbatches in flight, at most ``microbatches``. Every microbatch must pass forward and
    then backward exactly once, and the ranks' sequences together must not wait for each other in a circle.
    """

    def __call__(self, rank: int, ranks: int, microbatches: int, active: int) -> list[Pass]: ...


def eager_forward(stage: int, microbatches: int, in_flight: int) -> list[Pass]:
    """Forward as long as fewer than ``in_flight`` microbatches wait for their backward, else backward; both FIFO."""
    out: list[Pass] = []
    forwards = 0
    for backwards in range(microbatches):
        while forwards < microbatches and forwards - backwards < in_flight:
            out.append(Pass(False, stage, forwards))
            forwards += 1
        out.append(Pass(True, stage, backwards))
    return out
