"""Costs with units checkpointed the sparing way or the lean way, whichever a calibration on this machine has found."""

from __future__ import annotations

from loadahead.sim.costs import CheckpointWay, Costs, OtherWay, UnitCost


def checkpointed(costs: Costs, way: CheckpointWay) -> Costs:
    """The costs of all units checkpointed this way, as far as they were measured so."""
    units = tuple(tuple(_turned(unit, way) for unit in stage) for stage in costs.units)
    return costs.model_copy(update={"units": units})


def _turned(unit: UnitCost, way: CheckpointWay) -> UnitCost:
    if unit.way == way or unit.other_way is None:
        return unit
    own = OtherWay.model_validate({name: getattr(unit, name) for name in OtherWay.model_fields})
    return UnitCost.model_validate({**dict(unit.other_way), "way": way, "other_way": own})
