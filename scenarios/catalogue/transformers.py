"""Published transformers are known by name, for ``[model] preset``. To add one, write a row here, with its source.

Brown et al., "Language Models are Few-Shot Learners" (2020), table 2.1; sequence 2048 and 50,257 tokens, appendix B.
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), table 2; sequence 1024.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Describes a GPT's shape; ``heads`` times the head size is ``hidden``, the MLP is four times as wide."""

    layers: int
    hidden: int
    heads: int
    sequence: int = 2048
    vocabulary: int = 50_257


TRANSFORMERS: dict[str, Shape] = {
    "gpt2-xl": Shape(layers=48, hidden=1600, heads=25, sequence=1024),
    "gpt3-1.3b": Shape(layers=24, hidden=2048, heads=16),
    "gpt3-6.7b": Shape(layers=32, hidden=4096, heads=32),
    "gpt3-13b": Shape(layers=40, hidden=5120, heads=40),
    "gpt3-175b": Shape(layers=96, hidden=12288, heads=96),
}
