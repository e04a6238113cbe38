"""Options that are given twice, or of which too little is known, are one line that says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.sim.errors import InputError

FOUR, EIGHT = ({"partitions": 2, "microbatches": number} for number in (4, 8))
V1_TAKEN = (
    " (no key is of one version alone, so that those of v1 were taken; for v2 give a key that it alone has, e.g. "
    '"sm_activation_offloading": true)'
)


def library(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"smdistributed": {"modelparallel": {"enabled": True, "parameters": parameters}}}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"smp_options": FOUR, "distribution": library(EIGHT)},
            "microbatches is 8 in distribution.smdistributed.modelparallel and 4 in smp_options; give one of the two",
        ),
        (
            {"smp_options": FOUR, **library({**FOUR, "ddp": True})},
            "ddp is not given in smp_options and true in smdistributed.modelparallel; give one of the two",
        ),
        (
            {"distribution": library(FOUR), **library({"partitions": 4})},
            "partitions is 2 in distribution.smdistributed.modelparallel and 4 in smdistributed.modelparallel; give "
            "one of the two",
        ),
        (
            {"smp_options": FOUR, "mpi": {"processes_per_host": 8}, "mpi_options": {"processes_per_host": 4}},
            "processes_per_host is 8 in mpi and 4 in mpi_options; give one of the two",
        ),
        (
            {"instance_count": 1, "distribution": {"instance_count": 2, **library(FOUR)}},
            "instance_count is 1 and 2 in distribution; give one of the two",
        ),
        (
            {"partitions": 2, "custom_mpi_options": "-x A"},
            "custom_mpi_options is among the parameters; it belongs to mpi_options, beside them",
        ),
        (
            {"tensor_parallel_degree": 2},
            "tensor_parallel_degree is 2 and ddp is not true; more than 1 needs ddp = true" + V1_TAKEN,
        ),
        (
            {"activation_loading_horizon": 0},
            "activation_loading_horizon is 0; it must be an integer of at least 1 and at most 2147483647" + V1_TAKEN,
        ),
    ],
)
def test_what_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape('scenario: ' + line)}$"):
        load_scenario(given)


@pytest.mark.parametrize(
    "given",
    [
        {"smp_options": FOUR, "distribution": library(FOUR)},
        {"smp_options": FOUR, **library(FOUR)},
        {"smp_options": FOUR, "mpi": {"processes_per_host": 2}, "mpi_options": {"processes_per_host": 2}},
        {"enabled": True, "parameters": FOUR, "instance_count": 1},
    ],
)
def test_what_is_given_twice_alike_is_fine(given: dict[str, Any]) -> None:
    parallel = load_scenario(given).parallel
    assert (parallel.microbatches, parallel.data_parallel_degree) == (4, 1)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_key_twice_in_one_object(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", '{"smp_options": {"partitions": 2, "microbatches": 4, "microbatches": 8}}')
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f'{path}: has the key "microbatches" twice in one object, as 4 and 8; leave the one to be taken'
    )
    assert load_scenario(written(tmp_path, "a.json", '{"partitions": 2, "partitions": 2}'))


def test_names_of_a_python_file_beside_its_call(tmp_path: Path) -> None:
    def text(named: dict[str, Any]) -> str:
        return f"smp_options = {FOUR}\nPyTorch(distribution={named})\n"

    assert load_scenario(written(tmp_path, "a.py", text(library(FOUR)))).parallel.microbatches == 4
    path = written(tmp_path, "a.py", text(library(EIGHT)))
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path}: line 1 gives smp_options and line 2 distribution, which differ; leave the one to be taken"
    )
    path = written(tmp_path, "a.py", f"smp_options = {FOUR}\ndistribution = {library(EIGHT)}\n")
    with pytest.raises(InputError, match="line 1 gives smp_options and line 2 distribution, which differ"):
        load_scenario(path)


UNREAD = "PyTorch(instance_type=args.type, instance_count=args.n, distribution={})"


def test_instances_that_cannot_be_read_beside_a_machine_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path, "a.py", UNREAD.format(library({**FOUR, "ddp": True})))
    with pytest.raises(
        InputError, match=r"line 1: instance_type is args.type; line 1: instance_count is args.n, which"
    ):
        load_scenario(path)
    conversion = options_file(path, machine="p4d.24xlarge").conversion()
    assert (conversion.degrees.hosts, conversion.tables["hardware"]["machine"]) == (1, "p4d.24xlarge")
    said = "instance_count is args.n, which only running the file would tell: hosts are counted as if it were not given"
    assert said in conversion.notes.sentences()
    by_hand = options_file(path).conversion({"hardware.machine": "p4d.24xlarge", "parallel.data_parallel_degree": 8})
    assert by_hand.degrees.hosts == 2 and said not in by_hand.notes.sentences()
    rows = {row.key: row.where() for row in conversion.rows}
    assert rows["instance_count"] == "not used: only running the file would tell it"


def test_several_values_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    text = "smp_options = {'partitions': a(),\n 'microbatches': b(),\n 'fp16': c(),\n 'ddp': d(),\n 'pipeline': e()}"
    path = written(tmp_path, "a.py", text)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path} line 1: partitions is a(); line 2: microbatches is b(); line 4: ddp is d(); and 1 more, which only "
        "running the file would tell; write the values"
    )


def test_a_formatted_text_of_known_parts(tmp_path: Path) -> None:
    text = f"size, n = 'p4d', 24\nPyTorch(instance_type=f'ml.{{size}}.{{n}}xlarge', distribution={library(FOUR)})"
    assert load_scenario(written(tmp_path, "a.py", text)).hardware.machine == "p4d.24xlarge"


def test_a_notebook_s_commands_are_left_out(tmp_path: Path) -> None:
    text = f"!pip install -q sagemaker\n%%time\nif 1:\n    !ls\nsmp_options = {FOUR}\n"
    assert load_scenario(written(tmp_path, "a.py", text)).parallel.microbatches == 4
    with pytest.raises(InputError, match="line 1: is not Python"):
        load_scenario(written(tmp_path, "a.py", "!pip\nx = (\n"))
