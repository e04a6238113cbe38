"""A rank map as people see it: all of a small one, the ends of a large one and how the rest differs."""

from __future__ import annotations

from loadahead.cli.rank_map import rank_map_text
from loadahead.reports.rank_map import degrees_sentence
from loadahead.sim.placement import Placement


def _rows(text: str) -> list[list[str]]:
    rows = [line.split() for line in text.splitlines()]
    return [row for row in rows if len(row) == 7 and row[0].isdecimal()]


def test_a_small_map_has_a_row_for_each_process() -> None:
    # The example of SageMaker's documentation: 8 processes, T varies fastest, then P, then D.
    text = rank_map_text(Placement(data=2, tensor=2, gpus_per_host=8).table(2, 4))
    assert text.startswith("8 processes on 1 host: data parallel 2, pipeline parallel 2, tensor parallel 2.\n")
    parts = ["0 0 0", "0 0 1", "0 1 0", "0 1 1", "1 0 0", "1 0 1", "1 1 0", "1 1 1"]
    expected = [f"{rank} 0 {rank} {rank // 4} {part}".split() for rank, part in enumerate(parts)]
    assert _rows(text) == expected


def test_a_large_map_shows_the_first_and_the_last_host_and_says_how_the_others_differ() -> None:
    text = rank_map_text(Placement(data=4, tensor=8, gpus_per_host=8).table(4))
    assert text.splitlines()[:2] == [
        "128 processes on 16 hosts with 8 GPUs in use on each: data parallel 4, pipeline parallel 4, tensor "
        "parallel 8.",
        "112 of them are not shown (all: --json): GPU by GPU, hosts 1 to 14 differ from host 0 in d and p alone; "
        "t is the same.",
    ]
    assert [row[0] for row in _rows(text)] == [*map(str, range(8)), *map(str, range(120, 128))]


def test_hosts_that_differ_in_all_are_not_called_alike() -> None:
    # 8 of 5 x 3 x 3 processes a host: each host starts at another part of the model.
    text = rank_map_text(Placement(order="TPD", data=3, tensor=5, gpus_per_host=8).table(3))
    assert "with 8 GPUs in use on each but 5 on the last: " in text
    assert "hosts 1 to 4 differ from host 0 in d, p and t.\n" in text


def test_one_process_on_one_host() -> None:
    sentence = degrees_sentence(Placement().table(1))
    assert sentence == "1 process on 1 host: data parallel 1, pipeline parallel 1, tensor parallel 1."
