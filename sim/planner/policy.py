"""A policy holds the choices a plan is made from, under SageMaker's names where it has one (DESIGN, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from loadahead.sim.errors import InputError
from loadahead.sim.planner.goal import Goal
from loadahead.sim.planner.orders import Order, make_order
from loadahead.sim.step_metrics import TUNED
from loadahead.sim.units import LARGEST_AMOUNT

# The units of a horizon, each with the horizon where none is stated: smp v1's and SMP v2's own (DESIGN, section 2).
DEFAULT_HORIZONS = {"tasks": 4, "layers": 2}
HORIZON_UNITS = tuple(DEFAULT_HORIZONS)
# What makes the decisions: the horizon, or tuning, which looks for those that reach the goal.
HORIZON, AUTO = "horizon", TUNED
MAKERS = (HORIZON, AUTO)
# Fields that are no choices of their own, or no plain data.
_NOT_TOLD = ("order", "by_default", "decisions", "goal")


def _positive(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Says how a workload is cut into tasks and which boundaries leave the GPU.

    Attributes:
        pipeline: a name in :data:`loadahead.sim.planner.orders.ORDERS`, or the name of ``order``.
        microbatches: number of microbatches in a step.
        ranks: number of GPUs in the pipeline.
        active_microbatches: cap on microbatches in flight on a rank; None means no cap beyond the order's own.
        checkpoint: whether only units' inputs are kept and the rest is recomputed.
        offload: whether boundaries move to the host where that can help; has no effect without ``checkpoint``.
        horizon: ``activation_loading_horizon``, in ``horizon_unit``; where None is given it becomes the unit's default.
        horizon_unit: ``"tasks"`` (smp v1) or ``"layers"`` (SMP v2).
        release_window: number of tasks that follow a FORWARD before the RELEASE of what it read.
        receive_ahead: number of tasks between the ACQUIRE of what is received and the task that reads it.
        min_bytes: boundaries with fewer bytes stay on the GPU.
        decisions: what decides which boundaries leave and when: ``"horizon"``, or ``"auto"``, tuning
            (:mod:`loadahead.sim.tuning`), to which the horizon, its unit and the release window are nothing.
        goal: what tuning is to reach; has no effect on a horizon.
        order: an order that is given as such; None for the one that ``pipeline`` names.
        by_default: whether nobody stated the horizon, so that it goes with the unit; see :meth:`choosing`.
    """

    pipeline: str = "interleaved"
    microbatches: int
    ranks: int
    active_microbatches: int | None = None
    checkpoint: bool = True
    offload: bool = True
    horizon: int = None  # type: ignore[assignment]  # it is a number as soon as the policy is made
    horizon_unit: str = "tasks"
    release_window: int = 1
    receive_ahead: int = 1
    min_bytes: int = 0
    decisions: str = HORIZON
    goal: Goal = field(default_factory=Goal)
    order: Order | None = None
    by_default: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.horizon_unit not in HORIZON_UNITS:
            raise InputError(f"horizon_unit is {self.horizon_unit!r}; it must be one of {', '.join(HORIZON_UNITS)}")
        if self.decisions not in MAKERS:
            raise InputError(f"decisions is {self.decisions!r:.60}; it must be one of {', '.join(MAKERS)}")
        if not isinstance(self.goal, Goal):
            raise InputError(f"goal is of type {type(self.goal).__name__}; it must be a goal")
        default, stated = DEFAULT_HORIZONS[self.horizon_unit], getattr(self, "horizon")  # noqa: B009 - it may be None
        if stated is None:
            object.__setattr__(self, "horizon", default)
            object.__setattr__(self, "by_default", True)
        elif stated != default:  # a copy with a horizon of its own
            object.__setattr__(self, "by_default", False)
        _positive("microbatches", self.microbatches)
        _positive("ranks", self.ranks)
        _positive("activation_loading_horizon", self.horizon)
        _positive("release_window", self.release_window)
        if type(self.receive_ahead) is not int or self.receive_ahead < 0:
            raise InputError(f"receive_ahead is {self.receive_ahead!r}; it must be an integer of at least 0")
        if type(self.min_bytes) is not int or not 0 <= self.min_bytes <= LARGEST_AMOUNT:
            raise InputError(
                f"min_bytes is {self.min_bytes!r:.60}; it must be an integer of at least 0 and at most {LARGEST_AMOUNT}"
            )
        if self.active_microbatches is not None:
            _positive("active_microbatches", self.active_microbatches)
        if self.order is not None:
            self._require_order(self.order)

    def _require_order(self, order: Order) -> None:
        order.checked()
        for what, key, of_order, own in (
            ("ranks", "parallel.pipeline_parallel_degree", order.ranks, self.ranks),
            ("microbatches", "parallel.microbatches", order.microbatches, self.microbatches),
        ):
            if of_order != own:
                raise InputError(
                    f"order {order.name!r} has {of_order} {what} and {key} is {own}; they must be equal, change one "
                    "of the two"
                )

    def choosing(self, **chosen: Any) -> Self:
        """Return the policy with other choices; a horizon that nobody stated is the default of the unit chosen."""
        if "horizon" in chosen:
            return replace(self, **{"by_default": False} | chosen)
        unstated: dict[str, Any] = {"horizon": None} if self.by_default else {}
        return replace(self, **chosen, **unstated)

    @property
    def is_tuned(self) -> bool:
        """Return whether tuning decides, which takes times: where boundaries may leave at all."""
        return self.decisions == AUTO and self.offload and self.checkpoint

    def by_horizon(self) -> Self:
        """Return the same choices with the horizon as what decides: what tuning starts from."""
        return replace(self, decisions=HORIZON, goal=Goal())

    @property
    def stage_rank(self) -> tuple[int, ...] | None:
        """Return the rank of each stage of an order that is given; None: each rank holds the stage of its number."""
        return None if self.order is None else tuple(self.order.stage_rank.tolist())

    def make_order(self) -> Order:
        """Return the order given, or else the one that ``pipeline`` names; raise InputError when there is none."""
        if self.order is not None:
            return self.order
        return make_order(self.pipeline, self.ranks, self.microbatches, self.active_microbatches)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as plain data; an order that is given is its name, under ``pipeline``, and has no cap.

        ``decisions`` and ``goal`` are there where tuning decides alone.
        """
        out = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NOT_TOLD}
        if self.decisions == AUTO:
            out |= {"decisions": AUTO, "goal": self.goal.to_dict()}
        return out if self.order is None else out | {"pipeline": self.order.name, "active_microbatches": None}
