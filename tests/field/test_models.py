"""Kinds of models, and settings of training: they run, or one line says why not and what helps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import loadahead as la
from loadahead.sim.errors import InputError
from tests.field import models
from tests.field.commands import TWO_RANKS, Field, options, started

MakeField = Callable[..., Field]


@pytest.mark.parametrize("command", ["execute", "plan", "calibrate"])
def test_a_sequential_with_its_own_forward(command: str, field: MakeField) -> None:
    """It is not its layers one after the other."""
    out = ["-o", "costs.json"] if command == "calibrate" else []
    said = field("own_forward", shape=[5, 12]).refusal(*out, command=command)
    assert "Residuals" in said and "forward of its own" in said


def test_layers_that_cannot_be_copied(field: MakeField) -> None:
    """A function builds a second model where one is needed; a model in memory has to be copied."""
    one = field("with_locks", shape=[5, 12])
    one.equal_or_refused(words=("--no-check",))
    assert one.result("--no-check")["max_grad_error"] is None
    tables = {"name": "mine", "model": {"steps": 2, "input_shape": [5, 12]}, "hardware": {"preset": "h100-sxm"}}
    with pytest.raises(InputError, match=r"cannot be copied.*python") as caught:
        la.execute(la.load(tables, model=models.with_locks()))
    assert "\n" not in str(caught.value)


def test_a_model_on_meta(field: MakeField) -> None:
    """Shapes are enough for a plan, not for a run."""
    one = field("on_meta", shape=[5, 12])
    assert one.result(command="plan")["operations"] > 0
    assert "meta" in one.refusal()
    assert "meta" in one.refusal(command="simulate")


@started()
def test_lazy_layers(start: list[str], field: MakeField) -> None:
    field("lazy", shape=[5, 12]).equal(*start)


@started("one rank", "two ranks", "pairs", "no checkpoint")
def test_autograd_inside_a_forward_pass(start: list[str], field: MakeField) -> None:
    field("forces", shape=[5, 12]).equal(*start)


@started("one rank", "two ranks", "no checkpoint")
def test_a_published_model_as_it_is(start: list[str], field: MakeField) -> None:
    field("published_whole", shape=[2, 8], input_dtype="int64", input_high=24).equal(*start)


@pytest.mark.parametrize(
    "start",
    [
        options(adapted=True),
        options(adapted=False, attention="eager"),
        [*options(adapted=True), *TWO_RANKS],
        [*options(adapted=True), "--set", "model.autocast=bfloat16"],
        [*options(adapted=True), "--set", "model.dtype=bfloat16"],
    ],
    ids=["adapted", "eager", "two ranks", "autocast", "bfloat16"],
)
def test_published_blocks(start: list[str], field: MakeField) -> None:
    given = {"adapted": True, "attention": "sdpa"}
    field("published_blocks", data="tokens", loss="cross_entropy", options=given).equal(*start)


@started()
def test_experts_with_an_auxiliary_loss(start: list[str], field: MakeField) -> None:
    """Memory depends on the routing: a peak that is off by more than a little is said."""
    found = field("mixtures", shape=[7, 12], parallel__microbatches=6).equal(*start, memory=False)
    for measured, predicted in zip(found["ranks"], found["predicted"]["ranks"], strict=True):
        off = abs(measured["peak_device_bytes"] / predicted["peak_device_bytes"] - 1)
        assert off < 0.02 or any("microbatch" in text for text in found["warnings"])


@pytest.mark.parametrize("keep", [False, True])
def test_what_an_autograd_function_keeps(keep: bool, field: MakeField) -> None:
    """Tensors on a context cannot be taken away: the peak is as predicted all the same, or a warning says so."""
    one = field("own_functions", shape=[32, 12], parallel__microbatches=6)
    found = one.equal(*options(keep=keep), memory=not keep)
    peaks = [side["ranks"][0]["peak_device_bytes"] for side in (found, found["predicted"])]
    assert peaks[0] == peaks[1] or any("keep" in text or "hold" in text for text in found["warnings"])


# Said by torch's compiler wherever a compiled layer follows another one.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@started()
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_layers(backend: str, start: list[str], field: MakeField) -> None:
    torch._dynamo.reset()
    field("compiled", shape=[5, 12], options={"backend": backend}).equal(*start, memory=False)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("command", ["calibrate", "execute"])
def test_compiled_layers_are_timed_as_compiled(command: str, field: MakeField, tmp_path: Path) -> None:
    """Where they run uncompiled, a warning has to say so."""
    one = field("compiled", shape=[5, 12], options={"backend": "counted"})
    costs = str(tmp_path / "costs.json")
    one.result("-o", costs, command="calibrate")
    torch._dynamo.reset()
    models.COMPILED_RUNS.clear()
    given = ["-o", costs] if command == "calibrate" else ["--costs", costs, "--no-check"]
    warnings = one.result(*given, command=command).get("warnings", [])
    # Two steps of four microbatches are timed, in which two compiled layers run at least once.
    assert len(models.COMPILED_RUNS) >= 2 * 4 * 2 or any("compile" in text for text in warnings)


# Said by torch itself whenever a layer is scripted or traced.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@started()
@pytest.mark.parametrize("kind", ["script", "trace"])
def test_scripted_layers(kind: str, start: list[str], field: MakeField) -> None:
    field("scripted", shape=[6, 12], options={"kind": kind}).equal(*start)


@pytest.mark.parametrize(("kind", "weights"), [("recurrent", 8), ("waves", 9)])
def test_equal_layers_that_no_counter_knows(kind: str, weights: int, field: MakeField, tmp_path: Path) -> None:
    """They are dealt out evenly over the ranks, or by hand, and it is said that their work is an estimate."""
    one = field("uncounted", shape=[4, 6, 12], options={"kind": kind})
    path = tmp_path / "plan.json"

    def layers(*more: str) -> list[int]:
        one.result(*TWO_RANKS, *more, "-o", str(path), command="plan")
        forwards = [op for op in json.loads(path.read_text())["ops"] if op["kind"] == "FORWARD"]
        counts = Counter(op["rank"] for op in forwards if op["microbatch"] == 0)
        return [counts[0], counts[1]]

    even = layers()
    assert sum(even) == weights and max(even) <= 5
    found = one.result(*TWO_RANKS, command="plan")
    assert any("checkpoint.partition" in text for text in found["warnings"])
    assert layers("--set", f"checkpoint.partition=[2, {weights - 2}]") == [2, weights - 2]
    assert "checkpoint.partition" in one.refusal(*TWO_RANKS, "--set", "checkpoint.partition=[1, 1]", command="plan")


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--set", "parallel.microbatches=2"],
        ["--set", "parallel.microbatches=3", "--set", "parallel.pipeline=simple"],
        ["--set", "parallel.microbatches=5", "--set", "offload.horizon_unit=layers"],
    ],
    ids=["one", "two", "three", "five"],
)
def test_fewer_microbatches_than_ranks(more: list[str], field: MakeField) -> None:
    four = {"parallel__pipeline_parallel_degree": 4, "parallel__pipeline": "1f1b", "parallel__microbatches": 1}
    one = field("many", shape=[3, 4], options={"count": 8}, offload__activation_loading_horizon=64, **four)
    assert one.equal(*more)["offloaded"] == 0 or "layers" in str(more)


@pytest.mark.parametrize("pipeline", ["zb_h1", "interleaved_1f1b"])
def test_orders_that_are_not_built(pipeline: str, field: MakeField) -> None:
    assert pipeline in field("plain", shape=[3, 12]).refusal("--set", f"parallel.pipeline={pipeline}", command="plan")


def test_many_layers(field: MakeField, tmp_path: Path) -> None:
    """Nothing grows with the square of the layers."""
    field("many", shape=[2, 4], options={"count": 60}, parallel__microbatches=2).equal(*TWO_RANKS, "--steps", "2")
    sizes = {"layers": 4000, "hidden": 64, "heads": 4, "sequence": 64, "vocabulary": 100}
    tables = {
        "name": "deep",
        "model": {"kind": "transformer", **sizes},
        "hardware": {"preset": "h100-sxm"},
        "parallel": {"microbatches": 4, "pipeline_parallel_degree": 8, "pipeline": "1f1b"},
    }
    assert len(la.simulate(tables).metrics.ranks) == 8


def test_a_model_that_fails_in_mid_step(field: MakeField) -> None:
    """One line with the unit's name, and nothing that a report would take for a run."""
    one = field("breaks", shape=[5, 12], model__steps=8, parallel__pipeline_parallel_degree=3)
    out = one.folder / "run"
    said = one.refusal("--set", "parallel.pipeline=1f1b", "-o", str(out))
    assert "it broke" in said and "unit 1.0" in said
    assert not (out / "result.json").exists() and not (out / "weights.pt").exists()
    one.run("report", str(out))


