"""What is said of a scenario that was made of SageMaker's options is said of its plan too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.scenarios.notes import Note, Notes

OPTIONS = {
    "smp_options": {"microbatches": 4, "partitions": 2, "offload_activations": True},
    "mpi_options": {"processes_per_host": 2},
}


def test_a_plan_of_options_says_what_they_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "smp.json").write_text(json.dumps(OPTIONS))
    told = []
    for words in ("simulate smp.json", "plan smp.json -o plan.json", "simulate plan.json"):
        arguments = [str(tmp_path / word) if word.endswith(".json") else word for word in words.split()]
        assert run([*arguments, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out)["warnings"])
    assert told[0] == told[1] == told[2]
    assert any(text.startswith("activation checkpointing is taken as on") for text in told[2])
    # A scenario of the project's own has none.
    assert "notes" not in la.plan("uniform").policy


@pytest.mark.parametrize("damaged", [None, 3, [], {"said": 3}, {"said": [3, {"text": 4}], "by_default": [5]}, {"x": 1}])
def test_notes_of_a_strangers_file(damaged: object) -> None:
    assert not Notes.from_dict(damaged)


def test_notes_are_read_back() -> None:
    notes = Notes((Note("one"), Note("two", ("parallel", "offload.x"))), frozenset({"hardware.memory"}))
    again = Notes.from_dict(json.loads(json.dumps(notes.to_dict())))
    assert (again.said, again.by_default) == (notes.said, notes.by_default)
