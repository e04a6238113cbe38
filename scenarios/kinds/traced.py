"""The units of a traced module: beside its layers' own bytes it has what belongs to several of them, or to none.

Layers hand tensors on unchanged, share weights, change the module's buffers, or need no backward pass. What becomes of
that in a plan depends on which unit, stage and rank each layer is in, so that it follows here from the cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from loadahead.scenarios.kinds.base import Cuts, Setting
from loadahead.scenarios.kinds.estimated import BACKWARD, Estimator, with_moved_bytes
from loadahead.scenarios.layers import ESTIMATE_TOLD, Cut, Layer, Units
from loadahead.sim.errors import InputError
from loadahead.sim.units import counted, format_bytes
from loadahead.sim.workload import HandedOn, LayerShape, ModuleShapes, PassThrough, Shared

# A unit that keeps more than one part in so many of its boundary, for its RECOMPUTE to start from, is told.
STATE_TOLD = 100
# A product's BACKWARD is two products as large as FORWARD's, one for the gradient of its input, one for its weight's.
_OF_INPUT = BACKWARD // 2
_WITHOUT_WORKSPACES = (
    "the layers' workspaces are not known, as the model was run to be traced: the estimate's peaks are without them, "
    "and those of a run may be higher"
)


def traced_units(shapes: ModuleShapes, setting: Setting, cuts: Cuts, state_parts: int) -> Units:
    """Return the units of the traced layers; raise InputError where nothing is trained, or ranks share a weight.

    ``state_parts`` is :class:`Estimator`'s.
    """
    if shapes.frozen_layers >= len(shapes.layers):
        raise InputError(
            f"the model has nothing to train: its last layer's output has no gradient, and no parameter of its "
            f"{counted(len(shapes.layers), 'layer')} gets one; let some require one (requires_grad)"
        )
    layers = [_layer(index, shape) for index, shape in enumerate(shapes.layers)]
    estimator = Estimator(compute=setting.compute, state_parts=state_parts) if setting.estimated else None
    if estimator is not None:
        layers = _estimated(layers, shapes, estimator)
    units = setting.cut([(layer, 1) for layer in layers], cuts)
    places = _Places.of(units.cut, setting)
    _require_one_rank(shapes.shared, places)
    more, passed = _handed_on(shapes.handed_on, places)
    for unit, nbytes in more.items():
        first = units.cut.units[unit][0]
        layers[first] = replace(layers[first], boundary_bytes=layers[first].boundary_bytes + nbytes)
    for state in shapes.shared_state:
        if places.unit[state.layer] == places.unit[state.earlier]:
            rest = layers[state.layer].state_bytes - state.nbytes
            layers[state.layer] = replace(layers[state.layer], state_bytes=rest)
    frozen = sum(unit[-1] < shapes.frozen_layers for unit in units.cut.units)
    shared_weights = _shared_bytes([piece for piece in shapes.shared if piece.trained], places)
    return units._replace(
        layers=layers,
        frozen_units=frozen,
        passed=passed,
        shared_bytes=_shared_bytes(shapes.shared, places),
        closing_ns=() if estimator is None else tuple(map(estimator.optimizer_ns, shared_weights)),
        warnings=(
            *shapes.warnings,
            *_dealt_out_by_an_estimate(shapes.layers, setting),
            *(_timed_by_an_estimate(shapes.layers) if setting.estimated else ()),
            *((_WITHOUT_WORKSPACES,) if setting.estimated and not shapes.workspaces_known else ()),
            *(_state_kept(layers, units.cut, places, frozen) if setting.checkpoint else ()),
        ),
    )


def trained_flops(shapes: ModuleShapes) -> int | None:
    """Return the FLOPs of a microbatch's FORWARD and BACKWARD; None where they are not known but for a trifle.

    Layers that need no backward pass have a FORWARD alone, and those whose weights are frozen a BACKWARD of their
    input alone, which is half as much. Of a layer that trains some of its weights it is not known.
    """
    counted_flops = sum(layer.flops for layer in shapes.layers if layer.counted)
    estimated = sum(layer.flops for layer in shapes.layers if not layer.counted)
    back = [layer for layer in shapes.layers[shapes.frozen_layers :] if layer.counted]
    partly = sum(layer.flops for layer in back if layer.trained is None)
    if not counted_flops or (estimated + partly) * ESTIMATE_TOLD > counted_flops:
        return None
    return counted_flops + sum((_OF_INPUT if layer.trained is False else BACKWARD) * layer.flops for layer in back)


def _layer(index: int, shape: LayerShape) -> Layer:
    return Layer(
        boundary_bytes=shape.input_bytes,
        gradient_bytes=shape.gradient_bytes,
        saved_bytes=shape.saved_bytes,
        state_bytes=shape.state_bytes,
        static_bytes=shape.static_bytes,
        weight=shape.flops,
        index=index,
        flops=shape.flops if shape.counted else None,
        kind=shape.kind,
    )


def _estimated(layers: Sequence[Layer], shapes: ModuleShapes, estimator: Estimator) -> list[Layer]:
    """Return the layers with times; what is not trained takes no part in the optimizer's step."""
    out = []
    for index, (layer, shape) in enumerate(zip(layers, with_moved_bytes(shapes.layers), strict=True)):
        step = 0 if index < shapes.frozen_layers else estimator.optimizer_ns(layer.static_bytes)
        out.append(replace(layer, cost=estimator.cost(shape), optimizer_ns=step))
    return out


