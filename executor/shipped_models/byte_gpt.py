"""Builds a byte-level GPT, trained on text that every machine has: the source files of Python's standard library."""

from __future__ import annotations

import copy
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from loadahead.sim.errors import InputError

# Each byte is a token.
VOCABULARY = 256
# This is enough text for thousands of steps of the demo; reading more only costs time.
CORPUS_BYTES = 2_000_000


class Embedding(nn.Module):
    """Embeds bytes and their positions: (batch, context) ids -> (batch, context, width)."""

    def __init__(self, width: int, context: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embedded ids."""
        return self.dropout(self.token(ids) + self.position[: ids.shape[1]])  # type: ignore[no-any-return]


class Block(nn.Module):
    """Applies a pre-norm transformer block with causal attention: (batch, context, width) -> the same shape."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` after attention and MLP."""
        x = x + self.dropout(self.project(self._attend(self.norm_attention(x))))
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm_mlp(x)))))  # type: ignore[no-any-return]

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, context, width = x.shape
        q, k, v = self.qkv(x).view(batch, context, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        p = self.p if self.training else 0.0
        out = functional.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return out.transpose(1, 2).reshape(batch, context, width)


class Head(nn.Module):
    """Applies the final norm and returns the next byte's logits: (batch, context, width) -> (batch, context, 256)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.logits(self.norm(x))  # type: ignore[no-any-return]


def build(
    *, blocks: int = 4, width: int = 192, heads: int = 4, context: int = 128, batch: int = 4, dropout: float = 0.1
) -> nn.Sequential:
    """Return embedding, ``blocks`` blocks and LM head as one sequence; InputError on impossible sizes.

    ``batch`` is an option of the data alone.
    """
    for name, value in (("blocks", blocks), ("width", width), ("heads", heads), ("context", context), ("batch", batch)):
        if type(value) is not int or value < 1:
            raise InputError(f"model.options.{name} is {value!r}; it must be an integer of at least 1")
    if width % heads:
        raise InputError(f"model.options.width is {width}; it must be a multiple of heads, {heads}")
    if not 0 <= dropout < 1:
        raise InputError(f"model.options.dropout is {dropout!r}; it must be at least 0 and below 1")
    layers: list[nn.Module] = [Embedding(width, context, dropout)]
    layers += [Block(width, heads, dropout) for _ in range(blocks)]
    return nn.Sequential(*layers, Head(width))


def copied(**options: Any) -> nn.Sequential:
    """Return what :func:`build` returns under the same seed, drawn once and then copied.

    It is for a large model that is loaded many times.
    """
    return copy.deepcopy(_drawn(torch.initial_seed(), tuple(sorted(options.items()))))


@lru_cache(maxsize=1)
def _drawn(seed: int, options: tuple[tuple[str, Any], ...]) -> nn.Sequential:
    del seed  # the seed is part of the cache's key: the generator has it already
    return build(**dict(options))


@cache
def corpus() -> torch.Tensor:
    """Return the first :data:`CORPUS_BYTES` bytes of the standard library's modules, by file name; (bytes,), uint8."""
    folder = Path(os.__file__).parent
    text = bytearray()
    for path in sorted(folder.glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    return torch.frombuffer(text[:CORPUS_BYTES], dtype=torch.uint8)


def batch(step: int, microbatch: int, microbatches: int, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, next ids), both (batch, context) int64: windows of the corpus, the same for equal arguments."""
    rows, context = int(options.get("batch", 4)), int(options.get("context", 128))
    text = corpus()
    generator = torch.Generator().manual_seed(step * microbatches + microbatch)
    starts = torch.randint(len(text) - context - 1, (rows, 1), generator=generator)
    window = text[starts + torch.arange(context + 1)].long()
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()
