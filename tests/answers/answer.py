"""What offloading does to a model on a machine: the fewest GPUs that hold it, and three plans there, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from loadahead.scenarios.prepare import Prepared
from loadahead.sim.advice import Figures, advise
from loadahead.sim.advice.steps import Steps
from loadahead.sim.advice.within import slower
from loadahead.sim.step_metrics import bytes_missing
from tests.answers.splits import Split, counts, splits

# smp's default, in tasks.
HORIZON = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a plan takes: a step's time, a GPU's memory where most is needed, and slots on the fullest host."""

    horizon: int | None
    step_time_ns: int
    peak_device_bytes: int
    host_bytes: int

    @classmethod
    def of(cls, figures: Figures) -> Taken:
        """The same of all ranks together."""
        return cls(
            horizon=figures.horizon,
            step_time_ns=figures.step_time_ns,
            peak_device_bytes=figures.peak_device_bytes,
            host_bytes=figures.host_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found for a model on the fewest GPUs of a machine that hold it.

    Attributes:
        capacity_bytes, host_capacity_bytes: what a GPU and a host have; None: what the host has is not known.
        keep_all, four: without offloading, and at :data:`HORIZON`.
        advised: at the horizon that the advice names; None where it names none.
        as_quick: whether that is the one with the least memory whose step is as short as without offloading; else it
            is the largest horizon that fits.
        another_keeps_all: whether some split of as many GPUs holds the model without offloading.
        warnings: what the scenario's settings do not do.
    """

    split: Split
    capacity_bytes: int
    host_capacity_bytes: int | None
    keep_all: Taken
    four: Taken
    advised: Taken | None
    as_quick: bool
    another_keeps_all: bool = False
    warnings: tuple[str, ...] = ()

    def fits_device(self, plan: Taken) -> bool:
        """Whether each GPU has room for a plan."""
        return not bytes_missing(plan.peak_device_bytes, self.capacity_bytes)

    def fits_host(self, plan: Taken) -> bool:
        """Whether each host has room for a plan, as far as is known."""
        return not bytes_missing(plan.host_bytes, self.host_capacity_bytes)

    def fits(self, plan: Taken) -> bool:
        """Whether GPUs and hosts have room for a plan."""
        return self.fits_device(plan) and self.fits_host(plan)

    def slower(self, plan: Taken) -> float:
        """By which share a plan's step is longer than without offloading."""
        share = slower(plan.step_time_ns, self.keep_all.step_time_ns)
        assert share is not None, "keeping all takes time"
        return share

    def saved_bytes(self, plan: Taken) -> int:
        """What a plan saves of the GPU's memory that needs most."""
        return self.keep_all.peak_device_bytes - plan.peak_device_bytes

    @property
    def fitting(self) -> list[Taken]:
        """The plans that fit."""
        plans = (self.keep_all, self.four, self.advised)
        return [plan for plan in plans if plan is not None and self.fits(plan)]

    @property
    def per_microbatch(self) -> Fraction:
        """The time in ns that the quickest plan that fits takes for each microbatch."""
        return Fraction(min(plan.step_time_ns for plan in self.fitting), self.split.microbatches)

    @property
    def keeps_all(self) -> bool:
        """Whether this split holds the model without offloading."""
        return self.fits(self.keep_all)


def tables(model: str, machine: str, split: Split) -> dict[str, dict[str, Any]]:
    """The scenario of a split at :data:`HORIZON`, as a file has it: activation checkpointing is on by default."""
    return {
        "model": {"kind": "transformer", "preset": model},
        "hardware": {"machine": machine},
        "parallel": {
            "tensor_parallel_degree": split.tensor,
            "pipeline_parallel_degree": split.pipeline,
            "microbatches": split.microbatches,
        },
        "offload": {"activation_loading_horizon": HORIZON},
    }


def answer_of(model: str, machine: str) -> Answer | None:
    """Return the answer for the fewest GPUs that hold the model; None where eight hosts do not."""
    shape, host = TRANSFORMERS[model], MACHINES[machine]
    for gpus, hosts in counts(host):
        found = best_of(_answer_of_split(model, machine, split) for split in splits(shape, host, gpus, hosts))
        if found is not None:
            return found
    return None


def best_of(answers: Iterable[Answer | None]) -> Answer | None:
    """Return the split with the least time per microbatch, of equal ones the first; None where nothing fits.

    Splits differ in stages and so in microbatches: their steps do not do the same work.
    """
    fitting = [answer for answer in answers if answer is not None and answer.fitting]
    if not fitting:
        return None
    best = min(fitting, key=lambda answer: answer.per_microbatch)
    return replace(best, another_keeps_all=any(answer.keeps_all for answer in fitting))


def _answer_of_split(model: str, machine: str, split: Split) -> Answer | None:
    scenario = la.load({"name": f"{model} on {machine}", **tables(model, machine, split)})
    return answer_of_prepared(prepared_of(scenario), split)


def answer_of_prepared(prepared: Prepared, split: Split) -> Answer | None:
    """Return what a scenario's three plans take; None where it is plain that nothing fits."""
    workload, costs, policy = prepared.workload, prepared.costs, prepared.policy
    assert costs is not None, "times follow from the model's shape"
    if max(prepared.static_bytes) > costs.memory_bytes:
        return None
    # Horizon 1 needs the least memory of all; what plans hold needs no clock.
    least = Steps(workload, costs, policy.ranks, policy.stage_rank).lower_bound().figures(replace(policy, horizon=1))
    if least.peak_device_bytes > costs.memory_bytes:
        return None
    advice = advise(workload, costs, policy, alternatives=False)
    assert advice is not None and advice.own is not None, "it offloads"
    # There is one that fits where neither keeping all does nor the best one.
    advised = advice.best if advice.fitting is None else advice.fitting
    return Answer(
        split=split,
        capacity_bytes=costs.memory_bytes,
        host_capacity_bytes=costs.host_memory_bytes,
        keep_all=Taken.of(advice.keep_all),
        four=Taken.of(advice.own),
        advised=None if advised is None else Taken.of(advised),
        as_quick=advised is not None and advised is advice.best,
        warnings=prepared.warnings,
    )
