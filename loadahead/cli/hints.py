"""Tells people which commands make a run directory's files again."""

from __future__ import annotations

from loadahead.reports.run_data import RunData


def reproduction_commands(data: RunData) -> list[str]:
    """Return the command lines that make the run's files again, to be given in its directory."""
    assert data.directory is not None
    names = {path.name for path in data.directory.iterdir()}
    costs = " --costs costs.json" if "costs.json" in names else ""
    lines = []
    command = data.result.get("command")
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        command = " ".join(command)
    if isinstance(command, str):
        lines.append(command)
    if "plan.json" in names:
        lines += ["loadahead verify plan.json", f"loadahead simulate plan.json{costs}"]
        if data.measured is not None:
            lines.append(f"loadahead execute plan.json --device {data.measured.source}{costs} -o again")
    if data.predicted is not None and data.measured is not None:
        lines.append("loadahead compare predicted.jsonl measured.jsonl")
    lines.append("loadahead report .")
    return lines
