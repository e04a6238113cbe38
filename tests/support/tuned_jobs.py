"""Three models of different kinds over links that are slow beside them, whose plans are tuned, run and timed.

Each is built small, for runs on a clock of their own, or so large that its units take some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.ir.plan import Plan
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.tuning import Candidate
from tests.support.plans import MS

Data = Callable[[int, int, int], tuple[torch.Tensor, torch.Tensor]]
ORDERS = ("interleaved", "simple")
MEMORY = 1 << 30
FAST = 1_000_000_000  # bytes/s
_LATENCIES = {"link_latency": "20 us", "p2p": "50 us"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedJob:
    """A model, how it is spread over ranks, and the budget that its plan has to keep.

    Attributes:
        python: the name of a model that comes along; None for layers in memory.
        options: of that model, or of ``build`` and ``data``, small.
        large: those that are others where it is built large.
        forward_ns: each layer's FORWARD on a clock of its own; a RECOMPUTE takes as long, a BACKWARD twice as long.
        copies: how long the mean boundary takes one way, in FORWARDs of the mean layer.
        budget: which memory is limited, as ``la.tune`` calls it.
        less: the limit is the peak of keeping all, less this share of the boundaries in it; first small, then large.
    """

    name: str
    options: dict[str, int]
    large: dict[str, int]
    ranks: int
    microbatches: int
    forward_ns: tuple[int, ...]
    copies: float
    budget: str
    less: tuple[float, float]
    python: str | None = None
    build: Callable[..., nn.Sequential] | None = None
    data: Callable[..., Data] | None = None

    def scenario(self, order: str, *, large: bool = False, ranks: int | None = None, rate: int = FAST) -> Scenario:
        """The scenario over links of ``rate`` bytes/s, each layer a unit."""
        options = self.options | (self.large if large else {})
        tables: dict[str, Any] = {
            "name": self.name,
            "model": {},
            "hardware": {"d2h": f"{rate} B/s", "h2d": f"{rate} B/s", "memory": f"{MEMORY} B", **_LATENCIES},
            "parallel": {
                "microbatches": self.microbatches,
                "pipeline": order,
                "pipeline_parallel_degree": self.ranks if ranks is None else ranks,
            },
            "checkpoint": {"strategy": "each"},
        }
        if self.build is None or self.data is None:
            own = {"dropout": 0.1, **options}
            tables["model"] = {"kind": "module", "python": self.python, "options": own, "loss": "cross_entropy"}
            return la.load(tables)
        torch.manual_seed(1)
        data = self.data(**options)
        tables["model"] = {"input_shape": list(data(0, 0, 1)[0].shape)}
        return la.load(tables, model=self.build(**options), data=data, loss=nn.functional.mse_loss)

    def paced(
        self, order: str, forward_ns: Sequence[int], *, large: bool = False, ranks: int | None = None
    ) -> Scenario:
        """The scenario over links that take so long of the mean boundary as the job says, where FORWARDs take this."""
        workload = prepared_of(self.scenario(order, large=large, ranks=ranks), {}).workload
        boundaries = [unit.boundary_bytes for stage in workload.stages for unit in stage]
        rate = round(1e9 * sum(boundaries) / (self.copies * sum(forward_ns)))
        return self.scenario(order, large=large, ranks=ranks, rate=rate)

    def tuned(self, scenario: Scenario, costs: Costs, *, large: bool = False) -> TunedJobPlans:
        """Tune the scenario under the budget, and plan the best horizon under it."""
        keeping = {"offload.offload_activations": False}
        kept = la.simulate(scenario, overrides=keeping, costs=costs).metrics
        limit = held(kept)[self.budget] - int(self.less[large] * kept.peak_boundary_bytes)
        goal: dict[str, Any] = {self.budget: limit}
        tuned = la.tune(scenario, costs=costs, budgets=0, **goal)
        horizon = tuned.tuning.horizon
        assert tuned.fits and horizon is not None, "no plan, or no horizon, keeps the budget"
        policy = {
            "offload.activation_loading_horizon": horizon.policy.horizon,
            "offload.horizon_unit": horizon.policy.horizon_unit,
            "offload.release_window": horizon.policy.release_window,
        }
        return TunedJobPlans(
            kept=kept, limit=limit, tuned=tuned, horizon=horizon, by_horizon=la.plan(scenario, overrides=policy)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedJobPlans:
    """What was tuned, beside the best horizon under the same budget.

    Attributes:
        kept: the step that keeps every boundary.
        limit: the budget in bytes.
        horizon: the best horizon, as tuning found it.
        by_horizon: its plan, made of the scenario's own keys.
    """

    kept: StepMetrics
    limit: int
    tuned: la.Tuned
    horizon: Candidate
    by_horizon: Plan


def held(metrics: StepMetrics) -> dict[str, int]:
    """The peaks that budgets limit, in bytes, by what ``la.tune`` calls them."""
    return {"memory": metrics.peak_device_bytes, "boundary_memory": metrics.peak_boundary_bytes}


def timed_as_told(job: TunedJob, measured: Costs) -> Costs:
    """What calibration measured of memory, with the job's own times."""
    times = iter(job.forward_ns)
    units = tuple(tuple(_timed(unit, next(times)) for unit in stage) for stage in measured.units)
    return measured.model_copy(update={"units": units, "optimizer_ns": (MS // 2,) * len(units), "evidence": {}})


def _timed(unit: UnitCost, forward_ns: int) -> UnitCost:
    """The unit checkpointed the sparing way, which calibration may find slower, so that memory is always the same."""
    sparing = unit.other_way if unit.way == "lean" and unit.other_way is not None else unit
    return UnitCost(
        forward_ns=forward_ns,
        recompute_ns=forward_ns,
        backward_ns=2 * forward_ns,
        workspace_forward=sparing.workspace_forward,
        workspace_recompute=sparing.workspace_recompute,
        workspace_backward=sparing.workspace_backward,
    )


# ---- the models ----


def stack(*, width: int, batch: int) -> nn.Sequential:
    """Eight equal layers."""
    return nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(8)))


def rows(*, width: int, batch: int) -> Data:
    """Rows of numbers."""
    return lambda step, microbatch, microbatches: _pair(step, microbatch, (batch, width), (batch, width))


def narrowing(*, width: int, batch: int) -> nn.Sequential:
    """Convolutions with batch norm and dropout, whose boundaries and times differ by layer."""
    channels = [3, width, 2 * width, width, 4 * width, 2 * width, width, 4]
    strides = [1, 1, 1, 2, 1, 1, 2]
    return nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.GELU(), nn.Dropout(0.1))
            for a, b, stride in zip(channels, channels[1:], strides, strict=False)
        )
    )