@started("two ranks", "no check")
def test_memory_levels_off(start: list[str], field: MakeField) -> None:
    """No step leaves tensors behind, whether it is checked or not."""
    models.LIVE.clear()
    field("plain", data="watched", loss="distance", model__steps=8).result(*start)
    assert models.LIVE[7] <= models.LIVE[2]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.gradient_clipping=1.0", ("model.gradient_clipping",)),
        ("model.clip_grad_norm=1.0", ("model.clip_grad_norm",)),
        ("model.autocast='float16'", ("model.autocast", "bfloat16")),
        ("model.dtype='float16'", ("model.dtype", "bfloat16")),
        ("model.weight_decay=0.1", ("model.weight_decay",)),
        ("model.optimizer='adam'", ("model.optimizer", "adamw")),
        ("model.gradient_accumulation_steps=2", ("model.gradient_accumulation_steps",)),
        ("model.grad_scaler=true", ("model.grad_scaler",)),
        ("model.fp32_gradients=true", ("model.fp32_gradients",)),
    ],
)
def test_options_of_training_that_are_not_there(setting: str, words: tuple[str, ...], field: MakeField) -> None:
    """Each is refused by its name: none is taken and left out."""
    said = field("plain", shape=[5, 12]).refusal("--set", setting)
    assert all(word in said for word in words)


