"""What is done to each token alone, between the products of a layer: norms, dropout, the sum with the input.

Tensor parallelism leaves it whole on each GPU; sequence parallelism divides it (Korthikanti et al., "Reducing
Activation Recomputation in Large Transformer Models", 2022, section 4.2.2). Kernels are taken to be fused as
Megatron-LM and Transformer Engine have them, so that a norm keeps its input and its output alone.
"""

from __future__ import annotations

from typing import Literal

from loadahead.scenarios.transformer.dimensions import Dimensions
from loadahead.scenarios.transformer.work import Collective, Moved, Part


def norm(size: Dimensions, *, keeps_input: bool) -> Part:
    """Return a norm and what the products after it read; the layer's own input is no part of what it keeps."""
    stream = size.stream
    return Part(
        parameters=size.hidden * (1 if size.rms else 2),
        forward=Moved(nbytes=2 * stream, kernels=1),
        backward=Moved(nbytes=3 * stream, kernels=1),
        kept=stream * (2 if keeps_input else 1),
        told=_entering(size),
        # What sequence parallelism divides is not kept whole, so that the gradients of weights need it once more.
        told_backward=(*_entering(size), *_leaving(size)),
    )


def added(size: Dimensions) -> Part:
    """Return the sum with the input of a part of a block, with dropout where the model has it.

    A mask takes a byte for each element.
    """
    stream = size.stream
    mask = stream // size.element if size.dropout else 0
    return Part(
        forward=Moved(nbytes=3 * stream + mask, kernels=1),
        # The gradient goes on unchanged past the part, and meets its gradient at the part's input.
        backward=Moved(nbytes=3 * stream + (2 * stream + mask if size.dropout else 0), kernels=2 if mask else 1),
        kept=mask,
        told=_leaving(size),
        told_backward=_entering(size) if size.sharing.sequence_parallel else (),
    )


def _entering(size: Dimensions) -> tuple[Collective, ...]:
    """Return what GPUs tell each other before products that are divided by columns."""
    if not size.sharing.sequence_parallel:
        return ()
    return (Collective(kind="all_gather", among="tensor", nbytes=_whole(size)),)


def _leaving(size: Dimensions) -> tuple[Collective, ...]:
    """Return how GPUs add up what products have made that are divided by rows."""
    if size.sharing.tensor == 1:
        return ()
    kind: Literal["reduce_scatter", "all_reduce"] = "reduce_scatter" if size.sharing.sequence_parallel else "all_reduce"
    return (Collective(kind=kind, among="tensor", nbytes=_whole(size)),)


def _whole(size: Dimensions) -> int:
    return size.element * size.tokens * size.hidden
