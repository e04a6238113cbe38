"""What a run is of: every figure beside another way to get it, and what axes of a sweep leave open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import loadahead as la
from loadahead.reports.about import About, read_about
from loadahead.reports.run_data import RunData, load_run
from loadahead.reports.speed import Speed
from loadahead.sim.errors import InputError
from loadahead.sim.timeline import Timeline, write_timeline

GPT: dict[str, Any] = {
    "name": "gpt",
    "model": {"kind": "transformer", "preset": "gpt2-small"},
    "hardware": {"machine": "p4d.24xlarge"},
    "parallel": {"pipeline_parallel_degree": 2, "microbatches": 4},
}


def about_of(overrides: dict[str, Any] | None = None) -> About:
    about = read_about(la.simulate(GPT, overrides).header, "header")
    assert about is not None
    return about


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_model_flops_are_those_of_the_published_formula(tensor: int) -> None:
    """Narayanan et al. (2021), section 3.4: 24bsh² + 4bs²h a layer forward, 2bshV the logits, and twice that back."""
    about = about_of({"parallel.tensor_parallel_degree": tensor, "model.microbatch_size": 3})
    b, s, h, layers, vocabulary = 3, 1024, 768, 12, 50_257
    forward = layers * (24 * b * s * h**2 + 4 * b * s**2 * h) + 2 * b * s * h * vocabulary
    assert (about.flops_per_microbatch, about.tokens_per_microbatch) == (3 * forward, b * s)
    assert about.peak_flops_per_s == 312e12


@pytest.mark.parametrize(
    "own",
    [
        {"parallel.tensor_parallel_degree": 2},
        {"parallel.tensor_parallel_degree": 2, "parallel.sequence_parallel": True, "checkpoint.enabled": False},
        {"parallel.data_parallel_degree": 2, "parallel.overlap_grad_reduce": False},
        {"parallel.data_parallel_degree": 2, "parallel.zero_stage": 3},
        {"parallel.data_parallel_degree": 2, "parallel.tensor_parallel_degree": 2, "parallel.zero_stage": 2},
        {"parallel.pipeline": "interleaved", "parallel.data_parallel_degree": 4, "parallel.zero_stage": 1},
    ],
)
def test_communication_is_what_computing_lasts_longer_than_without(own: dict[str, Any]) -> None:
    """Where what GPUs send takes no time, each rank's operations last that much less."""
    step, ideal = la.simulate(GPT, own), la.simulate(GPT, own | {"hardware.communication": "ideal"})
    about = read_about(step.header, "header")
    assert about is not None and about.communication_ns is not None and any(about.communication_ns)
    longer = [a.compute_ns - b.compute_ns for a, b in zip(step.metrics.ranks, ideal.metrics.ranks, strict=True)]
    assert list(about.communication_ns) == longer
    without = read_about(ideal.header, "header")
    assert without is not None and without.communication_ns == (0, 0)


def test_the_speed_by_hand() -> None:
    about = About(
        gpus=8,
        data_parallel=2,
        microbatches=4,
        tokens_per_microbatch=1000,
        flops_per_microbatch=10**12,
        peak_flops_per_s=1e12,
        communication_ns=(200_000_000, 100_000_000),
    )
    speed = Speed.of(about, 500_000_000)
    # 2 replicas of 4 microbatches of 1000 tokens in half a second; 4 TFLOP of one replica on its 4 GPUs.
    assert speed == Speed(tokens_per_s=16_000.0, gpus=8, mfu=2.0, communication_share=0.3)
    assert speed.sentence == "16000 tokens/s (2000 per GPU), MFU 200 %, collectives 30 % of the ranks' time."
    assert Speed.of(About(), 1).sentence == "" and Speed.of(about, 0) == Speed()


def test_json_and_rows_have_the_same_figures() -> None:
    own = {"parallel.data_parallel_degree": 2}
    table = la.sweep(GPT, {"horizon": [1, 2]}, overrides=own)
    for row in table.rows:
        step = la.simulate(GPT, own | {"offload.activation_loading_horizon": row.horizon})
        about = read_about(step.header, "header")
        assert about is not None
        speed = Speed.of(about, step.metrics.step_time_ns)
        assert (row.tokens_per_s, row.mfu, row.all_gpus) == (speed.tokens_per_s, speed.mfu, 4)
        assert row.tokens_per_s == pytest.approx(2 * 4 * 1024 / (row.step_time_ns / 1e9))


def test_what_is_known_in_words() -> None:
    about = about_of({"parallel.data_parallel_degree": 8, "parallel.zero_stage": 1})
    assert about.model == "gpt2-small (124 million parameters)"
    assert (about.machine, about.device) == ("2 x p4d.24xlarge", "a100-sxm-40gb, 39.5 GiB")
    assert (about.gpus, about.data_parallel, about.zero_stage, about.pipeline_parallel) == (16, 8, 1, 2)
    changed = about_of({"model.layers": 6, "model.sequence": 512})
    assert changed.model is not None and changed.model.startswith("gpt2-small with layers 6 (")
    written = {"kind": "transformer", "layers": 2, "hidden": 64, "heads": 2, "sequence": 32, "vocabulary": 100}
    own = read_about(la.simulate({**GPT, "model": written}).header, "header")
    # 12h² + 13h of a layer, two tables and the last norm.
    count = 2 * (12 * 64**2 + 13 * 64) + (100 + 32) * 64 + 2 * 64
    assert own is not None and own.model == f"a transformer of 2 layers ({count} parameters)"


