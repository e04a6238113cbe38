"""A validation's journal: its first record, what is found in it, and which validation goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadahead.progress import Progress
from loadahead.reports.evidence import read_evidence
from loadahead.reports.evidence_tables import page_of
from loadahead.reports.run_directory import VALIDATION_JOURNAL
from loadahead.sim.errors import InputError
from loadahead.validation.journal import Journal, open_journal
from tests.support.evidence import MIB, records

RECORDS = records("cpu")
HEADER = {key: value for key, value in RECORDS[0].items() if key != "kind"}


def opened(directory: Path, said: list[str] | None = None, fresh: bool = False, **changes: Any) -> Journal:
    def progress(report: Progress) -> None:
        assert said is not None, report
        said.append(report.what)

    return open_journal(directory, HEADER | changes, fresh=fresh, progress=progress)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A closed journal of a whole validation."""
    with opened(tmp_path) as made:
        for record in RECORDS[1:]:
            own = {key: value for key, value in record.items() if key != "kind"}
            assert made.append(record["kind"], own) == record
        assert made.records == RECORDS
    return tmp_path / VALIDATION_JOURNAL


def test_what_was_kept_is_there_again(journal: Path) -> None:
    with opened(journal.parent) as again:
        assert again.records == RECORDS
        configuration = next(record for record in RECORDS if record["kind"] == "configuration")
        assert again.find("configuration", {"name": configuration["name"]}) == configuration
        assert again.find("configuration", {"name": "none such"}) is None
        assert again.find("model", {"model": configuration["name"]}) is None


def test_the_evidence_is_read_from_it(journal: Path) -> None:
    evidence = read_evidence(journal.parent)
    assert (evidence["format"], evidence["version"]) == ("loadahead-evidence", 2)
    assert {one["status"] for one in evidence["configurations"]} == {"measured"}


def test_another_limit_is_the_same_validation(journal: Path) -> None:
    with opened(journal.parent, limit_s=60.0) as again:
        assert again.records == RECORDS


@pytest.mark.parametrize("other", ["loadahead", "code", "device", "contents", "planned", "machine", "packages"])
def test_another_validation_has_a_journal_of_its_own_and_this_one_is_taken_up_again(journal: Path, other: str) -> None:
    before = journal.read_bytes()
    said: list[str] = []
    with opened(journal.parent, said, **{other: "another"}) as made:
        assert made.records == [RECORDS[0] | {other: "another"}]
    assert said[0].endswith(
        f"starts anew, as another validation was there (other {other}); the journal before is kept as journal-1.jsonl"
    )
    assert (journal.parent / "journal-1.jsonl").read_bytes() == before
    with opened(journal.parent, said) as again:
        assert again.records == RECORDS
    assert "goes on with journal-1.jsonl" in said[1]
    assert journal.read_bytes() == before


GPU_MACHINE = {
    "processor": "Some CPU",
    "cores": 16,
    "memory_bytes": 2**37,
    "python": "3.12.3",
    "torch": "2.9.0+cu128",
    "gpu": "Some GPU",
    "gpu_memory_bytes": 80 * 2**30,
    "cuda": "12.8",
    "gpu_driver": "570.1",
}


def test_another_machine_of_the_same_kind_goes_on_and_is_told(tmp_path: Path) -> None:
    """One MiB more of host memory, another host, driver or patch release changes no time that is compared."""
    other = {"memory_bytes": 2**37 + MIB, "cores": 8, "processor": "Other CPU", "host": "b", "gpu_driver": "575.2"}
    second = GPU_MACHINE | other | {"python": "3.12.9"}
    whole = [record for record in RECORDS[1:] if record["kind"] != "end"]
    half = next(at for at, record in enumerate(whole) if record["kind"] == "prediction" and at > 6)
    for machine, part in ((GPU_MACHINE, whole[:half]), (second, whole[half:])):
        with opened(tmp_path, machine=machine) as journal:
            for record in part:
                journal.append(record["kind"], {key: value for key, value in record.items() if key != "kind"})
    with opened(tmp_path, machine=second) as again:  # the same session goes on
        assert [r["machine"] for r in again.records if r["kind"] == "session"] == [second]
    with opened(tmp_path, machine=GPU_MACHINE) as back:
        assert [r["machine"] for r in back.records if r["kind"] == "session"] == [second, GPU_MACHINE]
    evidence = read_evidence(tmp_path)
    assert evidence["machine"] == GPU_MACHINE
    assert evidence["sessions"] == [GPU_MACHINE, second, GPU_MACHINE]
    assert [model["session"] for model in evidence["models"]] == [1]
    first = sum(record["kind"] == "configuration" for record in whole[:half])
    count = len(evidence["configurations"])
    assert [one["session"] for one in evidence["configurations"]] == [1] * first + [2] * (count - first)
    page = page_of(evidence, {})
    for words in (
        "session 2",
        "570.1",
        "575.2",
        f"session 1: calibrated tiny, ran {first} configurations (0 predicted",
    ):
        assert words in page
    assert f"ran {count - first} configurations ({count - first} predicted from another session's" in page


@pytest.mark.parametrize(
    ("fact", "value"), [("gpu", "Other GPU"), ("torch", "2.10.0+cu128"), ("cuda", "13.0"), ("python", "3.11.3")]
)
def test_a_machine_of_another_kind_starts_anew(tmp_path: Path, fact: str, value: str) -> None:
    said: list[str] = []
    with opened(tmp_path, machine=GPU_MACHINE):
        pass
    with opened(tmp_path, said, machine=GPU_MACHINE | {fact: value}) as made:
        assert len(made.records) == 1
    assert f"another validation was there (other {fact})" in said[0]


@pytest.mark.parametrize(
    ("fact", "value", "same"), [("processor", "Other", 0), ("cores", 4, 0), ("memory_bytes", 1, 1)]
)
def test_a_cpu_is_its_name_and_cores(tmp_path: Path, fact: str, value: Any, same: int) -> None:
    machine = {"processor": "Some CPU", "cores": 2, "memory_bytes": 2, "python": "3.11.2", "torch": "2.9.0"}
    said: list[str] = []
    with opened(tmp_path, machine=machine):
        pass
    with opened(tmp_path, said, machine=machine | {fact: value}):
        assert (not said) is bool(same)


def test_a_damaged_record_is_refused_in_one_line(journal: Path) -> None:
    with journal.open("a") as file:
        file.write(json.dumps({"kind": "peer", "peer": "trl"}) + "\n")
    with pytest.raises(InputError) as caught:
        opened(journal.parent)
    assert str(caught.value).startswith(f"{journal} line {len(RECORDS) + 1}: ")
    assert str(caught.value).endswith("; start the validation afresh, or use another directory")
    assert caught.value.parameters == ("fresh", "directory")
    assert "\n" not in str(caught.value)


def test_only_one_validation_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InputError, match="another validation works there"):
        opened(tmp_path)
