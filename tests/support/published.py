"""Small published models, built from their configs without a table of their families."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WIDTH, VOCABULARY, BLOCKS = 32, 96, 3
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
# By model_type, the keys of a small config.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": _GROUPED,
    # Its blocks are called with two masks: the last two look at a window.
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {**_GROUPED, "head_dim": 8},
    "mixtral": {**_GROUPED, "num_local_experts": 4},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": 4, "n_positions": 64},
    "gpt_neox": {**_SIZES, "max_position_embeddings": 64},
}


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    """The content of a config.json."""
    return {"model_type": family, **CONFIGS[family], **changes}


def published(family: str, meta: bool = False, **changes: Any) -> nn.Module:
    """A language model with random weights, or on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **CONFIGS[family] | changes)
    torch.manual_seed(0)
    with torch.device("meta" if meta else "cpu"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]
