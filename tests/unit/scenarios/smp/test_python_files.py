"""Options in Python files, which are read and never run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.sim.errors import InputError
from tests.unit.scenarios.smp.examples import OPTIONS, PYTHON

ESTIMATOR = """
from sagemaker.pytorch import PyTorch
{before}
estimator = PyTorch(
    entry_point="train.py",
    role=role,
    instance_type={type},
    instance_count={count},
    distribution={{"smdistributed": {{"modelparallel": {smp}}}, "mpi": {mpi}}},
)
estimator.fit("s3://bucket/data/")
"""
SMP = '{"enabled": True, "parameters": {"partitions": 2, "microbatches": 4, "ddp": True}}'
MPI = '{"enabled": True, "processes_per_host": 8}'


def written(folder: Path, text: str) -> Path:
    path = folder / "train_smp.py"
    path.write_text(text, encoding="utf-8")
    return path


def estimator(
    before: str = "", smp: str = SMP, mpi: str = MPI, kind: str = '"ml.p4d.24xlarge"', count: str = "2"
) -> str:
    return ESTIMATOR.format(before=before, smp=smp, mpi=mpi, type=kind, count=count)


def test_the_documentation_s_example(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, PYTHON))
    assert scenario.name == "train_smp"
    assert scenario == load_scenario(OPTIONS, {"name": "train_smp"})


def test_nothing_of_the_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    effects = f"import pathlib\npathlib.Path({str(mark)!r}).write_text('x')\nraise SystemExit\n"
    effects += f"class A:\n    pathlib.Path({str(mark)!r}).touch()\n"
    load_scenario(written(tmp_path, f"{effects}{PYTHON}x = __import__('os').remove({str(mark)!r})\n"))
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        estimator(),
        estimator(before=f"smp_options = {SMP}\nmpi_options = {MPI}", smp="smp_options", mpi="mpi_options"),
        # In a function, with names, arithmetic, dict(), and conversions.
        "HOSTS = 2\ndef launch(role):\n"
        "    per_host, parts = 2 ** 3, int(4 / 2)\n"
        "    parameters = dict(partitions=parts, microbatches=2 * 2, ddp=not False)\n"
        "    smp_options = dict(enabled=True, **{'parameters': parameters})\n"
        "    with open('x') as file:\n"
        "        mpi = {'enabled': True, **dict(processes_per_host=per_host)}\n"
        "    kind = 'ml.' + 'p4d.24xlarge'\n"
        "    return HuggingFace(instance_type=kind, instance_count=HOSTS, distribution={\n"
        "        'smdistributed': {'modelparallel': smp_options}, 'mpi': mpi})\n",
        # Changed before it is used, but not after.
        estimator(
            before="smp_options = {'enabled': True, 'parameters': {'partitions': 1}}\n"
            "smp_options['parameters']['partitions'] = 2\nsmp_options['parameters'].update(microbatches=4, ddp=True)\n"
            "smp_options['parameters']['skip_tracing'] = True\ndel smp_options['parameters']['skip_tracing']\n",
            smp="smp_options",
        )
        + "smp_options['parameters']['microbatches'] = 64\n",
        # The same twice is one.
        estimator() + estimator(),
        # The options alone, with the instances in a call that has no distribution.
        f"smp_options = {SMP}\nmpi_options = {MPI}\nPyTorch(instance_type='ml.p4d.24xlarge', instance_count=2)\n",
        f"distribution = {{'smdistributed': {{'modelparallel': {SMP}}}, 'mpi': {MPI}}}\n"
        "Compute(instance_type='ml.p4d.24xlarge', instance_count=2)\n",
        "if __name__ == '__main__':\n    count = 2\n" + estimator(count="count").replace("\n", "\n    ").strip(" "),
    ],
)
def test_ways_to_write_them(tmp_path: Path, text: str) -> None:
    scenario = load_scenario(written(tmp_path, text))
    parallel = scenario.parallel
    assert (parallel.pipeline_parallel_degree, parallel.microbatches, parallel.ddp) == (2, 4, True)
    assert (parallel.data_parallel_degree, scenario.hardware.machine) == (8, "p4d.24xlarge")


def test_the_sdk_s_class_for_v2(tmp_path: Path) -> None:
    text = (
        "trainer = ModelTrainer(compute=Compute(instance_type='ml.p4d.24xlarge', instance_count=1), "
        "distributed=Torchrun(smp=SMP(hybrid_shard_degree=2, tensor_parallel_degree=4, sm_activation_offloading=True)))"
    )
    conversion = options_file(written(tmp_path, text)).conversion()
    assert (conversion.options.version, conversion.degrees.data) == ("v2", 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "import os\nsmp_options = {\n 'parameters': {\n  'microbatches': int(os.environ['MB'])}}",
            " line 4: microbatches is int(os.environ['MB']), which only running the file would tell; write the value",
        ),
        (
            "n = args.n\nsmp_options = {'parameters': {'partitions': n}}",
            " line 2: partitions is n = args.n, which only running the file would tell; write the value",
        ),
        (
            "for n in (2, 4):\n    smp_options = {'parameters': {'partitions': n}}",
            " line 2: partitions is n = n, which only running the file would tell; write the value",
        ),
        (
            "n = 2\nif big:\n    n = 4\nsmp_options = {'parameters': {'partitions': n}}",
            " line 4: partitions is n = 4, which only running the file would tell; write the value",
        ),
        (
            "smp_options = {'parameters': {'partitions': 2}}\nif big:\n    smp_options['parameters']['partitions'] = 4",
            " line 3: partitions is smp_options['parameters']['partitions'], which only running the file would tell; "
            "write the value",
        ),
        (
            "smp_options = {'parameters': {'partitions': 2}}\nmpi_options = {'processes_per_host': gpus()}",
            " line 2: processes_per_host is gpus(), which only running the file would tell; write the value",
        ),
        (
            "smp_options = make()",
            " line 1: smp_options is make(), which only running the file would tell; write the dictionary",
        ),
        (
            "smp_options = {'parameters': load()}",
            " line 1: parameters is load(), which only running the file would tell; write the dictionary",
        ),
        (
            "PyTorch(distribution=make())",
            " line 1: distribution is make(), which only running the file would tell; write the dictionary",
        ),
        (
            "smp_options = {'parameters': {'partitions': 2}}\nsmp_options = {'parameters': {'partitions': 4}}",
            ": lines 1 and 2 give smp_options different values; leave the one to be taken",
        ),
        (
            estimator() + estimator(count="3"),
            ": lines 4 and 15 give distribution different values; leave the one to be taken",
        ),
        (
            "x = 1",
            ": has no options of SageMaker's model parallel library; it must have smp_options = {...}, or "
            'distribution={"smdistributed": {"modelparallel": ...}} in a call',
        ),
        ("smp_options = (\n 1", " line 1: is not Python ('(' was never closed); mend it"),
        ("x = '\0'", ": is not Python (source code string cannot contain null bytes); mend it"),
        (
            estimator(kind="os.environ['TYPE']"),
            " line 7: instance_type is os.environ['TYPE'], which only running the file would tell; write the value",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == f"{path}{line}"


def test_what_changes_no_prediction_may_be_computed(tmp_path: Path) -> None:
    text = "smp_options = {'parameters': {'partitions': 2, 'fp16': args.fp16, 'ddp_port': port()}}"
    assert load_scenario(written(tmp_path, text)).parallel.pipeline_parallel_degree == 2
    rows = {row.key: row for row in options_file(written(tmp_path, text)).conversion().rows}
    assert rows["fp16"].to_dict()["value"] == "args.fp16"
    assert rows["ddp_port"].where().startswith("known, does not change this prediction: ")


def test_arithmetic_that_would_take_long_is_not_done(tmp_path: Path) -> None:
    text = "n = 9 ** 9 ** 9\nm = 10 ** 18 * 10 ** 18 ** 4\nsmp_options = {'parameters': {'partitions': n}}"
    with pytest.raises(InputError, match="only running the file would tell"):
        load_scenario(written(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["smp_options = " + "(" * 5000, "x = " + "-" * 100_000 + "1", "smp_options = " + "{1:" * 90]
)
def test_what_is_nested_too_deeply_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_escape_that_is_none_is_no_warning(tmp_path: Path) -> None:
    assert load_scenario(written(tmp_path, r"x = '\d'" + PYTHON)).parallel.microbatches == 4


def test_an_example_copied_from_a_web_page(tmp_path: Path) -> None:
    """SageMaker's developer guide has no-break spaces in some of its examples."""
    text = PYTHON.replace("    ", "\u00a0\u00a0\u00a0 ").replace(" : ", "\u00a0: ")
    assert load_scenario(written(tmp_path, text)) == load_scenario(OPTIONS, {"name": "train_smp"})


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, "#" * 1_000_001)
    with pytest.raises(InputError, match=re.escape("has 1000001 bytes; options are a file of at most 1000000")):
        load_scenario(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"# \xff")
    with pytest.raises(InputError, match="is not UTF-8 text; give SageMaker's options as JSON, or the Python file"):
        load_scenario(path)
