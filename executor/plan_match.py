"""Checks whether a plan fits a model: each buffer's tensor, as the model makes it, must have the plan's bytes.

A buffer's tensor is known by the operation that writes it, whatever the plan's file calls the buffer.
"""

from __future__ import annotations

from loadahead.executor.layout import Layout
from loadahead.executor.session import Session, UnitKey
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.workload import Workload


def stage_ranks(plan: Plan, workload: Workload) -> tuple[int, ...]:
    """Return the rank that runs each stage; InputError where plan and workload do not have the same units."""
    ranks: dict[int, int] = {}
    units: set[UnitKey] = set()
    for op in plan:
        if op.kind == Kind.FORWARD:
            units.add((op.stage, op.unit))
            if ranks.setdefault(op.stage, op.rank) != op.rank:
                raise InputError(f"the plan runs stage {op.stage} on ranks {ranks[op.stage]} and {op.rank}")
    model_units = {(stage, unit) for stage, shapes in enumerate(workload.stages) for unit in range(len(shapes))}
    if units != model_units:
        odd = min(units ^ model_units)
        raise InputError(
            f"the plan has {len(units)} units, the model is cut into {len(model_units)}; unit "
            f"{odd[0]}.{odd[1]} is only in the {'plan' if odd in units else 'model'}: plan for this model"
        )
    return tuple(ranks[stage] for stage in sorted(ranks))


def buffer_layouts(plan: Plan, session: Session) -> dict[int, Layout]:
    """Return the layout of every device buffer that holds a tensor; InputError where the bytes differ."""
    keys = list(session.layouts)
    above = dict(zip(keys, keys[1:], strict=False))
    out = {}
    for op in plan:
        for index in op.writes:
            buffer = plan.buffer(index)
            if buffer.space == Space.HOST or buffer.role == Role.WORKSPACE:
                continue
            key = _written_key(op, index, above)
            layout = session.layouts[key]
            if layout.nbytes != buffer.nbytes:
                raise InputError(
                    f"{op.name} writes a {buffer.role.label} of {buffer.nbytes} bytes in the plan; the model's is "
                    f"{layout}, {layout.nbytes} bytes: plan for this model"
                )
            out[index] = layout
    return out


def _written_key(op: OpView, buffer: int, above: dict[UnitKey, UnitKey]) -> UnitKey:
    """Return the unit whose input, or whose input's gradient, an operation writes into a buffer."""
    key = (op.stage, op.unit)
    own_input = op.kind == Kind.FORWARD and buffer in op.reads
    if own_input or op.kind not in (Kind.FORWARD, Kind.RECV_GRADIENT):
        return key
    if key not in above:
        raise InputError(f"{op.name} writes an output; the model ends in unit {key[0]}.{key[1]}")
    return above[key]
