"""Writes the evidence as a page in Markdown: verdicts, configurations, peers, calibration, machine and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.recorded_steps import MeasuredStep, PeerStep, measured_step, peer_step, predicted_step
from loadahead.reports.run_directory import EVIDENCE
from loadahead.reports.tables import NOTHING, Grid, format_error, format_share
from loadahead.reports.verdicts.outcome import coverage_text, verdicts_grid
from loadahead.reports.verdicts.records import (
    NONE,
    case_of,
    chosen_beside,
    ours_beside,
    peak_error,
    plain_beside,
    time_error,
)
from loadahead.sim.units import counted, format_bytes, format_duration, format_rate

Record = Mapping[str, Any]


def page_of(evidence: Record, drawings: Mapping[str, Drawing | Missing]) -> str:
    """Return the whole page; the figures are files beside it."""
    device = evidence.get("machine", {}).get("gpu") or evidence.get("device", "unknown device")
    stopped = evidence["stopped"]
    took = f"It took {evidence['seconds'] / 60:.1f} minutes{'' if stopped is None else f' until {stopped}'}."
    parts = [
        f"# Predicted and measured on {device}",
        f"Made by a validation; a report of its directory makes it again from `{EVIDENCE}` alone. {took}",
        "## What holds",
        markdown(verdicts_grid(evidence["verdicts"])),
        f"Covered: {coverage_text(evidence['facts'])}.",
    ]
    for name, drawing in drawings.items():
        parts.append(f"## {drawing.title}")
        if isinstance(drawing, Drawing):
            parts += [f"![{drawing.title}]({name}.png)", drawing.caption]
        else:
            parts.append(f"Not drawn: {drawing.reason}.")
    for title, grid in (
        ("Every configuration", configurations_grid(evidence)),
        ("Peers", peers_grid(evidence)),
        ("Gradients", gradients_grid(evidence)),
        ("Calibration", models_grid(evidence)),
        ("Machine and versions", machine_grid(evidence)),
    ):
        parts += [f"## {title}", markdown(grid)]
    return "\n\n".join(parts) + "\n"


def markdown(grid: Grid) -> str:
    """Return a grid as a Markdown table, its note below."""
    marks = ["---" if index in grid.text_columns else "---:" for index in range(len(grid.headers))]
    lines = [_row(grid.headers), _row(marks), *(_row(row) for row in grid.rows)]
    if not grid.rows:
        lines = ["Nothing was measured."]
    return "\n".join([*lines, *(["", grid.note] if grid.note else [])])


def _row(cells: Any) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def configurations_grid(evidence: Record) -> Grid:
    """Return a row for each configuration, in the order of the grid; those not measured say why."""
    rows = [_configuration(record) for record in evidence["configurations"]]
    return Grid(
        headers=(
            "model",
            "mb.",
            "pipeline",
            "horizon",
            "window",
            "copies",
            "copy / compute",
            "step predicted",
            "measured",
            "error",
            "peak predicted",
            "measured",
            "error",
            "offloaded",
            "overlap",
        ),
        rows=tuple(rows),
        text_columns=frozenset({0, 2}),
        note="error = (predicted − measured) / measured. copy / compute: predicted time of the busier link's copies "
        "over that of all compute. mb.: microbatches. overlap: measured share of copying during which compute ran.",
    )


def _configuration(record: Record) -> tuple[str, ...]:
    horizon = _horizon(record) if record["offload"] else "without offload"
    own = (
        record["model"],
        str(record["microbatches"]),
        record["pipeline"],
        horizon,
        str(record["release_window"]),
        str(record["copies"]),
    )
    if record["status"] != "measured":
        return *own, NOTHING, f"{record['status']}: {record['reason']}", *(NOTHING,) * 7
    predicted, measured = predicted_step(record), measured_step(record)
    return (
        *own,
        f"{predicted.copy_to_compute:.2f}" if record["offload"] else NOTHING,
        format_duration(predicted.step_time_ns),
        format_duration(measured.step_time_ns),
        format_error(time_error(record)),
        format_bytes(predicted.peak_device_bytes),
        format_bytes(measured.peak_device_bytes),
        format_error(peak_error(record)),
        f"{predicted.offloaded}/{predicted.offloaded + predicted.kept}",
        format_share(measured.overlap if predicted.offloaded else None),
    )


def _horizon(record: Record) -> str:
    return counted(record["horizon"], record["horizon_unit"].removesuffix("s"))


def peers_grid(evidence: Record) -> Grid:
    """Return each case's rows: our plans over links as they are, then the peers."""
    rows = []
    for case in dict.fromkeys(case_of(peer) for peer in evidence["peers"]):
        chosen = chosen_beside(evidence, case)
        for record in ours_beside(evidence, case):
            mark = " (stands for ours)" if record is chosen else ""
            rows.append(_peer(case, f"our plan, horizon {_horizon(record)}{mark}", measured_step(record), "measured"))
        for record in plain_beside(evidence, case):
            rows.append(_peer(case, "our plan without offload", measured_step(record), "measured"))
        for peer in evidence["peers"]:
            if case_of(peer) == case:
                step = peer_step(peer) if peer["status"] == "measured" else None
                rows.append(_peer(case, f"peer {peer['peer']}", step, f"{peer['status']}: {peer.get('reason')}"))
    return Grid(
        headers=("model", "mb.", "pipeline", "", "step time", "peak device"),
        rows=tuple(rows),
        text_columns=frozenset({0, 2, 3}),
        note="The same model, batch, order of passes and optimizer, every unit checkpointed, in one run. Which plan "
        f"stands for ours was decided by predictions alone. Peer {NONE}: torch's checkpointing, which does not "
        "offload.",
    )


