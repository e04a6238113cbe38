"""Weights that are shared, frozen, of several types, or wanted afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import loadahead as la
from tests.field import models
from tests.field.commands import ONE_UNIT, TWO_RANKS, Field, options, started

MakeField = Callable[..., Field]
ONE_MICROBATCH = ["--set", "parallel.microbatches=1"]


def within_rounding(one: Field, *start: str) -> None:
    """A shared weight's gradient adds up in another order: equal, or within the bound and said so."""
    found = one.result(*start)
    assert 0.0 <= found["max_grad_error"] <= found["grad_error_allowed"] < 1e-4
    if found["max_grad_error"]:
        assert "share" in found["differences"]
    one.exact_memory(found)


@pytest.mark.parametrize("microbatches", [2, 4])
def test_tied_words_on_one_rank(microbatches: int, field: MakeField) -> None:
    one = field("tied_words", data="tokens", loss="cross_entropy")
    within_rounding(one, "--set", f"parallel.microbatches={microbatches}")
    assert one.result(command="simulate")["ranks"]


@pytest.mark.parametrize("start", [ONE_UNIT, ONE_MICROBATCH], ids=["one unit", "one microbatch"])
def test_tied_words_bit_for_bit(start: list[str], field: MakeField) -> None:
    field("tied_words", data="tokens", loss="cross_entropy").equal(*start)


@pytest.mark.parametrize("command", ["execute", "plan", "simulate"])
def test_tied_words_on_two_ranks(command: str, field: MakeField) -> None:
    said = field("tied_words", data="tokens", loss="cross_entropy").refusal(*TWO_RANKS, command=command)
    assert "share" in said and "0.weight" in said and "rank" in said


def test_a_layer_in_several_places(field: MakeField) -> None:
    one = field("used_twice", shape=[5, 12], options={"kind": "layer"})
    within_rounding(one)
    one.equal(*ONE_UNIT)
    assert "share" in one.refusal(*TWO_RANKS)


@started()
def test_a_frozen_table_in_several_layers(start: list[str], field: MakeField) -> None:
    """No gradient adds up, so that nothing stands against it."""
    field("used_twice", shape=[5, 12], options={"kind": "table"}).equal(*start)


@started("one rank", "pairs", "no checkpoint")
def test_a_buffer_that_several_layers_change(start: list[str], field: MakeField) -> None:
    field("one_average", shape=[5, 12]).equal(*start)


@pytest.mark.parametrize("check", ["--check", "--no-check"])
def test_a_buffer_that_layers_on_two_ranks_change(check: str, field: MakeField) -> None:
    """Its values depend on which rank comes first: that is the model's matter, and no fault of the plan or the data."""
    said = field("one_average", shape=[5, 12]).refusal(*TWO_RANKS, check)
    assert "share" in said and "mean" in said and "rank" in said


@started()
def test_adapters_on_a_frozen_base(start: list[str], field: MakeField) -> None:
    field("adapters", data="tokens", loss="cross_entropy").equal(*start)


@started()
def test_frozen_layers_in_front(start: list[str], field: MakeField, tmp_path: Path) -> None:
    """They need no RECOMPUTE, no BACKWARD, no copy of their boundary, and no gradient."""
    one = field("frozen_below", shape=[5, 12])
    one.equal(*start)
    path = tmp_path / "plan.json"
    one.result(*start, "-o", str(path), command="plan")
    plan = json.loads(path.read_text())
    assert plan["frozen_units"] == 5
    kinds = Counter(op["kind"] for op in plan["ops"] if op["microbatch"] >= 0)
    assert (kinds["FORWARD"], kinds["RECOMPUTE"], kinds["BACKWARD"]) == (6 * 4, 4, 4)
    assert kinds["SEND_GRADIENT"] == 0
    last = 2 if start else 5  # units count from 0 in each stage
    assert all(op["unit"] == last for op in plan["ops"] if op["kind"] in ("RECOMPUTE", "BACKWARD", "OFFLOAD"))


@started()
def test_layers_that_pass_no_gradient_on_for_some_microbatches(start: list[str], field: MakeField) -> None:
    field("cut_graph", shape=[5, 12], parallel__microbatches=6).equal(*start)


@started()
def test_weights_keep_their_types(start: list[str], field: MakeField) -> None:
    """A base in bfloat16 takes half the bytes, and is not cast to a type that nobody wrote."""
    one = field("adapters_on_bfloat16", shape=[5, 12])
    trained = one.weights(*start)
    assert {str(trained[name].dtype) for name in trained if ".base." in name} == {"torch.bfloat16"}
    assert {str(trained[name].dtype) for name in trained if ".base." not in name} == {"torch.float32"}
    one.equal(*start)


def test_a_type_that_is_written_leaves_tables_alone(field: MakeField) -> None:
    """The model looks at its table's type itself."""
    one = field("float32_tables", shape=[2, 6, 12], dtype="bfloat16")
    trained = one.weights()
    assert trained["0.frequencies"].dtype == torch.float32
    assert torch.equal(trained["0.frequencies"], models.float32_tables().state_dict()["0.frequencies"])
    assert trained["0.linear.weight"].dtype == torch.bfloat16
    one.equal()


def test_a_table_that_all_layers_read_is_there_once(field: MakeField) -> None:
    """Once on each rank, in the prediction as in the run."""
    table = 2048 * 12 * 4
    one = field("one_table", shape=[2, 5, 12])
    for start, ranks in (([], 1), (TWO_RANKS, 2)):
        found = one.equal(*start)
        peaks = [rank["peak_device_bytes"] for rank in found["ranks"]]
        assert len(peaks) == ranks and all(table < peak < 2 * table for peak in peaks)


@started()
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_sparse_gradients(max_norm: float, optimizer: str, start: list[str], field: MakeField) -> None:
    """Plain AdamW refuses them, and so may a run."""
    one = field("renormed", data="tokens", loss="cross_entropy", optimizer=optimizer)
    given = [*options(sparse=True, max_norm=max_norm), *start]
    if optimizer == "adamw":
        one.equal_or_refused(*given, words=("sparse",))
        return
    found = one.equal(*given, memory=False)
    measured, predicted = (
        [rank["peak_device_bytes"] for rank in side["ranks"]] for side in (found, found["predicted"])
    )
    assert measured == predicted or any("sparse" in text for text in found["warnings"])


def test_trained_weights_can_be_had(field: MakeField) -> None:
    """As a file and in Python: the model's state and the optimizer's."""
    one = field("plain", shape=[5, 12])
    out = one.folder / "run"
    one.result("-o", str(out))
    saved = torch.load(out / "weights.pt", weights_only=True)
    model = models.plain()
    untrained = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(saved["model"])
    assert not any(torch.equal(value, untrained[name]) for name, value in model.state_dict().items())
    torch.optim.AdamW(model.parameters(), lr=1e-2).load_state_dict(saved["optimizer"][0])
    assert la.execute(str(one.path)).weights.keys() == saved.keys()
    status, text, _ = one.run("execute", "--help")
    assert status == 0 and "weights" in text
