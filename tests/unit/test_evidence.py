"""Tables and figures follow from the evidence's JSON alone, finished or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from reports.evidence import JOURNAL, JSON, PAGE, assemble, has_evidence, read_evidence, write_evidence
from reports.evidence_figures import FIGURES
from reports.evidence_tables import configurations_grid, markdown, peers_grid
from reports.plots.base import Drawing, Missing
from reports.tables import Grid
from sim.errors import InputError
from tests.support.evidence import records


def journal(directory: Path, found: list[dict[str, Any]], torn: str = "") -> None:
    (directory / JOURNAL).write_text("".join(json.dumps(record) + "\n" for record in found) + torn)


def test_the_page_is_made_again_from_the_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = write_evidence(assemble(records()), tmp_path)
    assert {path.name for path in written} == {JSON, PAGE, *(f"{name}.png" for name in FIGURES)}
    page = (tmp_path / PAGE).read_text()
    for path in written[1:]:
        path.unlink()
    assert run(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / PAGE}\n"
    assert (tmp_path / PAGE).read_text() == page
    assert all(path.stat().st_size > 0 for path in written)
    for words in ("Some GPU", "2.9.0", "deepspeed is not installed", "not installed", "6.7 minutes"):
        assert words in page


def test_every_configuration_and_peer_has_its_row() -> None:
    evidence = assemble(records())
    assert len(configurations_grid(evidence).rows) == len(evidence["configurations"]) == 57
    names = {row[3] for row in peers_grid(evidence).rows}
    assert {"none", "save_on_cpu", "trl", "deepspeed", "Loadahead, no offload"} <= names


def test_a_killed_validation_keeps_what_it_had(tmp_path: Path) -> None:
    whole = records()
    at = next(i for i, record in enumerate(whole) if record["kind"] == "prediction" and i > 20)
    journal(tmp_path, whole[: at + 1], torn='{"kind": "configur')
    assert has_evidence(tmp_path)
    evidence = read_evidence(tmp_path)
    last = evidence["configurations"][-1]
    assert (last["status"], last["reason"]) == ("skipped", "the validation was stopped")
    assert evidence["seconds"] is None
    write_evidence(evidence, tmp_path)
    assert "stopped before its end" in (tmp_path / PAGE).read_text()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_or_say_why_not(name: str) -> None:
    drawn = FIGURES[name](assemble(records()))
    assert isinstance(drawn, Drawing) and drawn.caption
    missing = FIGURES[name](assemble(records()[:1]))
    assert isinstance(missing, Missing) and missing.reason


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"format": "other"}', '{"format": "loadahead-evidence", "version": 2}']
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / JSON).write_text(content)
    with pytest.raises(InputError):
        read_evidence(tmp_path)
    assert run(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_markdown_table() -> None:
    grid = Grid(headers=("a", "b"), rows=(("x|y", "1"),), note="So.")
    assert markdown(grid) == "| a | b |\n| --- | ---: |\n| x/y | 1 |\n\nSo."