def _peer(case: tuple[str, int, str], name: str, step: MeasuredStep | PeerStep | None, status: str) -> tuple[str, ...]:
    own = (case[0], str(case[1]), case[2], name)
    if step is None:
        return *own, status, NOTHING
    peak = step.peak_device_bytes
    return *own, format_duration(step.step_time_ns), NOTHING if peak is None else format_bytes(peak)


def gradients_grid(evidence: Record) -> Grid:
    """Return a row for every check against plain training."""
    rows = []
    for record in evidence["gradients"]:
        difference = (
            f"{record['max_grad_error']:g}"
            if record["status"] == "measured"
            else f"{record['status']}: {record['reason']}"
        )
        rows.append((record["name"], difference))
    return Grid(headers=("configuration", "largest difference"), rows=tuple(rows))


def models_grid(evidence: Record) -> Grid:
    """Return a row for each calibrated model."""
    rows = []
    for model in evidence["models"]:
        if model["status"] != "measured":
            rows.append((model["model"], f"{model['status']}: {model['reason']}", *(NOTHING,) * 5))
            continue
        options = ", ".join(f"{key} {value}" for key, value in model["options"].items())
        rows.append(
            (
                model["model"],
                options,
                model["autocast"],
                str(model["units"]),
                format_bytes(model["static_bytes"]),
                format_rate(model["d2h_bandwidth"]),
                format_rate(model["h2d_bandwidth"]),
            )
        )
    return Grid(
        headers=("model", "options", "autocast", "units", "resident", "to the host", "from the host"),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 2}),
        note="Bandwidths as the simulator used them, for one copy of a boundary.",
    )


def machine_grid(evidence: Record) -> Grid:
    """Return the versions and the machine; where several machines measured, a column for each."""
    machines = evidence.get("sessions") or [evidence.get("machine", {})]
    rows = [("loadahead", *[str(evidence.get("loadahead", NOTHING))] * len(machines))]
    for key in dict.fromkeys(key for machine in machines for key in machine):
        cells = [_fact(key, machine.get(key, NOTHING)) for machine in machines]
        rows.append((key.removesuffix("_bytes").replace("_", " "), *cells))
    for name, version in evidence.get("packages", {}).items():
        rows.append((name, *[version or "not installed"] * len(machines)))
    several = len(machines) > 1
    return Grid(
        headers=("", *(f"session {number}" if several else "" for number in range(1, len(machines) + 1))),
        rows=tuple(rows),
        text_columns=frozenset(range(1 + len(machines))),
        note=_shares(evidence, len(machines)) if several else "",
    )


def _fact(key: str, value: Any) -> str:
    return format_bytes(value) if key.endswith("_bytes") and type(value) is int else str(value)


def _shares(evidence: Record, machines: int) -> str:
    """Return which machine measured what, and which configurations were predicted from another's calibration."""
    calibrated = {model["model"]: model.get("session") for model in evidence["models"]}
    told = []
    for number in range(1, machines + 1):
        models = [name for name, session in calibrated.items() if session == number]
        done = [record for record in evidence["configurations"] if record.get("session") == number]
        more = [r for name in ("gradients", "peers") for r in evidence[name] if r.get("session") == number]
        others = sum(calibrated.get(record["model"]) != number for record in done)
        told.append(
            f"session {number}: calibrated {', '.join(models) or 'nothing'}, ran "
            f"{counted(len(done), 'configuration')} ({others} predicted from another session's calibration) and "
            f"{counted(len(more), 'other part')}"
        )
    return "; ".join(told) + "."
