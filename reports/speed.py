"""Says how fast a step is in the words that people compare models by: tokens per second, MFU, communication's share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadahead.reports.about import About
from loadahead.sim.units import format_number
from loadahead.sim.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Says how fast a step is; None: it is not known.

    Attributes:
        tokens_per_s: of all GPUs together, replicas included.
        gpus: how many these are.
        mfu: see :meth:`loadahead.sim.work.Work.mfu`.
        communication_share: the share of all ranks' time that their operations spend on collectives; what they wait for
            each other in the pipeline is no part of it.
    """

    tokens_per_s: float | None = None
    gpus: int | None = None
    mfu: float | None = None
    communication_share: float | None = None

    @classmethod
    def of(cls, about: About, step_time_ns: int, *, measured: bool = False) -> Speed:
        """Return the speed of a step of what a run is of.

        What communication takes is predicted, so that nothing is said of a measured step's.
        """
        peak = None if about.peak_flops_per_s is None else round(about.peak_flops_per_s)
        work = Work(tokens=about.tokens_per_microbatch, flops=about.flops_per_microbatch, peak_flops_per_s=peak)
        if about.microbatches is None or about.gpus is None or not step_time_ns:
            return cls()
        replicas = about.data_parallel or 1
        told = None if measured or not about.communication_ns else about.communication_ns
        return cls(
            tokens_per_s=work.tokens_per_s(step_time_ns, about.microbatches, replicas),
            gpus=about.gpus,
            mfu=work.mfu(step_time_ns, about.microbatches, about.gpus // replicas),
            communication_share=None if told is None else sum(told) / (len(told) * step_time_ns),
        )

    @property
    def tokens_per_s_and_gpu(self) -> float | None:
        """Return a GPU's part of the tokens per second."""
        return None if self.tokens_per_s is None or not self.gpus else self.tokens_per_s / self.gpus

    @property
    def sentence(self) -> str:
        """Return what is known in a sentence; empty where nothing is."""
        parts = []
        if self.tokens_per_s is not None and self.tokens_per_s_and_gpu is not None:
            each = "" if self.gpus == 1 else f" ({format_number(self.tokens_per_s_and_gpu)} per GPU)"
            parts.append(f"{format_number(self.tokens_per_s)} tokens/s{each}")
        if self.mfu is not None:
            parts.append(f"MFU {format_percent(self.mfu)}")
        if self.communication_share:
            parts.append(f"collectives {format_percent(self.communication_share)} of the ranks' time")
        return f"{', '.join(parts)}." if parts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as the command line's JSON has them."""
        return {
            "tokens_per_s": self.tokens_per_s,
            "mfu": self.mfu,
            "communication_share": self.communication_share,
        }


def format_percent(share: float) -> str:
    """Return a share in percent with three significant digits, e.g. ``42.3 %``."""
    return f"{100 * share:.3g} %"
