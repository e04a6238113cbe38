"""A record of what the command line answers about the shipped scenarios, and of every error text of the corpora.

The files beside this one were first made by the code from before everything moved under ``loadahead``, and then again
by the code after it: their history shows what changed. ``python -m tests.golden.record`` makes them anew, which is
right only where a change of answers is meant.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = tuple[int, str, str]  # exit status, standard output, standard error
Run = Callable[[list[str]], Answer]

FOLDER = Path(__file__).parent
CORPUS = FOLDER.parent / "corpus"
ANSWERS, ERRORS, COSTS = FOLDER / "answers.json", FOLDER / "errors.json", FOLDER / "costs"
SCENARIOS = ("demo", "four-rank", "no-help", "shared-switch", "slow-link", "two-rank", "uniform")
# Calibrated once, so that what is predicted of a module does not depend on the machine.
MODULES = ("demo", "two-rank")
# What errors.json says in place of the corpus' folder.
HERE = "CORPUS"

# Mistakes on the command line itself: what errors.json records beside the corpora.
MISTAKES = (
    ["simulate", "unifrom"],
    ["simulate", "uniform", "--set", "offload"],
    ["simulate", "uniform", "--set", "offload.activation_loading_horizon=0"],
    ["simulate", "uniform", "--set", "name.x=1"],
    ["simulate", "uniform", "--engine", "simpi"],
    ["simulate", "uniform", "--costs", "no-such-file.json"],
    ["execute", "uniform"],
    ["execute", "demo", "--device", "tpu"],
    ["calibrate", "uniform"],
    ["verify", "no-such-file.json"],
    ["show", f"{HERE}/plans/good.json", "--set", "offload.release_window=2"],
    ["execute", f"{HERE}/plans/good.json"],
    ["sweep", "uniform", "--horizon", "0:4"],
    ["sweep", "uniform", "--horizon", "4:1"],
    ["sweep", "uniform", "--pipeline", "gpipe,zb"],
    ["sweep", "uniform", "--set-range", "hardware"],
    ["sweep", "uniform", "--set-range", "hardware.d2h=1 GB/s,2"],
    ["sweep", "uniform", "--horizon", "1:2", "--set-range", "offload.activation_loading_horizon=1:2"],
    ["sweep", "uniform", "--fresh"],
    ["sweep", "uniform", "--jobs", "-2"],
    ["sweep", "uniform", "--backend", "spark"],
    ["sweep", "uniform", "--backend", "dask"],
    ["sweep", "uniform", "--backend", "dask", "--scheduler", "x", "--jobs", "2"],
    ["sweep", "uniform", "--scheduler", "x"],
    ["validate", "--grid", "no-such-grid", "--device", "cpu"],
    ["validate", "--grid", "gpu", "--device", "cpu"],
    ["validate", "--limit", "0", "--device", "cpu"],
    ["report", "no-such-folder"],
    ["compare", "no-such-file.jsonl", "no-such-file.jsonl"],
)


def digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def record_answers(run: Run) -> dict[str, Any]:
    """Return, by scenario, what is planned, predicted and swept; the large texts as their digests."""
    return {name: record_answers_of(name, run) for name in SCENARIOS}


def record_answers_of(name: str, run: Run) -> dict[str, Any]:
    """Return what is planned, predicted and swept of one scenario; the large texts as their digests."""
    costs = ["--costs", str(COSTS / f"{name}.json")] if name in MODULES else []
    out: dict[str, Any] = {"plan": _plan(name, run)}
    for engine in ("simpy", "compiled"):
        with tempfile.TemporaryDirectory() as folder:
            timeline = Path(folder) / "timeline.jsonl"
            made = _result(run(["simulate", name, *costs, "--engine", engine, "--timeline", str(timeline), "--json"]))
            lines = timeline.read_text().splitlines()
        out[f"simulate {engine}"] = made | {"advice": _advice(made["advice"])}
        out[f"timeline {engine}"] = {"lines": len(lines), "sha256": digest("\n".join(lines[1:]))}
    axes = ["--horizon", "1:6", "--microbatches", "2,8", "--release-window", "1,2"]
    links = ["--set-range", "hardware.d2h=1 GB/s,20 GB/s", "--pipeline", "simple,interleaved"]
    for title, more in (("policies", axes), ("links", links)):
        out[f"sweep {title}"] = _sweep(run, [name, *costs, *more])
    return out


def _plan(name: str, run: Run) -> dict[str, Any]:
    """Return the plan's digests, of its text form and of its file, both without the echo of its scenario.

    The file's decisions follow from its operations; they came after the record.
    """
    status, text, warnings = run(["show", name])
    assert status == 0, warnings
    rows = [line for line in text.splitlines() if not line.startswith("policy ")]
    plan = json.loads(run(["show", name, "--json"])[1])
    plan["policy"].pop("scenario")
    del plan["decisions"]
    return {
        "operations": len(plan["ops"]),
        "text sha256": digest("\n".join(rows)),
        "file sha256": digest(json.dumps(plan, sort_keys=True)),
        "warnings": warnings,
    }


def _sweep(run: Run, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = _result(run(["sweep", *arguments, "-o", folder, "--json"]))
        table = (Path(folder) / "sweep.csv").read_text()
    return {
        "points": len(made["points"]),
        "first": made["points"][0],
        "advice": _advice(made["advice"]),
        "advice_by_axes": [each["sentence"] for each in made["advice_by_axes"]],
        "csv sha256": digest(table),
    }


def _advice(advice: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the advice without the figures that its sentence is made of."""
    return None if advice is None else {key: advice[key] for key in ("horizon", "obstacles", "searched", "sentence")}


def _result(answer: Answer) -> Any:
    status, out, err = answer
    assert status == 0, err
    return json.loads(out)


def record_errors(run: Run) -> dict[str, str]:
    """Return what is said of every file of the corpora, and of mistakes on the command line, by what was run."""
    commands = [["simulate", f"{HERE}/scenarios/{path.name}"] for path in sorted((CORPUS / "scenarios").glob("*.toml"))]
    commands += [["verify", f"{HERE}/plans/{path.name}"] for path in sorted((CORPUS / "plans").glob("*.json"))]
    errors = {}
    for arguments in [*commands, *MISTAKES]:
        status, _, err = run([part.replace(HERE, str(CORPUS)) for part in arguments])
        if status:
            errors[" ".join(arguments)] = f"{status} {err.replace(str(CORPUS), HERE)}"
    return errors


def in_this_process(arguments: list[str]) -> Answer:
    """Run one command of the command line in this process."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from loadahead.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(arguments)
    return status, out.getvalue(), err.getvalue()


def write(run: Run) -> None:
    """Make the files anew; what is compiled is compiled before, as a command that does it says so."""
    from loadahead.compiling import compile_first

    compile_first()
    for path, content in ((ANSWERS, record_answers(run)), (ERRORS, record_errors(run))):
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(in_this_process)
