"""What docs/models.md has to hold of the catalogue: its sizes, and the source of every row.

``python -m tests.support.models_page`` prints it, to be put there.
"""

from __future__ import annotations

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS, Shape

HEADS = (
    "`preset`",
    "parameters",
    "layers",
    "hidden",
    "heads",
    "of keys and values",
    "size of a head",
    "MLP",
    "sequence",
    "vocabulary",
    "tied",
)


def parts() -> list[str]:
    return [_table(), _sources()]


def kind_of(shape: Shape) -> str:
    """What beside its sizes makes a block what it is, in words."""
    bias = "bias" if shape.bias else "bias of queries, keys and values" if shape.qkv_bias else "no bias"
    norm = "LayerNorm" if shape.norm == "layernorm" else "RMSNorm"
    words = [f"{shape.positions} positions", norm, "gated MLP" if shape.gated else "plain MLP", bias]
    words += ["normed queries and keys"] if shape.qk_norm else []
    words += [f"{shape.experts} experts, {shape.experts_per_token} for each token"] if shape.experts else []
    return ", ".join([*words, f"{shape.attention} attention", "dropout" if shape.dropout else "no dropout"])


def _table() -> str:
    lines = [HEADS, ["---"] * len(HEADS), *(_row(name, shape) for name, shape in TRANSFORMERS.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace(" --- ", "---")


def _row(name: str, shape: Shape) -> list[str]:
    counts = (
        shape.count(),
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.kv_heads or shape.heads,
        shape.head_size or shape.hidden // shape.heads,
        shape.mlp or 4 * shape.hidden,
        shape.sequence,
        shape.vocabulary,
    )
    return [f"`{name}`", *(f"{count:,}" for count in counts), "yes" if shape.tied else "no"]


def _sources() -> str:
    """What blocks are made of and where rows come from, those alike together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, shape in TRANSFORMERS.items():
        alike.setdefault((kind_of(shape), shape.source), []).append(f"`{name}`")
    return "\n".join(f"- {', '.join(names)}: {kind}. {source}." for (kind, source), names in alike.items())


if __name__ == "__main__":
    print(*parts(), sep="\n\n")
