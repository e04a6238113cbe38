"""What a block keeps equals published formulas, for any sizes; other shapes are counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadahead.scenarios.kinds.transformer import Transformer
from loadahead.scenarios.layers import Layer
from loadahead.scenarios.loader import load_scenario

GPT = {"kind": "transformer", "layers": 1, "vocabulary": 8}


def block_of(model: dict[str, Any], **tables: Any) -> Layer:
    """A block without times that are worth a look."""
    scenario = load_scenario(
        {"model": {**GPT, **model}, "hardware": {"preset": "a100-sxm-80gb", "gpus_per_host": 512}, **tables}
    )
    setting = scenario.setting()
    assert isinstance(scenario.model, Transformer)
    return scenario.model.units(setting, _NoCuts()).layers[1]  # type: ignore[arg-type]


class _NoCuts:
    """Keeps nothing."""

    def get(self, key: object, make: Any, alive: object = None) -> Any:
        return make()


def sizes() -> st.SearchStrategy[tuple[int, int, int, int, int]]:
    """Sequence, sequences, heads, width of a head, and tensor-parallel degree, which divides what it has to."""
    part = st.integers(1, 6)
    return st.tuples(part, part, part, part, st.sampled_from([1, 2, 4])).map(
        lambda s: (s[0] * s[4], s[1], s[2] * s[4], s[3] * s[4], s[4])
    )


@given(sizes())
def test_a_gpt_keeps_the_published_bytes(size: tuple[int, int, int, int, int]) -> None:
    """Korthikanti et al. (2022), equations 1, 2 and 4, and table 2: "present work" with selective recomputation."""
    s, b, a, d, t = size
    h = a * d
    model = {"hidden": h, "heads": a, "sequence": s, "microbatch_size": b}
    parallel = {"tensor_parallel_degree": t}
    sequence = {**parallel, "sequence_parallel": True}
    whole = block_of(model, parallel=parallel)
    assert t * (whole.boundary_bytes + whole.saved_bytes) == s * b * h * (10 * t + 24) + 5 * a * s * s * b
    apart = block_of(model, parallel=sequence)
    assert t * (apart.boundary_bytes + apart.saved_bytes) == s * b * h * 34 + 5 * a * s * s * b
    selective = block_of(model, parallel=sequence, checkpoint={"recompute_granularity": "selective"})
    assert t * (selective.boundary_bytes + selective.saved_bytes) == s * b * h * 34
    assert whole.boundary_bytes == 2 * s * b * h
    assert apart.boundary_bytes * t == 2 * s * b * h


LLAMA = {
    "hidden": 64,
    "heads": 8,
    "kv_heads": 2,
    "mlp": 224,
    "sequence": 16,
    "gated": True,
    "norm": "rmsnorm",
    "positions": "rotary",
    "attention": "flash",
    "bias": False,
    "dropout": False,
}


def llama_keeps(t: int, alone: int) -> int:
    """Bytes by hand: 16 tokens of 64, keys and values of 16, an MLP of 224."""
    tokens, h, kv, mlp = 16, 64, max(1, 2 // t) * 8, 224
    norms = (2 * h) * 3 / alone  # what both norms make, and what the second one reads
    attention = (
        2 * (h / t + 2 * kv) + 2 * h / t + 4 * 8 / t
    )  # queries, keys, values, what comes of them, a float a head
    perceptron = 2 * 3 * mlp / t
    kept = tokens * (norms + attention + perceptron)
    assert kept == int(kept)
    return int(kept)


@pytest.mark.parametrize(("t", "sequence_parallel"), [(1, False), (2, False), (2, True), (4, True)])
def test_a_llama_keeps_what_a_hand_counts(t: int, sequence_parallel: bool) -> None:
    made = block_of(LLAMA, parallel={"tensor_parallel_degree": t, "sequence_parallel": sequence_parallel})
    alone = t if sequence_parallel else 1
    assert made.saved_bytes == llama_keeps(t, alone)
    assert made.boundary_bytes == 2 * 16 * 64 // alone


def test_flash_attention_keeps_a_float_where_plain_keeps_scores() -> None:
    plain = block_of({**LLAMA, "attention": "plain"})
    # Without dropout the scores after softmax alone.
    assert plain.saved_bytes - block_of(LLAMA).saved_bytes == 2 * 8 * 16 * 16 - 4 * 8 * 16


def test_32768_tokens_with_flash_attention_keep_34_bytes_each() -> None:
    """A report that field case 48 quotes: 34sbh with flash attention, 34sbh + 5as²b without."""
    model = {"hidden": 4096, "heads": 32, "sequence": 32768}
    sbh = 32768 * 4096
    plain, flash = block_of(model), block_of({**model, "attention": "flash"})
    assert plain.boundary_bytes + plain.saved_bytes == 34 * sbh + 5 * 32 * 32768**2
    assert flash.boundary_bytes + flash.saved_bytes == 34 * sbh + 4 * 32 * 32768


def test_a_norm_of_heads_keeps_what_it_reads() -> None:
    more = block_of({**LLAMA, "qk_norm": True}).saved_bytes - block_of(LLAMA).saved_bytes
    assert more == 2 * 16 * (64 + 16)


def test_float32_takes_twice_the_bytes_but_for_masks_and_floats() -> None:
    half, single = block_of(LLAMA), block_of({**LLAMA, "dtype": "float32"})
    floats = 4 * 8 * 16
    assert single.saved_bytes - floats == 2 * (half.saved_bytes - floats)


def test_experts_keep_the_tokens_that_come_to_them() -> None:
    dense = block_of(LLAMA).saved_bytes
    experts = block_of({**LLAMA, "experts": 4, "experts_per_token": 2})
    # Two experts' MLPs a token instead of one, its copies on the way there and back, and a float per expert.
    assert experts.saved_bytes - dense == 16 * (2 * 3 * 224 + 2 * (2 * 2 * 64) + 4 * 4)
    # Dealt out over replicas a GPU has fewer experts, and as many tokens.
    over = {"data_parallel_degree": 2, "expert_parallel_degree": 2}
    apart = block_of({**LLAMA, "experts": 4, "experts_per_token": 2}, parallel=over)
    assert apart.saved_bytes == experts.saved_bytes