def test_costs_that_are_given_say_nothing_of_communication_and_float32_has_no_catalogued_peak() -> None:
    assert about_of({"model.dtype": "float32"}).peak_flops_per_s is None
    uniform = read_about(la.simulate("uniform").header, "header")
    assert uniform is not None and uniform.model == "given costs (uniform)"
    assert (uniform.tokens_per_microbatch, uniform.flops_per_microbatch, uniform.communication_ns) == (None,) * 3


def test_what_follows_from_an_axis_is_left_open() -> None:
    axes = {"model.layers": [2, 4], "parallel.tensor_parallel_degree": [1, 2], "microbatches": [2, 4]}
    facts = la.sweep(GPT, axes).facts
    assert facts is not None and facts.about is not None
    open_ones = ("model", "tokens_per_microbatch", "tensor_parallel", "gpus", "microbatches", "communication_ns")
    assert [getattr(facts.about, name) for name in open_ones] == [None] * len(open_ones)
    assert facts.about.device == "a100-sxm-40gb, 39.5 GiB" and facts.about.pipeline_parallel == 2


ONE_GPU = About(
    device="h100-sxm, 79.65 GiB",
    gpus=4,
    data_parallel=4,
    microbatches=4,
    tokens_per_microbatch=1000,
    flops_per_microbatch=10**12,
    peak_flops_per_s=1e13,
    communication_ns=(100_000_000,),
)


def ran(source: str, gpu: str | None = None) -> Timeline:
    machine = {"processor": "Example 9000"} | ({} if gpu is None else {"gpu": gpu})
    return replace(la.simulate("uniform"), source=source, header={"machine": machine})


def test_a_measured_step_counts_what_ran_and_no_peak_of_what_did_not() -> None:
    """4 microbatches of 1000 tokens in half a second, and of the 4 replicas none but one ran."""
    on_cpu = Speed.of_step(ONE_GPU, ran("cpu"), 500_000_000)
    assert on_cpu == Speed(tokens_per_s=8000.0)
    assert on_cpu.sentence == "8000 tokens/s."
    # 4 TFLOP in half a second are 8 of the peak's 10 TFLOP/s.
    known = Speed.of_step(ONE_GPU, ran("cuda", "NVIDIA H100 80GB HBM3"), 500_000_000)
    assert known == Speed(tokens_per_s=8000.0, gpus=1, mfu=0.8)
    for other in ("NVIDIA A100-SXM4-80GB", "NVIDIA GH200 480GB", None):
        assert Speed.of_step(ONE_GPU, ran("cuda", other), 500_000_000).mfu is None
    own = ONE_GPU.model_copy(update={"device": "a GPU, 64 MiB"})
    assert Speed.of_step(own, ran("cuda", "NVIDIA L4"), 500_000_000).mfu == 0.8
    predicted = Speed.of_step(ONE_GPU, ran("compiled"), 500_000_000)
    assert predicted == Speed.of(ONE_GPU, 500_000_000) and predicted.tokens_per_s == 32_000.0


@pytest.mark.parametrize(
    ("preset", "gpu"),
    [
        ("h200-sxm", "NVIDIA H200"),
        ("b200-sxm", "NVIDIA B200"),
        ("a100-sxm-80gb", "NVIDIA A100-SXM4-80GB"),
        ("v100-sxm2-32gb", "Tesla V100-SXM2-32GB"),
        ("l40s", "NVIDIA L40S"),
        ("rtx-4090", "NVIDIA GeForce RTX 4090"),
    ],
)
def test_a_gpu_is_known_by_the_name_that_its_driver_says(preset: str, gpu: str) -> None:
    about = ONE_GPU.model_copy(update={"device": f"{preset}, 32 GiB"})
    assert Speed.of_step(about, ran("cuda", gpu), 500_000_000).mfu == 0.8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus": 0}, "about.gpus = 0"),
        ({"microbatches": -1}, "about.microbatches = -1"),
        ({"microbatches": "4"}, "about.microbatches = '4'"),
        ({"peak_flops_per_s": float("nan")}, "about.peak_flops_per_s = nan"),
        ({"peak_flops_per_s": 0.0}, "about.peak_flops_per_s = 0.0"),
        ({"zero_stage": 4}, "about.zero_stage = 4"),
        ({"communication_ns": [-1]}, "about.communication_ns.0 = -1"),
        ({"gpus": 3, "data_parallel": 2}, "about.gpus is 3; it must be a multiple of data_parallel, 2"),
    ],
)
def test_what_a_header_says_of_its_run_is_held_to_its_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^the header: ") as error:
        read_about({"about": wrong}, "the header")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_collectives_longer_than_the_step_are_refused(tmp_path: Any) -> None:
    step = la.simulate(GPT)
    about = step.header["about"] | {"communication_ns": [0, step.step_time_ns + 1]}
    write_timeline(replace(step, header=step.header | {"about": about}), tmp_path / "predicted.jsonl")
    with pytest.raises(InputError, match=r"predicted.jsonl: about.communication_ns has \d+; it must be at most"):
        load_run(tmp_path)
    assert isinstance(RunData().about, About)
