"""The ends of a transformer: the embedding before its blocks, and the head, whose output is the loss, after them.

Tensor parallelism divides both tables over the vocabulary (Shoeybi et al., "Megatron-LM", 2019, section 3).
"""

from __future__ import annotations

from loadahead.scenarios.transformer.dimensions import Dimensions
from loadahead.scenarios.transformer.stream import norm
from loadahead.scenarios.transformer.work import Collective, Moved, Part, Product

# The loss is computed in float32.
FLOAT = 4


def table(size: Dimensions) -> int:
    """Return the parameters of one GPU's part of a table over the vocabulary."""
    return size.shared(size.vocabulary) * size.hidden


def embedding(size: Dimensions) -> Part:
    """Return the embedding: its look-up has no FLOPs, and it keeps its dropout's mask, a byte per element.

    The table over the vocabulary is not counted in it.
    """
    stream, t = size.stream, size.sharing.tensor
    mask = stream // size.element if size.dropout else 0
    whole = size.element * size.tokens * size.hidden
    sequence_parallel = size.sharing.sequence_parallel
    told = Collective(kind="reduce_scatter" if sequence_parallel else "all_reduce", among="tensor", nbytes=whole)
    gathered = Collective(kind="all_gather", among="tensor", nbytes=whole)
    return Part(
        parameters=size.sequence * size.hidden if size.learned else 0,
        forward=Moved(nbytes=2 * whole + (2 * stream + mask if mask else 0), kernels=2 if mask else 1),
        backward=Moved(nbytes=2 * whole + (2 * stream + mask if mask else 0), kernels=2 if mask else 1),
        kept=mask,
        peak=size.element * table(size),
        told=(told,) if t > 1 else (),
        told_backward=(gathered,) if sequence_parallel else (),
    )


def head(size: Dimensions) -> Part:
    """Return the last norm, the logits and the loss, without the table over the vocabulary.

    The logits are kept in 32 bits (Korthikanti et al., 2022, section 4.3).
    """
    vocabulary = size.shared(size.vocabulary)
    logits = FLOAT * size.tokens * vocabulary
    made = size.element * size.tokens * vocabulary
    return Part.together(
        [
            norm(size, keeps_input=False),
            Part(
                products=(Product(m=size.tokens, k=size.hidden, n=vocabulary),),
                # A conversion, a maximum, a sum, and the division; back, one kernel makes the gradient.
                forward=Moved(nbytes=made + 4 * logits, kernels=4),
                backward=Moved(nbytes=logits + made, kernels=1),
                kept=logits,
                working=made,
                peak=made + size.element * table(size),
            ),
        ]
    )