def images(*, width: int, batch: int) -> Data:
    """Small images, and what the last layer is to make of them."""
    return lambda step, microbatch, microbatches: _pair(step, microbatch, (batch, 3, 16, 16), (batch, 4, 4, 4))


def _pair(step: int, microbatch: int, *shapes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1_000 * step + microbatch)
    value, target = (torch.randn(*shape, generator=generator) for shape in shapes)
    return value, target


JOBS = (
    TunedJob(
        name="stack",
        build=stack,
        data=rows,
        options={"width": 16, "batch": 4},
        large={"width": 256, "batch": 256},
        ranks=4,
        microbatches=8,
        forward_ns=(MS,) * 8,
        copies=6,
        budget="boundary_memory",
        less=(0.4, 0.3),
    ),
    TunedJob(
        name="byte-gpt",
        python="byte-gpt",
        options={"blocks": 4, "width": 16, "heads": 2, "context": 8, "batch": 2},
        large={"width": 128, "context": 64, "batch": 4},
        ranks=2,
        microbatches=6,
        forward_ns=(MS // 5, MS, MS, MS, MS, MS // 2),
        copies=4,
        budget="memory",
        less=(0.3, 0.3),
    ),
    TunedJob(
        name="narrowing",
        build=narrowing,
        data=images,
        options={"width": 2, "batch": 2},
        large={"width": 16, "batch": 16},
        ranks=3,
        microbatches=6,
        forward_ns=(MS, 2 * MS, 2 * MS, 3 * MS, MS, MS, MS // 2),
        copies=4,
        budget="boundary_memory",
        less=(0.2, 0.2),
    ),
)