@dataclass(frozen=True, slots=True)
class _Places:
    """Says where each layer is: in which unit of the model and in which stage; and which rank has each stage.

    The layers of a module are all different, and so are its units: they are numbered through the model.
    """

    rank_of_stage: Sequence[int]
    unit: list[int] = field(default_factory=list)
    stage: list[int] = field(default_factory=list)
    # Each unit's name, by its stage and its place there.
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, cut: Cut, setting: Setting) -> _Places:
        out = cls(setting.placement or range(setting.stages))
        for stage, number in enumerate(cut.order):
            for place, unit in enumerate(cut.stages[number]):
                out.names.append(f"{stage}.{place}")
                out.unit.extend([unit] * len(cut.units[unit]))
                out.stage.extend([stage] * len(cut.units[unit]))
        return out


def _handed_on(tensors: Sequence[HandedOn], places: _Places) -> tuple[Counter[int], tuple[PassThrough, ...]]:
    """Return the bytes that each unit's boundary has more, and the tensors that are no part of one.

    A tensor goes past boundaries where a unit only hands it on. One that the next unit alone reads travels with that
    one's boundary, as the data that the first unit alone reads do; one that does not leave its unit is that unit's own.
    """
    more: Counter[int] = Counter()
    passed = []
    for tensor in tensors:
        first, last = places.unit[max(tensor.origin, 0)], places.unit[tensor.last]
        of_data = tensor.origin < 0
        if last - first >= (1 if of_data else 2):
            passed.append(PassThrough(nbytes=tensor.nbytes, readers=tuple(range(first, last + 1))))
        elif of_data or last > first:
            more[last] += tensor.nbytes
    return more, tuple(passed)


def _require_one_rank(shared: Sequence[Shared], places: _Places) -> None:
    """Raise InputError where layers of several ranks train one weight."""
    for weight in shared:
        ranks = sorted({rank for layer in weight.layers if (rank := places.rank_of_stage[places.stage[layer]]) >= 0})
        if weight.trained and len(ranks) > 1:
            raise InputError(
                f"layers {_listed(weight.layers)} share the trained weight {weight.name!r} and lie on ranks "
                f"{_listed(ranks)}, which would each have a part of its gradient; use one rank, bring the layers onto "
                "one with checkpoint.partition, or untie the weight"
            )


def _listed(numbers: Sequence[int], most: int = 8) -> str:
    """Return numbers in words, e.g. ``0, 2 and 3``; the first few of many."""
    if len(numbers) > most:
        return f"{', '.join(map(str, numbers[:most]))}, ..."
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))


def _shared_bytes(shared: Sequence[Shared], places: _Places) -> tuple[int, ...]:
    """Return what each stage holds together with others; of a rank's stages the first that has it."""
    if not shared:
        return ()
    out = [0] * len(places.rank_of_stage)
    for piece in shared:
        first: dict[int, int] = {}
        for stage in sorted({places.stage[layer] for layer in piece.layers}):
            first.setdefault(places.rank_of_stage[stage], stage)
        for stage in first.values():
            out[stage] += piece.nbytes
    return tuple(out)


def _dealt_out_by_an_estimate(layers: Sequence[LayerShape], setting: Setting) -> Iterator[str]:
    """Yield a warning where stages follow from an estimate of work: of layers whose FLOPs could not be counted."""
    if setting.stages == 1 or setting.partition is not None:
        return
    for uncounted in _not_counted(layers):
        yield (
            f"{uncounted}: the layers are dealt out over the stages by an estimate of their work; checkpoint.partition "
            "sets the layers of each stage by hand"
        )


def _timed_by_an_estimate(layers: Sequence[LayerShape]) -> Iterator[str]:
    """Yield a warning where estimated times follow from FLOPs that are an estimate themselves."""
    for uncounted in _not_counted(layers):
        yield f"{uncounted}: the estimate of their times follows from an estimate of their work, and may be far off"


def _not_counted(layers: Sequence[LayerShape]) -> Iterator[str]:
    """Yield how many layers' FLOPs could not be counted, where their work may be much of the whole."""
    kinds = Counter(layer.kind for layer in layers if not layer.counted)
    estimated = sum(layer.flops for layer in layers if not layer.counted)
    if not kinds or estimated * ESTIMATE_TOLD < sum(layer.flops for layer in layers):
        return
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) + (", ..." if len(kinds) > 4 else "")
    yield f"the FLOPs of {kinds.total()} of {counted(len(layers), 'layer')} ({named}) are not counted"


def _state_kept(layers: Sequence[Layer], cut: Cut, places: _Places, frozen: int) -> Iterator[str]:
    """Yield a warning where what RECOMPUTE starts from takes much memory beside the boundary."""
    kept: dict[int, int] = {}
    for number, unit in enumerate(cut.units[frozen:], frozen):
        nbytes = sum(layers[layer].state_bytes for layer in unit)
        if nbytes * STATE_TOLD > layers[unit[0]].boundary_bytes:
            kept[number] = nbytes
    if kept:
        largest = max(kept, key=kept.__getitem__)
        boundary = layers[cut.units[largest][0]].boundary_bytes
        others = f", the largest of {counted(len(kept), 'unit')}" if len(kept) > 1 else ""
        yield (
            f"unit {places.names[largest]} keeps {format_bytes(kept[largest])} for each microbatch beside its boundary "
            f"of {format_bytes(boundary)}{others}: RECOMPUTE starts from the values that the module's buffers had "
            "before its FORWARD; a buffer that its FORWARD does not change takes nothing"
        )
