"""Makes the page's explorer: a sweep's points by sliders, and a step's memory and operations to zoom into."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loadahead.reports.page.assets import rendered
from loadahead.reports.page.markup import Html
from loadahead.reports.page.point_command import PointCommand
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots.style import KIND_COLOUR, MEASURED, PREDICTED, STALL_COLOUR
from loadahead.reports.points import StepExcerpt
from loadahead.reports.run_data import RunData
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.tables import NOTHING
from loadahead.reports.views.base import Missing
from loadahead.reports.views.explored import Explored, ExploredStep, explored
from loadahead.sim.choice import SPEED, SPEED_HEADER
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.stalls import stall_name
from loadahead.sim.step_metrics import METRIC_COLUMNS, OF_HORIZONS

# A queue is called so beside its lane, and in few letters on a phone.
_LANES = {
    Queue.COMPUTE: ("compute", "comp."),
    Queue.D2H: ("copy out", "out"),
    Queue.H2D: ("copy in", "in"),
    Queue.SEND: ("send", "send"),
    Queue.RECV: ("receive", "recv"),
}
# How a hatch lies, in degrees, and whether it is crossed, by the sign that figures write it with.
_LIES = {"/": (45, False), "\\": (-45, False), "x": (45, True), "|": (0, False)}
_MARK_COLOUR = "currentColor"


def explorer(data: RunData, point_command: PointCommand | None = None, whose: str = "", level: int = 2) -> Html:
    """Return the explorer's section; empty where there is neither a sweep nor a timeline.

    ``point_command`` makes a point of the sweep whose memory and operations the page does not hold. ``whose`` begins
    the ids of its elements, and ``level`` is that of its heading.
    """
    view = explored(data)
    if isinstance(view, Missing):
        return Html()
    return Html(
        rendered(
            "explorer.html",
            whose=whose,
            level=level,
            axes=view.axes,
            models=view.models,
            has_sweep=bool(view.rows),
            several=len(view.rows) > 1,
            button=_most_speed(view),
            speed_words=SPEED,
            shown=len(view.rows),
            of_rows=view.of_rows,
            has_steps=bool(view.steps) or view.run is not None,
            has_command=point_command is not None and data.points is not None,
            content=Html(_json(content(view, point_command))),
        )
    )


def content(view: Explored, point_command: PointCommand | None = None) -> dict[str, Any]:
    """Return all that the explorer's script reads, as plain data."""
    return {
        "axes": [
            {
                "name": axis.name,
                "values": list(axis.values),
                "ordered": axis.has_order,
                "ofHorizons": axis.name in OF_HORIZONS,
            }
            for axis in view.axes
        ],
        "rows": _rows(view),
        "models": [
            {
                "name": model.name,
                "chosen": model.chosen,
                "fits": model.fits,
                "leanest": model.leanest,
                "fastest": model.fastest,
                "front": list(model.front),
                "onFront": list(model.on_front),
            }
            for model in view.models
        ],
        "steps": {str(row): _step(step) for row, step in view.steps.items()},
        "run": None if view.run is None else _step(view.run),
        "time": {"name": view.time.name, "sentence": view.time.sentence, "alone": not view.time.sentence},
        "measuredRows": {
            str(row): [point.step_time_ns, point.peak_device_bytes] for row, point in view.measured.items()
        },
        "speed": SPEED_HEADER,
        "nothing": NOTHING,
        "kinds": [{"name": kind.name, "colour": themed(KIND_COLOUR.get(kind, _MARK_COLOUR))} for kind in Kind],
        "stallOf": [stall_name(kind) for kind in Kind],
        "stalls": {
            stall: {
                "title": look.title,
                "label": look.label,
                "colour": themed(STALL_COLOUR[stall]),
                "hatch": _LIES[look.hatch[0]],
            }
            for stall, look in STALL_LOOKS.items()
        },
        "lanes": [{"name": _LANES[queue][0], "short": _LANES[queue][1]} for queue in Queue],
        "predicted": themed(PREDICTED),
        "measured": themed(MEASURED),
        "command": _command(view, point_command),
    }


def themed(colour: str) -> str:
    """Return a colour as the palette's variable, which follows the reader's ground; others as they are."""
    names = {one.light.lower(): name for name, one in PALETTE.items()}
    name = names.get(colour.lower())
    return colour if name is None else f"var(--{name})"


def _rows(view: Explored) -> dict[str, Any]:
    """Return the rows by columns; a column of one value alone is that value."""
    places = [{value: place for place, value in enumerate(axis.values)} for axis in view.axes]
    return {
        "count": len(view.rows),
        "of": view.of_rows,
        "model": _column(view.model_of),
        "places": [
            [place[row.axes[axis.name]] for row in view.rows] for axis, place in zip(view.axes, places, strict=True)
        ],
        "microbatches": _column([row.microbatches for row in view.rows]),
        "tuned": _column([row.is_tuned for row in view.rows]),
        "tokens": _column([row.tokens_per_s for row in view.rows]),
        "time": _column([round(view.time.of(row)) for row in view.rows]),
        "columns": {name: _column([getattr(row, name) for row in view.rows]) for name in METRIC_COLUMNS},
    }


def _most_speed(view: Explored) -> str:
    """Return what the point of the most speed is called: of steps of different work none is simply the fastest."""
    return "most per GPU" if view.time.sentence else "fastest"


def _column(values: Any) -> Any:
    found = [round(value, 6) if isinstance(value, float) else value for value in values]
    return found[0] if found and all(value == found[0] for value in found) else found


def _step(step: ExploredStep) -> dict[str, Any]:
    return {
        "capacity": step.capacity_bytes,
        "waitsKnown": step.waits_known,
        "source": step.source,
        "predicted": _packed(step.predicted),
        "measured": None if step.measured is None else _packed(step.measured),
    }


def _packed(step: StepExcerpt) -> dict[str, Any]:
    """Return an excerpt in fewer letters: times as differences to the one before, sizes as places in a list of them."""
    out = step.model_dump(mode="json")
    for rank in out["ranks"]:
        boxes, memory = rank["boxes"], rank["memory"]
        memory["t_ns"] = _differences(memory["t_ns"])
        boxes["op"], boxes["start_ns"] = _differences(boxes["op"]), _differences(boxes["start_ns"])
        rank["sizes"] = list(dict.fromkeys(boxes["nbytes"]))
        place = {size: number for number, size in enumerate(rank["sizes"])}
        boxes["nbytes"] = [place[size] for size in boxes["nbytes"]]
    return out


def _differences(values: Sequence[int]) -> list[int]:
    return [value - before for before, value in zip([0, *values[:-1]], values, strict=True)] if values else []


def _command(view: Explored, command: PointCommand | None) -> dict[str, Any] | None:
    if command is None or not view.rows:
        return None
    return {
        "before": command.before,
        "settings": [[command.setting(axis.name, value) for value in axis.values] for axis in view.axes],
        "after": command.after,
        "note": command.note,
    }


def _json(found: dict[str, Any]) -> str:
    """Return JSON that can stand in a script element."""
    return json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