@pytest.mark.parametrize("kind", ["mask", "root"])
def test_gradients_that_are_not_finite(kind: str, field: MakeField) -> None:
    """Plain training has them too, and a smaller learning rate does not help; but it has to be said."""
    said = field("not_finite", shape=[9, 12], options={"kind": kind}).refusal()
    assert "the gradient of 0.weight" in said and "not finite" in said and "plain training" in said
    assert "learning" not in said


@pytest.mark.parametrize("kind", ["sparse", "nested", "mkldnn"])
def test_outputs_that_cannot_be_moved(kind: str, field: MakeField) -> None:
    """Only dense tensors lie in a plan's memory."""
    said = field("odd_outputs", shape=[5, 12], options={"kind": kind}).refusal()
    assert (kind in said and "unit 0.0" in said) or "layer 0" in said


def test_an_optimizer_inside_the_backward_pass(field: MakeField) -> None:
    """It would step once for each microbatch, and change weights that others still read."""
    said = field("steps_in_backward", shape=[5, 12]).refusal()
    assert "0.weight has a hook" in said and "optimizer" in said


@pytest.mark.parametrize("leaves", ["sys.exit(3)", "raise SystemExit('no')"])
def test_a_file_that_leaves_when_it_is_imported(leaves: str, field: MakeField) -> None:
    """One line, and the process is afterwards as it was."""
    one = field("plain", shape=[5, 12])
    (one.folder / "leaving.py").write_text(f"import sys, torch\ntorch.set_num_threads(1)\n{leaves}\n")
    assert "leaving" in one.refusal("--set", "model.python='leaving:build'")
    one.equal()
