"""Runs commands in this process on a scenario of a model of :mod:`tests.field.models`, and judges what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run

MODELS = "tests.field.models"
TWO_RANKS = ["--set", "parallel.pipeline_parallel_degree=2", "--set", "parallel.pipeline=1f1b"]
ONE_UNIT = ["--set", "checkpoint.strategy=contiguous"]
KEPT = ["--set", "checkpoint.enabled=false"]
# Ways to start a run, as arguments of the command line.
WAYS = {
    "one rank": [],
    "two ranks": TWO_RANKS,
    "one unit": ONE_UNIT,
    "pairs": ["--set", "checkpoint.strategy=group_2"],
    "no checkpoint": KEPT,
    "no offload": ["--set", "offload.offload_activations=false"],
    "no check": ["--no-check"],
}


def started(*ways: str) -> pytest.MarkDecorator:
    """Run a test once for each of these ways, whose arguments it gets as ``start``; on one and two ranks by default."""
    chosen = ways or ("one rank", "two ranks")
    return pytest.mark.parametrize("start", [pytest.param(WAYS[way], id=way) for way in chosen])


def options(**values: Any) -> list[str]:
    """Return the arguments that set options of the model."""
    return [part for key, value in values.items() for part in ("--set", f"model.options.{key}={json.dumps(value)}")]


class Field:
    """Holds one scenario, and runs commands on it.

    Args:
        build: the model's function; ``data`` and ``loss`` may be functions of the same module.
        shape: of random input, where there is no ``data``.
        tables: further keys, ``table__key``.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], build: str, **given: Any) -> None:
        self.folder, self._capsys, self.path = folder, capsys, folder / f"{build}.toml"
        model: dict[str, Any] = {"kind": "module", "python": f"{MODELS}:{build}", "loss": "mean", "steps": 3}
        tables: dict[str, dict[str, Any]] = {
            "model": model | {"learning_rate": 1e-2},
            "hardware": {"d2h": "10 GB/s", "h2d": "10 GB/s", "memory": "1 GiB"},
            "parallel": {"microbatches": 4, "pipeline": "simple"},
            "checkpoint": {},
            "offload": {"activation_loading_horizon": 2},
        }
        for key, value in given.items():
            table, _, name = key.partition("__")
            if not name:
                table, name = "model", {"shape": "input_shape"}.get(key, key)
            tables[table][name] = f"{MODELS}:{value}" if name in ("data", "loss") and value in _functions() else value
        text = f'name = "{build}"\n' + "".join(f"[{name}]\n{_keys(table)}" for name, table in tables.items())
        self.path.write_text(text)

    def run(self, command: str, *more: str) -> tuple[int, str, str]:
        """Return exit status, stdout and stderr; a traceback fails the test."""
        self._capsys.readouterr()
        status = run([command, str(self.path), *more])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    def result(self, *more: str, command: str = "execute") -> dict[str, Any]:
        """Return the JSON object of a command that succeeds."""
        status, out, err = self.run(command, *more, "--json")
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def equal(self, *more: str, memory: bool = True) -> dict[str, Any]:
        """Return a run's JSON object, whose gradients are plain training's, and whose peaks the predicted ones."""
        found = self.result(*more)
        assert found["max_grad_error"] == 0.0
        if memory:
            self.exact_memory(found)
        return found

    def exact_memory(self, found: dict[str, Any]) -> None:
        """Compare the peaks of a run with its prediction's."""
        names = ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes")
        measured, predicted = ([[rank[n] for n in names] for rank in side["ranks"]] for side in _sides(found))
        assert measured == predicted

    def refusal(self, *more: str, command: str = "execute") -> str:
        """Return the one line in which a command refuses."""
        status, out, err = self.run(command, *more)
        assert status in (1, 2), out
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and err.splitlines()[-1] == lines[0], err
        return lines[0]

    def equal_or_refused(self, *more: str, words: tuple[str, ...]) -> None:
        """Let a run be either right, or refused in a line that holds one of these words; both are honest."""
        status, out, err = self.run("execute", *more, "--json")
        if status == 0:
            assert json.loads(out)["max_grad_error"] in (0.0, None)
        else:
            last = err.splitlines()[-1]
            assert last.startswith("error: ") and any(word in last for word in words), last

    def weights(self, *more: str) -> dict[str, Any]:
        """Run, and return the trained model's state dict, from the file in the run directory."""
        import torch

        out = self.folder / "run"
        self.equal(*more, "-o", str(out), memory=False)
        found: dict[str, Any] = torch.load(out / "weights.pt", weights_only=True)
        return dict(found["model"])


def _functions() -> set[str]:
    from tests.field import models

    return set(vars(models))


def _sides(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return found, found["predicted"]


def _keys(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)
