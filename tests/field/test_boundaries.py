"""What passes between layers, and what the data gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.field.commands import KEPT, ONE_UNIT, Field, options, started

MakeField = Callable[..., Field]


@started("one rank", "two ranks", "one unit", "no checkpoint", "no offload")
def test_two_tensors_between_layers(start: list[str], field: MakeField) -> None:
    one = field("pairs_between", shape=[5, 12])
    one.equal(*start)
    assert one.result(*start, command="simulate")["ranks"]


@started("one rank", "two ranks", "pairs", "no checkpoint")
def test_whole_numbers_between_layers(start: list[str], field: MakeField) -> None:
    field("codes_between", shape=[5, 12]).equal(*start)


@started("one rank", "two ranks", "pairs")
def test_square_transposes_and_slices(start: list[str], field: MakeField) -> None:
    """A boundary comes back from the host with its own strides."""
    field("squares_and_views", shape=[3, 12, 12]).equal(*start)


@started()
@pytest.mark.parametrize("innermost", [True, False])
def test_both_layouts_of_images(innermost: bool, start: list[str], field: MakeField) -> None:
    one = field("convolutions", data="pictures", options={"innermost": True})
    one.equal(*options(innermost=innermost), *start)


@started("one rank", "two ranks", "no offload", "pairs")
def test_strides_that_differ_between_microbatches(start: list[str], field: MakeField) -> None:
    """Without a check as with one: the numbers come back in their places."""
    one = field("either_way", shape=[12, 12], parallel__microbatches=6, model__steps=4)
    checked = one.equal(*start)
    assert checked["losses"] == one.result(*start, "--no-check")["losses"]


@pytest.mark.parametrize("where", ["own", "view"])
def test_changes_in_place_inside_a_unit(where: str, field: MakeField) -> None:
    """They do no harm; a unit that begins with one would change its boundary."""
    one = field("in_place", shape=[5, 12], options={"where": where})
    if where == "own":
        assert "unit 0.3 changes its input in place" in one.refusal()
    else:
        one.equal()
    for start in (ONE_UNIT, KEPT):
        one.equal(*start)


def test_changes_in_place_of_an_input(field: MakeField) -> None:
    """The boundary is needed again; in plain training, which keeps nothing, it is not."""
    one = field("in_place", shape=[5, 12], options={"where": "input"})
    assert "unit 0.1 changes its input in place" in one.refusal()
    one.equal(*KEPT)


@started("one rank", "no checkpoint")
def test_changes_in_place_of_what_autograd_saved(start: list[str], field: MakeField) -> None:
    """Plain torch refuses it, too."""
    said = field("in_place", shape=[5, 12], options={"where": "saved"}).refusal(*start)
    assert "in place" in said or "inplace" in said


@pytest.mark.parametrize(
    ("how", "which"), [("last", "FORWARD 0.0.3"), ("step", "in step 1"), ("first", "FORWARD 0.0.1")]
)
def test_ragged_batches(how: str, which: str, field: MakeField) -> None:
    """One line says which microbatch differs from the first, and what helps."""
    said = field("plain_for", data="ragged", options={"how": how}).refusal()
    assert which in said and "pad" in said and "drop_last" in said


@started()
@pytest.mark.parametrize("microbatches", [1, 2, 3, 4, 6])
def test_a_global_batch_cut_into_microbatches(microbatches: int, start: list[str], field: MakeField) -> None:
    one = field("plain", data="share_of_batch")
    one.equal("--set", f"parallel.microbatches={microbatches}", *start)


@started()
@pytest.mark.parametrize("how", ["tensor", "tuple", "dict", "targets", "list"])
def test_batches_of_several_tensors(how: str, start: list[str], field: MakeField) -> None:
    one = field("takes", data="batches", loss="distance_to_any", options={"how": "tensor"})
    one.equal(*options(how=how), *start)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("three", ("(input, target)", "3")),
        ("nothing", ("(input, target)", "NoneType")),
        ("numpy", ("ndarray",)),
        ("float64", ("float64",)),
    ],
)
def test_batches_that_cannot_be_trained_on(how: str, words: tuple[str, ...], field: MakeField) -> None:
    said = field("takes", data="batches", loss="distance_to_any", options={"how": how}).refusal()
    assert all(word in said or word.replace("float64", "Double") in said for word in words)
