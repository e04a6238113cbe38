"""What a page and an answer are of: in a title's length, and never on a machine that did not run it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import loadahead as la
from loadahead.reports.about import About
from loadahead.reports.answer.subject import subject
from loadahead.reports.page.head import facts_of, title_of
from loadahead.reports.run_data import RunData
from loadahead.sim.timeline import Timeline


def step_of(source: str, about: About, **header: object) -> Timeline:
    base = la.simulate("slow-link")
    return replace(base, source=source, header=base.header | {"about": about.to_dict(), "scenario": "mine"} | header)


MODULE = About(
    model="mymod:build, a module of 8 layers (Linear, 6 Sequential, Linear)",
    device="h100-sxm, 79.65 GiB",
    link="55.6 GB/s each way",
    gpus=1,
)


def test_what_ran_on_a_cpu_is_not_said_to_be_on_a_gpu() -> None:
    step = step_of("compiled", MODULE)
    data = RunData(predicted=step, measured=step_of("cpu", MODULE, machine={"cores": 2, "processor": "x"}))
    assert subject(data) == (
        "mymod:build, a module of 8 layers (Linear, 6 Sequential, Linear), planned for h100-sxm of 79.65 GiB, copies "
        "at 55.6 GB/s each way; measured on a CPU (2 cores)."
    )
    assert title_of(data) == "mymod:build for h100-sxm of 79.65 GiB"
    assert facts_of(data)[1:] == (
        "mymod:build, a module of 8 layers (Linear, 6 Sequential, Linear).",
        "Measured on a CPU (2 cores), planned for h100-sxm of 79.65 GiB; link 55.6 GB/s each way.",
    )
    on_gpu = RunData(predicted=step, measured=step_of("cuda", MODULE))
    assert " on h100-sxm of 79.65 GiB, copies" in subject(on_gpu) and "CPU" not in " ".join(facts_of(on_gpu))
    assert title_of(RunData(predicted=step)) == "mymod:build on h100-sxm of 79.65 GiB"
    # A machine that was not written down is still no GPU.
    assert subject(replace(data, measured=step_of("cpu", MODULE))).endswith("; measured on a CPU.")


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("given costs (uniform)", "mine: given costs (uniform) on h100-sxm of 79.65 GiB"),
        ("a module of 8 layers (8 Linear)", "mine: a module of 8 layers on h100-sxm of 79.65 GiB"),
        ("llama3-8b (8.03 billion parameters)", "llama3-8b (8.03 billion parameters) on h100-sxm of 79.65 GiB"),
    ],
)
def test_a_title_names_something(model: str, shown: str) -> None:
    assert title_of(RunData(predicted=step_of("compiled", MODULE.model_copy(update={"model": model})))) == shown


def test_several_models_are_counted() -> None:
    table = la.sweep("slow-link", {"model.units_per_stage": [2, 4, 6]})
    data = RunData(sweep=tuple(table.rows), facts=table.facts)
    about = About(machine="1 x p4d.24xlarge", device="a100-sxm-40gb, 39.5 GiB", gpus=4)
    assert table.facts is not None
    data = replace(data, facts=table.facts.model_copy(update={"about": about}))
    assert subject(data) == "3 models on 4 x a100-sxm-40gb of 39.5 GiB (1 x p4d.24xlarge)."
    assert title_of(data) == "3 models on 1 x p4d.24xlarge"
