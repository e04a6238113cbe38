"""A policy holds the choices a plan is made from, under SageMaker's names where it has one (DESIGN, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.planner.orders import Order, make_order

HORIZON_UNITS = ("tasks", "layers")


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
        horizon: ``activation_loading_horizon``, in ``horizon_unit``.
        horizon_unit: ``"tasks"`` (smp v1) or ``"layers"`` (SMP v2).
        release_window: number of tasks that follow a FORWARD before the RELEASE of what it read.
        receive_ahead: number of tasks between the ACQUIRE of what is received and the task that reads it.
        order: an order that is given as such; None for the one that ``pipeline`` names.
    """

    pipeline: str = "interleaved"
    microbatches: int
    ranks: int
    active_microbatches: int | None = None
    checkpoint: bool = True
    offload: bool = True
    horizon: int = 4
    horizon_unit: str = "tasks"
    release_window: int = 1
    receive_ahead: int = 1
    order: Order | None = None

    def __post_init__(self) -> None:
        _positive("microbatches", self.microbatches)
        _positive("ranks", self.ranks)
        _positive("activation_loading_horizon", self.horizon)
        _positive("release_window", self.release_window)
        if type(self.receive_ahead) is not int or self.receive_ahead < 0:
            raise InputError(f"receive_ahead is {self.receive_ahead!r}; it must be an integer of at least 0")
        if self.active_microbatches is not None:
            _positive("active_microbatches", self.active_microbatches)
        if self.horizon_unit not in HORIZON_UNITS:
            raise InputError(f"horizon_unit is {self.horizon_unit!r}; it must be one of {', '.join(HORIZON_UNITS)}")
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

    def make_order(self) -> Order:
        """Return the order given, or else the one that ``pipeline`` names; raise InputError when there is none."""
        if self.order is not None:
            return self.order
        return make_order(self.pipeline, self.ranks, self.microbatches, self.active_microbatches)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as plain data; an order that is given is its name, under ``pipeline``, and has no cap."""
        out = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "order"}
        return out if self.order is None else out | {"pipeline": self.order.name, "active_microbatches": None}
