"""Published transformers are known by name, for ``[model] preset``. To add one, write a row here, with its source.

``sequence`` is what a model was trained with for most of its steps, which is less than what it can read. Counts of
parameters come from somebody who counted them on their own; ``Shape.count`` has to agree with each.
"""

from __future__ import annotations

import difflib
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

    def count(self) -> int:
        """Return how many parameters a model of this shape has, a tied table once."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        if self.positions == "learned":
            tables += self.sequence * self.hidden
        return tables + self.layers * self._block() + self._norm(self.hidden)

    def _block(self) -> int:
        mlps = max(1, self.experts) * self._mlp() + self.experts * self.hidden  # the router has no bias
        return self._attention() + mlps + 2 * self._norm(self.hidden)

    def _attention(self) -> int:
        size = self.head_size if self.head_size is not None else self.hidden // self.heads
        queries = self.heads * size
        keys_and_values = 2 * size * (self.kv_heads if self.kv_heads is not None else self.heads)
        products = self.hidden * (queries + keys_and_values) + queries * self.hidden
        biases = queries + keys_and_values if self.bias or self.qkv_bias else 0
        return products + biases + (self.hidden if self.bias else 0) + (2 * self._norm(size) if self.qk_norm else 0)

    def _mlp(self) -> int:
        width, into = self.mlp if self.mlp is not None else 4 * self.hidden, 2 if self.gated else 1
        return (into + 1) * self.hidden * width + (into * width + self.hidden if self.bias else 0)

    def _norm(self, size: int) -> int:
        return 2 * size if self.norm == "layernorm" else size


def _llama(
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    mlp: int,
    sequence: int,
    vocabulary: int,
    parameters: int,
    source: str,
    head_size: int | None = None,
    tied: bool = False,
    qkv_bias: bool = False,
    qk_norm: bool = False,
    experts: int = 0,
    experts_per_token: int = 0,
) -> Shape:
    """Return a shape as Llama's: gated MLP, RMSNorm, rotary positions; no bias and no dropout."""
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        mlp=mlp,
        gated=True,
        norm="rmsnorm",
        positions="rotary",
        attention="flash",
        tied=tied,
        bias=False,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        dropout=False,
        experts=experts,
        experts_per_token=experts_per_token,
        sequence=sequence,
        vocabulary=vocabulary,
        parameters=parameters,
        source=source,
    )


_KERAS = "keras-team/keras-hub (2026)"
_LITGPT = "Lightning-AI/litgpt, litgpt/config.py (2026)"
_GPT2 = (
    "Radford et al., Language Models are Unsupervised Multitask Learners (2019), table 2; parameters, which the paper "
    f"has wrong, as {_KERAS}, gpt2_presets.py, counts them"
)
_GPT3 = "Brown et al., Language Models are Few-Shot Learners (2020), table 2.1; GPT-2's 50,257 tokens"
_LLAMA2 = f"{_LITGPT}; sequence: meta-llama/llama-models, model card (2023); parameters: "
_LLAMA3 = f"{_LITGPT}; sequence: Grattafiori et al., The Llama 3 Herd of Models (2024), section 3.4; parameters: "
_LLAMA32 = (
    f"{_LITGPT}; tied: meta-llama/llama-models, model card (2024); sequence: taken from Llama 3, nothing tells it; "
    "parameters: Hugging Face's count of the weights (safetensors.total)"
)
_QWEN25 = f"{_LITGPT}; sequence: Qwen2.5 Technical Report (2024), section 3.3; parameters: "
_QWEN3 = f"{_LITGPT}; sequence: Qwen3 Technical Report (2025), section 3.2; parameters: {_KERAS}, qwen3_presets.py"
_WEIGHTS = "Hugging Face's count of the weights (safetensors.total)"
_MIXTRAL = (
    f"{_LITGPT}; sequence: Jiang et al., Mixtral of Experts (2024), table 1; parameters: {_KERAS}, mixtral_presets.py"
)
_NEOX = (
    "EleutherAI/gpt-neox, configs/20B.yml (2026); 50,257 tokens, padded to a multiple of 128 for each of 2 "
    "tensor-parallel ranks; parameters: model card of EleutherAI/gpt-neox-20b (2022)"
)
_MEGATRON = (
    "Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models (2022), table 3; 51,200 tokens "
    "and a sequence of 2048 for all"
)

