"""Published transformers are known by name, for ``[model] preset``. To add one, write a row here, with its source.

Brown et al., "Language Models are Few-Shot Learners" (2020), table 2.1; sequence 2048 and 50,257 tokens, appendix B.
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), table 2; sequence 1024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Describes a transformer's shape; the defaults are a GPT's.

    Attributes:
        layers, hidden, heads: blocks, width, and attention heads.
        kv_heads: heads of keys and values, which groups of queries share; None: as many as ``heads``.
        head_size: of one head; None: ``hidden`` divided by ``heads``.
        mlp: width of the MLP, of one expert's where there are experts; None: four times ``hidden``.
        gated: whether the MLP has a gate beside its first product, as SwiGLU has.
        norm: "layernorm", which has a bias, or "rmsnorm".
        positions: "learned", a table of embeddings, or "rotary" or "none", which have no weights.
        attention: "plain" keeps scores of each pair of tokens, "flash" does not.
        tied: whether the embedding and the head have one table.
        bias, qkv_bias: whether all products of a block have a bias, or those of queries, keys and values alone.
        qk_norm: whether queries and keys are normed, head by head.
        dropout: whether blocks have dropout.
        experts, experts_per_token: of a mixture-of-experts layer; 0: layers are dense.
        sequence, vocabulary: tokens of a sequence, and in the table of embeddings.
        parameters: how many the publisher counts, and where, as a check; None: nobody counts them exactly.
        source: where the row comes from.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int | None = None
    head_size: int | None = None
    mlp: int | None = None
    gated: bool = False
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    positions: Literal["learned", "rotary", "none"] = "learned"
    attention: Literal["plain", "flash"] = "plain"
    tied: bool = True
    bias: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    dropout: bool = True
    experts: int = 0
    experts_per_token: int = 0
    sequence: int = 2048
    vocabulary: int = 50_257
    parameters: int | None = None
    source: str = ""


TRANSFORMERS: dict[str, Shape] = {
    "gpt2-xl": Shape(layers=48, hidden=1600, heads=25, sequence=1024),
    "gpt3-1.3b": Shape(layers=24, hidden=2048, heads=16),
    "gpt3-6.7b": Shape(layers=32, hidden=4096, heads=32),
    "gpt3-13b": Shape(layers=40, hidden=5120, heads=40),
    "gpt3-175b": Shape(layers=96, hidden=12288, heads=96),
}
