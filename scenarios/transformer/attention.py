"""Attention: queries, keys and values, scores of all pairs of tokens, and the product that leads back.

Plain attention keeps the scores after softmax, their dropout's mask and what is left of them (Korthikanti et al., 2022,
section 4.1: 5as²b bytes), which selective recomputation makes again. Flash attention keeps a float for each token and
head instead (Dao et al., "FlashAttention", 2022, section 3.1), and computes one half of the pairs where later tokens
are masked.
"""

from __future__ import annotations

from loadahead.scenarios.transformer.dimensions import Dimensions
from loadahead.scenarios.transformer.work import Moved, Part, Product

# The softmax's normalizer is a float32.
FLOAT = 4


def attention(size: Dimensions) -> Part:
    """Return attention from its norm's output to the product that leads back to the stream."""
    wide = size.queries + 2 * size.keys
    made = size.element * size.tokens
    return Part.together(
        [
            Part(
                parameters=size.hidden * wide + (wide if size.bias or size.qkv_bias else 0),
                products=(Product(m=size.tokens, k=size.hidden, n=wide),),
                kept=made * wide,
                working=made * wide + size.stream,
                peak=made * wide + size.stream + size.element * size.hidden * wide,
            ),
            *_prepared(size),
            _flash(size) if size.flash else plain_core(size),
            Part(
                parameters=size.queries * size.hidden + (size.hidden if size.bias else 0),
                products=(Product(m=size.tokens, k=size.queries, n=size.hidden),),
                kept=made * size.queries,
                working=made * size.queries,
                peak=made * size.queries + size.element * size.queries * size.hidden,
            ),
        ]
    )


def _prepared(size: Dimensions) -> list[Part]:
    """Return what is done to queries and keys before their product; what it is made of is not kept beside the result.

    A norm of heads keeps its input.
    """
    nbytes = size.element * size.tokens * (size.queries + size.keys)
    both = Moved(nbytes=2 * nbytes, kernels=1)
    out = []
    if size.qk_norm:
        parameters = 2 * size.head_size
        backward = Moved(nbytes=3 * nbytes, kernels=1)
        out.append(Part(parameters=parameters, forward=both, backward=backward, kept=nbytes))
    if size.rotary:
        out.append(Part(forward=both, backward=both))
    return out


def plain_core(size: Dimensions) -> Part:
    """Return scores, softmax, dropout and the product with the values, as kernels of their own."""
    heads = size.heads // size.sharing.tensor
    scores = size.shared(size.heads * size.sequence * size.tokens)
    nbytes = size.element * scores
    mask = scores if size.dropout else 0
    kept = nbytes + (nbytes + mask if size.dropout else 0)
    dropout = Moved(nbytes=2 * nbytes + mask, kernels=1) if size.dropout else Moved()
    count = heads * size.microbatch
    scored = Product(m=size.sequence, k=size.head_size, n=size.sequence, count=count)
    weighed = Product(m=size.sequence, k=size.sequence, n=size.head_size, count=count)
    forward = Moved(nbytes=2 * nbytes, kernels=1) + dropout
    return Part(
        products=(scored, weighed),
        forward=forward,
        backward=Moved(nbytes=3 * nbytes, kernels=1) + dropout,
        kept=kept,
        core=kept,
        # The product with the values makes nothing that is kept.
        core_products=(scored,),
        core_forward=forward,
        working=2 * nbytes,
    )


def _flash(size: Dimensions) -> Part:
    heads = size.heads // size.sharing.tensor
    return Part(
        # Two products over half of the pairs.
        flash=2 * size.tokens * size.sequence * size.queries,
        kept=FLOAT * heads * size.tokens,
    )