TRANSFORMERS: dict[str, Shape] = {
    "gpt2-small": Shape(layers=12, hidden=768, heads=12, sequence=1024, parameters=124_439_808, source=_GPT2),
    "gpt2-medium": Shape(layers=24, hidden=1024, heads=16, sequence=1024, parameters=354_823_168, source=_GPT2),
    "gpt2-large": Shape(layers=36, hidden=1280, heads=20, sequence=1024, parameters=774_030_080, source=_GPT2),
    "gpt2-xl": Shape(layers=48, hidden=1600, heads=25, sequence=1024, parameters=1_557_611_200, source=_GPT2),
    "gpt3-125m": Shape(layers=12, hidden=768, heads=12, source=_GPT3),
    "gpt3-350m": Shape(layers=24, hidden=1024, heads=16, source=_GPT3),
    "gpt3-760m": Shape(layers=24, hidden=1536, heads=16, source=_GPT3),
    "gpt3-1.3b": Shape(
        layers=24,
        hidden=2048,
        heads=16,
        source=f"{_GPT3}; 16 heads, as the table's 24 of 128 are more than its width of 2048",
    ),
    "gpt3-2.7b": Shape(layers=32, hidden=2560, heads=32, source=_GPT3),
    "gpt3-6.7b": Shape(layers=32, hidden=4096, heads=32, source=_GPT3),
    "gpt3-13b": Shape(
        layers=40, hidden=5120, heads=40, source=f"{_GPT3}; width 5120, as the table's 5140 is not 40 heads of 128"
    ),
    "gpt3-175b": Shape(layers=96, hidden=12_288, heads=96, source=_GPT3),
    "gpt-neox-20b": Shape(
        layers=44,
        hidden=6144,
        heads=64,
        positions="rotary",
        tied=False,
        dropout=False,
        vocabulary=50_432,
        parameters=20_554_567_680,
        source=_NEOX,
    ),
    "llama2-7b": _llama(
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=32,
        mlp=11_008,
        sequence=4096,
        vocabulary=32_000,
        parameters=6_738_415_616,
        source=f"{_LLAMA2}{_KERAS}, llama_presets.py",
    ),
    "llama2-13b": _llama(
        layers=40,
        hidden=5120,
        heads=40,
        kv_heads=40,
        mlp=13_824,
        sequence=4096,
        vocabulary=32_000,
        parameters=13_015_864_320,
        source=f"{_LLAMA2}{_WEIGHTS} less 64 rotary frequencies a layer",
    ),
    "llama2-70b": _llama(
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        mlp=28_672,
        sequence=4096,
        vocabulary=32_000,
        parameters=68_976_648_192,
        source=f"{_LLAMA2}{_WEIGHTS} less 64 rotary frequencies a layer",
    ),
    "llama3-8b": _llama(
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        mlp=14_336,
        sequence=8192,
        vocabulary=128_256,
        parameters=8_030_261_248,
        source=f"{_LLAMA3}{_KERAS}, llama3_presets.py",
    ),
    "llama3-70b": _llama(
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        mlp=28_672,
        sequence=8192,
        vocabulary=128_256,
        parameters=70_553_706_496,
        source=f"{_LLAMA3}{_WEIGHTS}",
    ),
    "llama3.1-405b": _llama(
        layers=126,
        hidden=16_384,
        heads=128,
        kv_heads=8,
        mlp=53_248,
        sequence=8192,
        vocabulary=128_256,
        parameters=405_853_388_800,
        source=f"{_LLAMA3}{_WEIGHTS}",
    ),
    "llama3.2-1b": _llama(
        layers=16,
        hidden=2048,
        heads=32,
        kv_heads=8,
        mlp=8192,
        tied=True,
        sequence=8192,
        vocabulary=128_256,
        parameters=1_235_814_400,
        source=_LLAMA32,
    ),
    "llama3.2-3b": _llama(
        layers=28,
        hidden=3072,
        heads=24,
        kv_heads=8,
        mlp=8192,
        tied=True,
        sequence=8192,
        vocabulary=128_256,
        parameters=3_212_749_824,
        source=_LLAMA32,
    ),
    "mixtral-8x7b": _llama(
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        mlp=14_336,
        experts=8,
        experts_per_token=2,
        sequence=32_768,
        vocabulary=32_000,
        parameters=46_702_792_704,
        source=_MIXTRAL,
    ),
    "qwen2.5-0.5b": _llama(
        layers=24,
        hidden=896,
        heads=14,
        kv_heads=2,
        mlp=4864,
        tied=True,
        qkv_bias=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=494_032_768,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen2.5-1.5b": _llama(
        layers=28,
        hidden=1536,
        heads=12,
        kv_heads=2,
        mlp=8960,
        tied=True,
        qkv_bias=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=1_543_714_304,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen2.5-3b": _llama(
        layers=36,
        hidden=2048,
        heads=16,
        kv_heads=2,
        mlp=11_008,
        tied=True,
        qkv_bias=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=3_085_938_688,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen2.5-7b": _llama(
        layers=28,
        hidden=3584,
        heads=28,
        kv_heads=4,
        mlp=18_944,
        qkv_bias=True,
        sequence=4096,
        vocabulary=152_064,
        parameters=7_615_616_512,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen2.5-14b": _llama(
        layers=48,
        hidden=5120,
        heads=40,
        kv_heads=8,
        mlp=13_824,
        qkv_bias=True,
        sequence=4096,
        vocabulary=152_064,
        parameters=14_770_033_664,
        source=f"{_QWEN25}general.parameter_count of its GGUF files",
    ),
    "qwen2.5-32b": _llama(
        layers=64,
        hidden=5120,
        heads=40,
        kv_heads=8,
        mlp=27_648,
        qkv_bias=True,
        sequence=4096,
        vocabulary=152_064,
        parameters=32_763_876_352,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen2.5-72b": _llama(
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        mlp=29_568,
        qkv_bias=True,
        sequence=4096,
        vocabulary=152_064,
        parameters=72_706_203_648,
        source=f"{_QWEN25}{_KERAS}, qwen_presets.py",
    ),
    "qwen3-0.6b": _llama(
        layers=28,
        hidden=1024,
        heads=16,
        kv_heads=8,
        mlp=3072,
        head_size=128,
        tied=True,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=596_049_920,
        source=_QWEN3,
    ),
    "qwen3-1.7b": _llama(
        layers=28,
        hidden=2048,
        heads=16,
        kv_heads=8,
        mlp=6144,
        head_size=128,
        tied=True,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=1_720_574_976,
        source=_QWEN3,
    ),
    "qwen3-4b": _llama(
        layers=36,
        hidden=2560,
        heads=32,
        kv_heads=8,
        mlp=9728,
        head_size=128,
        tied=True,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=4_022_468_096,
        source=_QWEN3,
    ),
    "qwen3-8b": _llama(
        layers=36,
        hidden=4096,
        heads=32,
        kv_heads=8,
        mlp=12_288,
        head_size=128,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=8_190_735_360,
        source=_QWEN3,
    ),
    "qwen3-14b": _llama(
        layers=40,
        hidden=5120,
        heads=40,
        kv_heads=8,
        mlp=17_408,
        head_size=128,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=14_768_307_200,
        source=_QWEN3,
    ),
    "qwen3-32b": _llama(
        layers=64,
        hidden=5120,
        heads=64,
        kv_heads=8,
        mlp=25_600,
        head_size=128,
        qk_norm=True,
        sequence=4096,
        vocabulary=151_936,
        parameters=32_762_123_264,
        source=_QWEN3,
    ),
    "megatron-22b": Shape(layers=48, hidden=6144, heads=64, vocabulary=51_200, source=_MEGATRON),
    "megatron-175b": Shape(layers=96, hidden=12_288, heads=96, vocabulary=51_200, source=_MEGATRON),
    "megatron-530b": Shape(layers=105, hidden=20_480, heads=128, vocabulary=51_200, source=_MEGATRON),
    "megatron-1t": Shape(layers=128, hidden=25_600, heads=160, vocabulary=51_200, source=_MEGATRON),
}


def allowed_models(name: object = None) -> str:
    """Return what to write in place of a name that is no model's: the nearest spelling, and all that there are."""
    near = difflib.get_close_matches(name.casefold(), TRANSFORMERS, n=1) if isinstance(name, str) else []
    sizes: dict[str, list[str]] = {}
    for each in TRANSFORMERS:
        family, _, size = each.rpartition("-")
        sizes.setdefault(family, []).append(size)
    known = ", ".join(
        f"{family}-({'|'.join(some)})" if len(some) > 1 else f"{family}-{some[0]}" for family, some in sizes.items()
    )
    return f"{f'did you mean {near[0]}? A' if near else 'a'} model is one such as gpt3-13b, of {known}"
