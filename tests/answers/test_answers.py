"""docs/answers.md is what the library answers: a sample of it is found anew, and a row is compared with whole plans."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from tests.answers.answer import Answer, Taken, answer_of, answer_of_prepared, best_of, tables
from tests.answers.page import page_of
from tests.answers.splits import Split, counts, splits
from tests.answers.table import PAGE, TABLE, read, written

# These are found anew: a small model, one on a shared link, one of many hosts, one that needs offloading, one that does
# not fit.
SAMPLE = (
    ("gpt2-xl", "2x-rtx-4090"),
    ("gpt3-13b", "p4d.24xlarge"),
    ("mixtral-8x7b", "p3dn.24xlarge"),
    ("llama3-70b", "p5.48xlarge"),
    ("gpt3-175b", "p3.16xlarge"),
)
# Of these, plans are made and simulated whole: one split of one host, one of several.
WHOLE = (("gpt3-13b", "p4d.24xlarge"), ("gpt3-13b", "2x-rtx-4090"))
_HORIZON = "offload.activation_loading_horizon"
AGAIN = "`make answers` makes the page anew"
# Made by hand: 10 of 100 bytes saved, and a microbatch takes 100 ns.
BY_HAND = Answer(
    split=Split(hosts=1, tensor=1, pipeline=1),
    capacity_bytes=100,
    host_capacity_bytes=50,
    keep_all=Taken(horizon=None, step_time_ns=400, peak_device_bytes=100, host_bytes=0),
    four=Taken(horizon=4, step_time_ns=420, peak_device_bytes=90, host_bytes=20),
    advised=None,
    as_quick=False,
)


@pytest.fixture(scope="module")
def stored() -> str:
    return TABLE.read_text("utf-8")


def test_the_page_is_made_of_the_table(stored: str) -> None:
    assert page_of(read(stored)) == PAGE.read_text("utf-8"), AGAIN
    assert written(read(stored)) == stored


def test_the_whole_catalogue_is_answered(stored: str) -> None:
    assert list(read(stored)) == list(itertools.product(TRANSFORMERS, MACHINES)), AGAIN


@pytest.mark.parametrize(("model", "machine"), SAMPLE)
def test_a_sample_is_found_anew(model: str, machine: str, stored: str) -> None:
    assert answer_of(model, machine) == read(stored)[model, machine], AGAIN


@pytest.mark.parametrize(("model", "machine"), WHOLE)
def test_the_figures_are_those_of_whole_plans(model: str, machine: str, stored: str) -> None:
    answer = read(stored)[model, machine]
    assert answer is not None
    scenario = la.load({"name": "whole", **tables(model, machine, answer.split)})
    off = {"offload.offload_activations": False}
    for plan, changes in ((answer.keep_all, off), (answer.four, {}), (answer.advised, None)):
        if plan is None:
            continue
        step = la.simulate(scenario, {_HORIZON: plan.horizon} if changes is None else changes).metrics
        found = (plan.step_time_ns, plan.peak_device_bytes, plan.host_bytes)
        assert found == (step.step_time_ns, step.peak_device_bytes, step.host_bytes)
    advice = la.advise(scenario)
    assert advice is not None
    named = advice.fitting or advice.best
    assert (named and named.horizon) == (answer.advised and answer.advised.horizon)
    assert answer.as_quick == (named is not None and named is advice.best)


def test_where_no_step_is_short_enough_the_largest_horizon_that_fits_counts() -> None:
    """Every horizon takes longer there; the largest that fits is found once more by trying all."""
    slow = la.load("slow-link", {"hardware.d2h": "500 MB/s"})
    peaks = {h: la.simulate(slow, {_HORIZON: h}).metrics.peak_device_bytes for h in range(1, 11)}
    memory = peaks[6]
    assert peaks[6] < peaks[7]
    answer = answer_of_prepared(prepared_of(slow, {"hardware.memory": memory}), BY_HAND.split)
    assert answer is not None and answer.advised is not None and not answer.as_quick
    assert (answer.advised.horizon, answer.advised.peak_device_bytes) == (6, memory)
    assert answer.fits(answer.advised) and not answer.keeps_all


def test_nothing_is_answered_where_the_least_does_not_fit() -> None:
    slow = la.load("slow-link")
    least = la.simulate(slow, {_HORIZON: 1}).metrics.peak_device_bytes
    assert answer_of_prepared(prepared_of(slow, {"hardware.memory": least}), BY_HAND.split) is not None
    assert answer_of_prepared(prepared_of(slow, {"hardware.memory": least - 1}), BY_HAND.split) is None


def test_no_fewer_gpus_hold_it(stored: str) -> None:
    """On every split of fewer GPUs a plan of horizon 1, which needs the least of all, is too large for the GPU."""
    model, machine = "gpt3-13b", "2x-rtx-4090"
    answer = read(stored)[model, machine]
    assert answer is not None and answer.split.gpus > 2
    tried = 0
    for gpus, hosts in counts(MACHINES[machine]):
        if gpus >= answer.split.gpus:
            break
        for split in splits(TRANSFORMERS[model], MACHINES[machine], gpus, hosts):
            least = la.load({"name": "fewer", **tables(model, machine, split)}, {_HORIZON: 1})
            assert la.simulate(least).metrics.peak_device_bytes > answer.capacity_bytes
            tried += 1
    assert tried > 3


def test_gpus_of_one_host_then_whole_hosts() -> None:
    dgx, pair = MACHINES["dgx-h100"], MACHINES["2x-rtx-4090"]
    assert list(counts(dgx)) == [(1, 1), (2, 1), (4, 1), (8, 1), (16, 2), (32, 4), (64, 8)]
    assert list(counts(pair)) == [(1, 1), (2, 1), (4, 2), (8, 4), (16, 8)]


def test_splits_stay_inside_a_host_and_divide_heads() -> None:
    dgx, shape = MACHINES["dgx-h100"], replace(TRANSFORMERS["gpt3-13b"], layers=40, heads=40)

    def found(**changes: int) -> list[tuple[int, int]]:
        every = splits(replace(shape, **changes), dgx, 16, 2)
        return [(split.tensor, split.pipeline) for split in every]

    assert found() == [(1, 16), (2, 8), (4, 4), (8, 2)]
    assert found(heads=25) == [(1, 16)]
    assert found(kv_heads=2) == [(1, 16), (2, 8)]
    assert found(layers=8) == [(2, 8), (4, 4), (8, 2)]


def test_the_split_with_the_least_time_per_microbatch() -> None:
    """Two stages have twice the microbatches: 700 ns for 8 are less than 400 ns for 4."""
    two = replace(
        BY_HAND,
        split=Split(hosts=1, tensor=1, pipeline=2),
        keep_all=replace(BY_HAND.keep_all, step_time_ns=600, peak_device_bytes=101),
        four=replace(BY_HAND.four, step_time_ns=700),
    )
    assert best_of([BY_HAND, None, two]) == replace(two, another_keeps_all=True)
    # Its plan without offloading would be quicker still, and does not fit.
    assert best_of([two]) == two and not two.keeps_all
    slow = replace(two, four=replace(two.four, step_time_ns=801))
    assert best_of([BY_HAND, slow]) == replace(BY_HAND, another_keeps_all=True)
    # Of equal ones the first, whose tensor parallelism is smaller.
    equal = replace(two, four=replace(two.four, step_time_ns=800))
    assert best_of([BY_HAND, equal]) == replace(BY_HAND, another_keeps_all=True)


def test_what_fits_neither_gpu_nor_host_does_not_count() -> None:
    full = replace(BY_HAND, keep_all=replace(BY_HAND.keep_all, peak_device_bytes=101))
    assert best_of([replace(full, host_capacity_bytes=19)]) is None
    assert best_of([replace(full, host_capacity_bytes=20)]) is not None
    assert best_of([replace(full, host_capacity_bytes=None, capacity_bytes=89)]) is None


def test_a_row_of_the_page_by_hand() -> None:
    """What does not fit is struck out, steps are relative, and who needs offloading is said."""
    wide = replace(BY_HAND, capacity_bytes=99 * 2**30, host_capacity_bytes=2**30)
    wide = replace(
        wide,
        keep_all=Taken(horizon=None, step_time_ns=400_000_000, peak_device_bytes=100 * 2**30, host_bytes=0),
        four=Taken(horizon=4, step_time_ns=420_000_000, peak_device_bytes=90 * 2**30, host_bytes=5 * 2**29),
        advised=Taken(horizon=7, step_time_ns=500_000_000, peak_device_bytes=98 * 2**30, host_bytes=2**29),
    )
    pairs = dict.fromkeys(itertools.product(["gpt2-xl"], MACHINES), None)
    page = page_of({**pairs, ("gpt2-xl", "dgx-h100"): wide})
    row = (
        "| `gpt2-xl` | 1 | 1 x 1 | 400 ms | ~~100.00~~ | +5.0 % | 90.00 | 10.00 | ~~2.50~~ "
        "| 7* | +25.0 % | 98.00 | 2.00 | 0.50 | yes |"
    )
    assert row in page.splitlines()
    fit = f"1 of {len(MACHINES)} pairs of a model and a machine fit on 8 hosts or fewer."
    assert f"{fit} On so few GPUs, 1 of them fits only" in page
    assert "is advised whose step" not in page and "in 1; the most is +5.0 %, `gpt2-xl` on `dgx-h100`" in page
    assert "8 hosts do not hold `gpt2-xl`." in page and "No machine holds" not in page
    assert "No machine holds these on 8 hosts, with one replica: `gpt2-xl`." in page_of(pairs)
