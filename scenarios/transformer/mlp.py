"""The MLP of a block, dense or a mixture of experts.

GeLU keeps its input and the next product keeps what it made; SwiGLU has two inputs (Shazeer, "GLU Variants Improve
Transformer", 2020). Experts get an equal part of the tokens each, which is what their balancing loss is for (Fedus et
al., "Switch Transformers", 2021, section 2.2).
"""

from __future__ import annotations

from loadahead.scenarios.transformer.dimensions import Dimensions
from loadahead.scenarios.transformer.work import Collective, Moved, Part, Product

# Routers compute in float32.
FLOAT = 4


def mlp(size: Dimensions) -> Part:
    """Return the MLP from its norm's output to the product that leads back to the stream."""
    return _experts(size) if size.experts else _dense(size)


def _dense(size: Dimensions) -> Part:
    wide = size.shared(size.mlp)
    parameters = _weights(size, wide)
    return _perceptron(size, rows=size.tokens, count=1, parameters=parameters)


def _weights(size: Dimensions, wide: int) -> int:
    """Return the parameters of one MLP of which one GPU has this width."""
    bias = (wide * (2 if size.gated else 1) + size.hidden) if size.bias else 0
    return size.hidden * wide * (3 if size.gated else 2) + bias


def _perceptron(size: Dimensions, *, rows: int, count: int, parameters: int = 0, expert_parameters: int = 0) -> Part:
    """Return ``count`` MLPs, each of which has so many rows of tokens."""
    wide = size.shared(size.mlp)
    made = size.element * rows * wide * count
    inputs = 2 if size.gated else 1
    return Part(
        parameters=parameters,
        expert_parameters=expert_parameters,
        products=(
            Product(m=rows, k=size.hidden, n=inputs * wide, count=count),
            Product(m=rows, k=wide, n=size.hidden, count=count),
        ),
        forward=Moved(nbytes=(inputs + 1) * made, kernels=1),
        backward=Moved(nbytes=(2 * inputs + 1) * made, kernels=1),
        kept=(inputs + 1) * made,
        working=(inputs + 1) * made + size.stream,
        peak=(inputs + 1) * made + size.stream + size.element * count * size.hidden * inputs * wide,
    )


def _experts(size: Dimensions) -> Part:
    """Return a router, the experts of one GPU, and how tokens come to them and back."""
    own = size.experts // size.sharing.expert
    sent = size.tokens * size.experts_per_token
    rows = -(-sent // own)
    nbytes = size.element * sent * size.hidden
    # Each GPU of a tensor-parallel group sends its own tokens on, and gathers those of the others once they are there.
    apart = -(-nbytes // size.alone)
    scores = FLOAT * size.tokens * size.experts
    experts = _perceptron(size, rows=rows, count=own, expert_parameters=own * _weights(size, size.shared(size.mlp)))
    exchanged = (
        tuple(Collective(kind="all_to_all", among="expert", nbytes=apart) for _ in range(2))
        if size.sharing.expert > 1
        else ()
    )
    return Part.together(
        [
            Part(
                parameters=size.hidden * size.experts,
                products=(Product(m=size.tokens, k=size.hidden, n=size.experts),),
                forward=Moved(nbytes=2 * scores, kernels=1),
                backward=Moved(nbytes=3 * scores, kernels=1),
                kept=scores,
            ),
            # Tokens are copied into the order of their experts, and what experts make is weighed and added up.
            Part(
                forward=Moved(nbytes=2 * nbytes, kernels=1),
                backward=Moved(nbytes=2 * nbytes, kernels=1),
                kept=nbytes,
                working=nbytes,
            ),
            experts,
            Part(
                forward=Moved(nbytes=nbytes + size.stream, kernels=1),
                backward=Moved(nbytes=2 * nbytes + size.stream, kernels=1),
                kept=nbytes,
                working=nbytes,
                told=(*exchanged, *_gathered(size, nbytes)),
                told_backward=(*exchanged, *_gathered(size, nbytes)),
            ),
        ]
    )


def _gathered(size: Dimensions, nbytes: int) -> tuple[Collective, ...]:
    """Return how tensor-parallel GPUs gather the tokens of experts, and scatter what comes of them.

    It is what Megatron-LM's dispatcher does after its exchange and before the one back
    (megatron/core/transformer/moe/token_dispatcher.py, MoEAlltoAllTokenDispatcher).
    """
    if not size.sharing.sequence_parallel:
        return ()
    return (
        Collective(kind="all_gather", among="tensor", nbytes=nbytes),
        Collective(kind="reduce_scatter", among="tensor", nbytes=nbytes),
    )
