"""Warns about settings that do nothing for a transformer of this shape."""

from __future__ import annotations

from loadahead.scenarios.kinds.base import Setting


def cautions_of_shape(setting: Setting, *, attention: str, experts: int) -> list[str]:
    """Return a sentence for each setting that the shape leaves without effect, or with another than it seems.

    ``attention`` and ``experts`` are those of :class:`loadahead.scenarios.catalogue.transformers.Shape`.
    """
    out = []
    if setting.granularity == "selective" and attention == "flash":
        out.append(
            'checkpoint.recompute_granularity = "selective" recomputes what plain attention keeps of each pair of '
            "tokens, and flash attention keeps nothing of it: nothing is recomputed, and all activations are kept"
        )
    if setting.sharing.expert > 1 and not experts:
        out.append("parallel.expert_parallel_degree has no effect on a model without experts")
    return out
