"""The forms in which options are written, which version they are of, and which keys are unknown."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadahead.scenarios.loader import load_scenario, options_file, scenario_file
from loadahead.scenarios.smp.options import is_options
from loadahead.sim.errors import InputError
from tests.unit.scenarios.smp.examples import MPI, OPTIONS, OPTIONS_V2, PARAMETERS, PARAMETERS_V2

WRAPPED = {"enabled": True, "parameters": PARAMETERS}
DISTRIBUTION = {"smdistributed": {"modelparallel": WRAPPED}, "mpi": MPI}


@pytest.mark.parametrize(
    "given",
    [
        OPTIONS,
        DISTRIBUTION,
        {"distribution": DISTRIBUTION},
        {"distribution": DISTRIBUTION, "instance_count": 1},
        {"smp_options": PARAMETERS, "mpi_options": MPI},
    ],
)
def test_every_form_gives_the_same(given: dict[str, Any]) -> None:
    assert is_options(given)
    assert load_scenario(given) == load_scenario(OPTIONS)
    assert load_scenario(given).hardware.gpus_per_host == 8


@pytest.mark.parametrize("given", [WRAPPED, PARAMETERS])
def test_without_mpi_processes_are_those_that_the_degrees_need(given: dict[str, Any]) -> None:
    conversion = options_file(given).conversion()
    assert conversion.options.parameters == PARAMETERS
    assert (conversion.degrees.processes, conversion.degrees.data) == (4, 1)


@pytest.mark.parametrize(
    ("given", "version", "why"),
    [
        (OPTIONS, "v1", "microbatches is a key of v1 alone"),
        ({"partitions": 2}, "v1", "partitions is a key of v1 alone"),
        (OPTIONS_V2, "v2", "hybrid_shard_degree is a key of v2 alone"),
        (PARAMETERS_V2, "v2", "hybrid_shard_degree is a key of v2 alone"),
        (
            {"torch_distributed": {"enabled": True}, "smp_options": {"tensor_parallel_degree": 2}},
            "v2",
            "torch_distributed starts its processes",
        ),
        ({"mpi_options": MPI, "smp_options": {"activation_loading_horizon": 2}}, "v1", "MPI starts its processes"),
        ({"activation_loading_horizon": 2}, "v1", "no key is of one version alone"),
    ],
)
def test_the_version_follows_from_the_keys(given: dict[str, Any], version: str, why: str) -> None:
    options = options_file(given).conversion().options
    assert (options.version, options.why_version) == (version, why)


def test_that_nothing_decided_is_said() -> None:
    said = load_scenario({"activation_loading_horizon": 2}).notes.sentences()
    assert "no key is of one version of SageMaker's model parallel library alone: those of v1 are taken" in said


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"partitions": 2, "hybrid_shard_degree": 2},
            "partitions is a key of SageMaker's model parallel library v1 and hybrid_shard_degree of v2; give the keys "
            "of one of them",
        ),
        (
            {"partitions": 2, "microbatch": 4},
            "'microbatch' is not a key of SageMaker's model parallel library v1; did you mean microbatches?",
        ),
        (
            {"random_seed": 1, "hybrid_shard": 4},
            "'hybrid_shard' is not a key of SageMaker's model parallel library v2; did you mean hybrid_shard_degree?",
        ),
        (
            {"smp_options": {"parameters": {}, "enable": True}},
            "'enable' is not a key of smp_options; did you mean enabled?",
        ),
        (
            {"smp_options": {}, "mpi_options": {"processes_per_hosts": 8}},
            "'processes_per_hosts' is not a key of mpi_options; did you mean processes_per_host?",
        ),
        (
            {"smp_options": {}, "mpi_option": {}},
            "'mpi_option' is not a key of the options; did you mean mpi_options?",
        ),
        (
            {"smdistributed": {"dataparallel": {"enabled": True}}},
            "has no options of the model parallel library; it has dataparallel; give them as smp_options, or as "
            "smdistributed.modelparallel",
        ),
        (
            {"mpi_options": MPI},
            "has no options of the model parallel library; give them as smp_options, or as smdistributed.modelparallel",
        ),
        ({"smp_options": [1]}, "smp_options is [1]; it must be a table of keys"),
        ({"parameters": 3}, "parameters is 3; it must be a table of keys"),
    ],
)
def test_what_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape('scenario: ' + line)}$"):
        load_scenario(given)


def test_an_unknown_key_that_is_like_none_is_told_with_those_known() -> None:
    with pytest.raises(InputError, match=r"'zzz' is not a key of .* v1; known are microbatches, active_microbatches, "):
        load_scenario({"partitions": 2, "zzz": 1})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"modle": {}, "hardware": {}, "smp_options": {}}, "modle: is not a key of a scenario; did you mean model?"),
        (
            {"name": "x", "microbatches": 4},
            "microbatches: is not a key of a scenario; did you mean parallel.microbatches?",
        ),
        ({"parallel": {"microbatchs": 4}}, "did you mean microbatches?"),
        ({}, "model: is missing"),
        ({"anything": 1}, "anything: is not a key of a scenario"),
    ],
)
def test_a_scenario_with_a_typo_stays_one(given: dict[str, Any], line: str) -> None:
    assert not is_options(given)
    with pytest.raises(InputError, match=re.escape(line)):
        load_scenario(given)


def test_options_are_not_changed_by_loading_them() -> None:
    given = {"smp_options": {"parameters": dict(PARAMETERS)}}
    scenario_file(given).scenario({"parallel.microbatches": 8})
    assert given == {"smp_options": {"parameters": PARAMETERS}}


def test_what_holds_itself_is_one_line() -> None:
    endless: dict[str, Any] = {}
    endless["distribution"] = endless
    with pytest.raises(InputError) as caught:
        load_scenario(endless)
    assert str(caught.value).endswith("is nested too deeply; give the options alone")
