"""Tables and figures follow from the evidence's JSON alone, finished or not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run
from loadahead.reports.evidence import assemble, has_evidence, read_evidence, write_evidence
from loadahead.reports.evidence_figures import FIGURES
from loadahead.reports.evidence_tables import configurations_grid, markdown, page_of, peers_grid
from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.run_directory import EVIDENCE, EVIDENCE_PAGE, VALIDATION_JOURNAL
from loadahead.reports.tables import Grid
from loadahead.sim.errors import InputError
from tests.support.evidence import COUNT, records


def journal(directory: Path, found: list[dict[str, Any]], torn: str = "") -> None:
    (directory / VALIDATION_JOURNAL).write_text("".join(json.dumps(record) + "\n" for record in found) + torn)


def test_the_page_is_made_again_from_the_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = write_evidence(assemble(records()), tmp_path)
    assert {path.name for path in written} == {EVIDENCE, EVIDENCE_PAGE, *(f"{name}.png" for name in FIGURES)}
    page = (tmp_path / EVIDENCE_PAGE).read_text()
    for path in written[1:]:
        path.unlink()
    assert run(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / EVIDENCE_PAGE}\n"
    assert (tmp_path / EVIDENCE_PAGE).read_text() == page
    assert all(path.stat().st_size > 0 for path in written)
    took = f"It took {(2.5 * COUNT + 5 * 0.1) / 60:.1f} minutes."
    for words in ("Some GPU", "2.9.0", "deepspeed is not installed", "not installed", took):
        assert words in page


def test_every_configuration_and_peer_has_its_row() -> None:
    evidence = assemble(records())
    assert len(configurations_grid(evidence).rows) == len(evidence["configurations"]) == COUNT
    names = {row[3] for row in peers_grid(evidence).rows}
    assert {"peer none", "peer save_on_cpu", "peer trl", "peer deepspeed", "our plan without offload"} <= names
    assert {"our plan, horizon 1 task (stands for ours)", "our plan, horizon 2 tasks"} <= names


def test_a_killed_validation_keeps_what_it_had(tmp_path: Path) -> None:
    whole = records()
    at = next(i for i, record in enumerate(whole) if record["kind"] == "prediction" and i > 20)
    journal(tmp_path, whole[: at + 1], torn='{"kind": "configur')
    assert has_evidence(tmp_path)
    evidence = read_evidence(tmp_path)
    done = sum(record["kind"] == "configuration" for record in whole[: at + 1])
    found = assemble(whole)
    for name in ("configurations", "gradients", "peers"):
        assert [key(one) for one in evidence[name]] == [key(one) for one in found[name]]
    assert [one["status"] for one in evidence["configurations"]] == ["measured"] * done + ["not run"] * (COUNT - done)
    last = evidence["configurations"][-1]
    assert (last["status"], last["reason"]) == ("not run", "the validation was stopped")
    assert {one["status"] for one in [*evidence["gradients"], *evidence["peers"]]} == {"not run"}
    assert evidence["facts"]["configurations"] == {"measured": done, "planned": COUNT}
    write_evidence(evidence, tmp_path)
    page = (tmp_path / EVIDENCE_PAGE).read_text()
    assert "until the validation was stopped" in page and f"{done} of {COUNT} configurations measured" in page
    assert page.count("not run: the validation was stopped") > COUNT - done


def key(record: dict[str, Any]) -> Any:
    return record.get("name") or (record["peer"], record["model"], record["pipeline"])


def test_a_journal_knows_more_than_what_was_reported_of_it(tmp_path: Path) -> None:
    """`report` in the middle of a validation leaves evidence of its first half."""
    write_evidence(assemble(records()[:30]), tmp_path)
    journal(tmp_path, records())
    assert read_evidence(tmp_path)["facts"]["configurations"]["measured"] == COUNT


def test_a_continued_validation_took_the_time_of_both_and_stopped_where_the_second_did() -> None:
    whole = records()
    assert assemble(whole)["stopped"] is None
    limited = [*whole[:-20], {"kind": "end", "stopped": "the time limit was reached"}]
    assert assemble(limited)["stopped"] == "the time limit was reached"
    assert assemble([*limited, whole[-20]])["stopped"] == "the validation was stopped"
    went_on = assemble([*limited, *whole[-20:]])
    assert went_on["stopped"] is None
    assert went_on["seconds"] == assemble(whole)["seconds"] > 0


def test_figures_that_are_not_drawn_again_do_not_stay(tmp_path: Path) -> None:
    write_evidence(assemble(records()), tmp_path)
    (tmp_path / "own.png").write_text("a user's")
    (tmp_path / "README.md").write_text("a user's")
    left = write_evidence(assemble(records()[:1]), tmp_path)
    assert {path.name for path in left} == {EVIDENCE, EVIDENCE_PAGE}
    assert {path.name for path in tmp_path.iterdir()} == {EVIDENCE, EVIDENCE_PAGE, "own.png", "README.md"}
    assert (tmp_path / "README.md").read_text() == "a user's"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_or_say_why_not(name: str) -> None:
    drawn = FIGURES[name](assemble(records()))
    assert isinstance(drawn, Drawing) and drawn.caption
    missing = FIGURES[name](assemble(records()[:1]))
    assert isinstance(missing, Missing) and missing.reason


def drawing(name: str, evidence: dict[str, Any]) -> Drawing:
    drawn = FIGURES[name](evidence)
    assert isinstance(drawn, Drawing)
    return drawn


def labels(drawn: Drawing) -> set[str]:
    """Of the one legend, which lies outside all axes."""
    (legend,) = drawn.figure.legends
    assert all(axes.get_legend() is None for axes in drawn.figure.axes)
    return {text.get_text() for text in legend.get_texts()}


def test_horizons_have_a_row_for_slowed_links_and_one_line_for_equal_memory() -> None:
    drawn = drawing("horizons", assemble(records()))
    assert {"copied once", "link slowed", "measured", "measured without offload"} <= labels(drawn)
    as_it_is, slowed, memory = drawn.figure.axes[::4]
    assert [axes.get_ylabel().partition(" (")[0] for axes in (as_it_is, slowed, memory)] == [
        "step time",
        "step time, slowed link",
        "peak memory",
    ]
    assert len(predictions(as_it_is)) == len(predictions(memory)) == 1
    assert len(predictions(slowed)) == 2
    for axes in (as_it_is, slowed):  # a measurement has its prediction's colour
        colours = [line.get_markeredgecolor() for line in axes.lines if line.get_marker() == "D"]
        assert colours == [line.get_color() for line in predictions(axes)]


def predictions(axes: Any) -> list[Any]:
    return [line for line in axes.lines if line.get_linestyle() == "-"]


def test_memory_that_is_predicted_differently_has_its_lines() -> None:
    found = records()
    for record in found:
        if record["kind"] == "configuration" and record["copies"] > 10:
            record["predicted"]["peak_device_bytes"] += 2**20
    assert len(predictions(drawing("horizons", assemble(found)).figure.axes[8])) == 3


def test_peers_are_told_by_the_legend_and_a_peak_that_is_not_known_by_a_note() -> None:
    found = records()
    for record in found:
        if record["kind"] == "peer" and record["peer"] == "trl":
            record["peak_device_bytes"] = None
    drawn = drawing("peers", assemble(found))
    assert {
        "our plan, horizon 1 task",
        "our plan without offload",
        "the plan that stands for ours",
        "peer none",
        "peer save_on_cpu",
    } <= labels(drawn)
    assert "peer trl" not in labels(drawn)
    panels = [axes for axes in drawn.figure.axes if axes.get_title("left")]
    assert len(panels) == 5
    for axes in panels:
        assert not axes.texts  # nothing that could collide
        assert "\npeer trl: 862.4 ms, peak not known" in axes.get_xlabel()


def test_the_bands_are_the_grids_own() -> None:
    gpu = drawing("predicted_measured", assemble(records()))
    assert "darker band is 3 %" in gpu.caption and "lighter band is 6 %" in gpu.caption
    cpu = drawing("predicted_measured", assemble(records("cpu")))
    assert "darker band is 10 %" in cpu.caption and "lighter" not in cpu.caption
    assert [len(one.figure.axes[1].patches) for one in (gpu, cpu)] == [2, 1]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        "\xff",
        '{"format": "other"}',
        '{"format": "loadahead-evidence", "version": 1}',
        '{"format": "loadahead-evidence", "version": 2}',
        '{"format": "loadahead-evidence", "version": 3}',
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / EVIDENCE).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError):
        read_evidence(tmp_path)
    assert run(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "content", ["", '{"x": 1}\n', "[]\n", "\xff\n", '{"kind": "end", "stopped": null}\n', '{"kind": "machine"}\n']
)
def test_other_journals_are_refused_in_one_line(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / VALIDATION_JOURNAL).write_bytes(content.encode("latin-1"))
    assert run(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / VALIDATION_JOURNAL}") and said.count("\n") == 1


def test_a_directory_that_is_not_there_could_be_a_validations(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "nonexistent"]) == 2
    assert "a demo, a run, a sweep or a validation" in capsys.readouterr().err


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of every object, by its path; of lists the first and the last."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield (*path, name)
            yield from places(value, (*path, name))
    elif isinstance(content, list) and content:
        for at in {0, len(content) - 1}:
            yield from places(content[at], (*path, at))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value there; without the key for ``...``."""
    content = copy.deepcopy(content)
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


