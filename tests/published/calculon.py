"""GPT-3 175B on 8 x 8 GPUs with 64 microbatches and full recomputation, over links of 32 GB/s, as Calculon has it.

``calculon llm`` of calculon-ai/calculon (2024) with models/gpt3-175B.json, systems/a100_80e.json, tensor_par 8,
pipeline_par 8, batch_size 64, microbatch_size 1, no interleaving, no sharding: proc_mem_tier1_cap_req without and with
activations_offload.
"""

from __future__ import annotations

from tests.published.rows import GIB, Beside, predicted, with_ends

WITHOUT, OFFLOADED = 46.79, 42.38
# Its model has blocks alone, without a table of tokens or of positions; it counts a block's gradients in float32 once
# more, and all gradients of a block's activations at once.
_BLOCKS = {"vocabulary": 1, "positions": "none"}


def peaks(*, blocks_alone: bool = False) -> list[Beside]:
    """Return the first rank's peak without and with offloading, with the model's vocabulary or without."""
    out = []
    for name, published, offload in (
        ("without offloading", WITHOUT, {"offload_activations": False}),
        ("offloaded, horizon 1", OFFLOADED, {"activation_loading_horizon": 1}),
    ):
        step = predicted(
            {"preset": "gpt3-175b", **(_BLOCKS if blocks_alone else {"positions": "none"})},
            "dgx-a100",
            hardware={"d2h": "32 GB/s", "h2d": "32 GB/s", "link_latency": "0 us"},
            parallel={
                "pipeline": "1f1b",
                "microbatches": 64,
                "tensor_parallel_degree": 8,
                "pipeline_parallel_degree": 8,
            },
            checkpoint={"partition": with_ends(96, 8)},
            offload=offload,
        )
        peak = step.metrics.ranks[0].peak_device_bytes / GIB
        what = "blocks alone" if blocks_alone else "with its vocabulary"
        out.append(Beside(name=f"gpt3-175b, {name}, {what}", published=published, predicted=peak, unit="GiB"))
    return out
