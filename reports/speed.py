"""Says how fast a step is in the words that people compare models by: tokens per second, MFU, communication's share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.reports.about import About
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_number
from loadahead.sim.work import Work

# The backend that runs on no GPU.
_NO_GPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Says how fast a step is; None: it is not known.

    Attributes:
        tokens_per_s: of all GPUs together, replicas included; of a measured step, of what ran: one replica.
        gpus: how many these are; None where none ran.
        mfu: see :meth:`loadahead.sim.work.Work.mfu`.
        communication_share: the share of all ranks' time that their operations spend on collectives; what they wait for
            each other in the pipeline is no part of it.
    """

    tokens_per_s: float | None = None
    gpus: int | None = None
    mfu: float | None = None
    communication_share: float | None = None

    @classmethod
    def of(cls, about: About, step_time_ns: int) -> Speed:
        """Return the speed of a predicted step of what a run is of."""
        if about.microbatches is None or about.gpus is None or not step_time_ns:
            return cls()
        work, replicas, told = _work(about), about.data_parallel or 1, about.communication_ns
        return cls(
            tokens_per_s=work.tokens_per_s(step_time_ns, about.microbatches, replicas),
            gpus=about.gpus,
            mfu=work.mfu(step_time_ns, about.microbatches, about.gpus // replicas),
            communication_share=sum(told) / (len(told) * step_time_ns) if told else None,
        )

    @classmethod
    def of_step(cls, about: About, step: Timeline, step_time_ns: int) -> Speed:
        """Return the speed of a step of what a run is of, as its timeline was predicted or measured.

        What was measured is one replica, as a run has no other: on a GPU, one rank on one GPU; elsewhere all its ranks
        on no GPU. Its MFU is known where that GPU is the one whose peak is known. What communication takes is
        predicted, so that nothing is said of a measured step's.
        """
        if not step.is_measured:
            return cls.of(about, step_time_ns)
        if about.microbatches is None or not step_time_ns:
            return cls()
        gpus = None if step.source == _NO_GPU else 1
        whole = gpus is not None and (about.tensor_parallel or 1) == 1 and _is_described(about, step.header)
        return cls(
            tokens_per_s=_work(about).tokens_per_s(step_time_ns, about.microbatches, 1),
            gpus=gpus,
            mfu=_work(about).mfu(step_time_ns, about.microbatches, 1) if whole else None,
        )

    @property
    def tokens_per_s_and_gpu(self) -> float | None:
        """Return a GPU's part of the tokens per second."""
        return None if self.tokens_per_s is None or not self.gpus else self.tokens_per_s / self.gpus

    @property
    def sentence(self) -> str:
        """Return what is known in a sentence; empty where nothing is."""
        parts = []
        if self.tokens_per_s is not None:
            each = self.tokens_per_s_and_gpu
            per_gpu = "" if each is None or self.gpus == 1 else f" ({format_number(each)} per GPU)"
            parts.append(f"{format_number(self.tokens_per_s)} tokens/s{per_gpu}")
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


def _work(about: About) -> Work:
    peak = None if about.peak_flops_per_s is None else round(about.peak_flops_per_s)
    return Work(tokens=about.tokens_per_microbatch, flops=about.flops_per_microbatch, peak_flops_per_s=peak)


def _is_described(about: About, header: Mapping[str, Any]) -> bool:
    """Return whether the GPU that a step ran on can be the one that its peak is known of.

    A GPU without a name is the one that the scenario's own figures describe.
    """
    named = re.match(r"[a-z0-9-]+(?=,)", about.device or "")
    machine = header.get("machine")
    ran_on = machine.get("gpu") if isinstance(machine, Mapping) else None
    if named is None or not isinstance(ran_on, str):
        return named is None
    # Of "a100-sxm-80gb" the model's number decides; how its memory and its socket are written differs.
    model = [part for part in named[0].split("-") if re.search(r"[0-9]", part) and not re.match(r"sxm|[0-9]+gb", part)]
    return set(model) <= set(re.split(r"[^a-z0-9]+", ran_on.lower()))


def format_percent(share: float) -> str:
    """Return a share in percent with three significant digits, e.g. ``42.3 %``."""
    return f"{100 * share:.3g} %"