@pytest.mark.parametrize("value", [..., None, 0, -1, 1.5, "x", [], {}, True, 10**30], ids=repr)
def test_malformed_evidence_is_refused_in_one_line_or_harmless(tmp_path: Path, value: Any) -> None:
    found = records("cpu")
    first = next(record for record in found if record["kind"] == "configuration")
    first |= {"status": "failed", "reason": "RuntimeError: broken"}
    whole = assemble(found[:-5])
    whole = {name: content for name, content in whole.items() if name not in ("verdicts", "facts")}
    refused = []
    for path in places(whole):
        (tmp_path / EVIDENCE).write_text(json.dumps(changed(whole, path, value)))
        try:
            page_of(read_evidence(tmp_path), {})
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all("\n" not in text and text.startswith(str(tmp_path / EVIDENCE)) for text in refused)


@pytest.mark.parametrize("key", ["step_time_ns", "peak_device_bytes"])
def test_a_measured_0_is_refused(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = assemble(records("cpu"))
    whole["configurations"][2]["measured"][key] = 0
    (tmp_path / EVIDENCE).write_text(json.dumps(whole))
    assert run(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"configurations.2.measured.{key} = 0: it must be greater than or equal to 1" in said
    assert said.count("\n") == 1


def test_a_markdown_table() -> None:
    grid = Grid(headers=("a", "b"), rows=(("x|y", "1"),), note="So.")
    assert markdown(grid) == "| a | b |\n| --- | ---: |\n| x/y | 1 |\n\nSo."
