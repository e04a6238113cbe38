"""The dimensions of a transformer, as one GPU of a tensor-parallel group sees them."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.scenarios.sharing import Sharing
from loadahead.sim.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Holds a model's shape, the tokens of a microbatch, and by how many GPUs a layer is shared.

    Attributes:
        hidden, heads, kv_heads, head_size, mlp, experts, experts_per_token, sequence, vocabulary: the whole model's.
        gated, rms, rotary, learned, flash, bias, qkv_bias, qk_norm, dropout: see the catalogue's ``Shape``.
        microbatch: sequences in a microbatch.
        element: bytes of an activation's element.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    mlp: int
    experts: int
    experts_per_token: int
    sequence: int
    vocabulary: int
    gated: bool
    rms: bool
    rotary: bool
    learned: bool
    flash: bool
    bias: bool
    qkv_bias: bool
    qk_norm: bool
    dropout: bool
    microbatch: int
    element: int
    sharing: Sharing

    def __post_init__(self) -> None:
        """Raise InputError where sizes or degrees do not go together."""
        t, e = self.sharing.tensor, self.sharing.expert
        if self.heads % self.kv_heads:
            raise InputError(f"model.kv_heads is {self.kv_heads}; it must divide heads, {self.heads}")
        if self.heads % t:
            raise InputError(f"parallel.tensor_parallel_degree is {t}; it must divide model.heads, {self.heads}")
        if self.kv_heads % t and t % self.kv_heads:
            raise InputError(
                f"parallel.tensor_parallel_degree is {t}; it must divide model.kv_heads, {self.kv_heads}, or be a "
                "multiple of it"
            )
        if self.mlp % t:
            raise InputError(f"parallel.tensor_parallel_degree is {t}; it must divide model.mlp, {self.mlp}")
        if self.sharing.sequence_parallel and self.sequence % t:
            raise InputError(
                f"parallel.tensor_parallel_degree is {t}; with parallel.sequence_parallel it must divide "
                f"model.sequence, {self.sequence}"
            )
        if bool(self.experts) != bool(self.experts_per_token) or self.experts_per_token > self.experts:
            raise InputError(
                f"model.experts is {self.experts} and experts_per_token {self.experts_per_token}; a mixture of experts "
                "has both, and a token goes to at most as many experts as there are; a dense model has 0 of both"
            )
        if self.experts and self.experts % e:
            raise InputError(
                f"parallel.expert_parallel_degree is {e}; it must divide model.experts, {self.experts}: use a smaller "
                "one"
            )

    @property
    def tokens(self) -> int:
        """Return how many tokens a microbatch has."""
        return self.sequence * self.microbatch

    @property
    def alone(self) -> int:
        """Return how many GPUs share what is done to each token alone: those of sequence parallelism."""
        return self.sharing.tensor if self.sharing.sequence_parallel else 1

    @property
    def queries(self) -> int:
        """Return the width of one GPU's queries."""
        return self.heads * self.head_size // self.sharing.tensor

    @property
    def keys(self) -> int:
        """Return the width of one GPU's keys; values are as wide. More GPUs than heads of keys have copies of them."""
        return max(1, self.kv_heads // self.sharing.tensor) * self.head_size

    @property
    def stream(self) -> int:
        """Return the bytes of the activations between parts of a layer, on one GPU: its boundary."""
        return -(-self.element * self.tokens * self.hidden // self.alone)

    def shared(self, nbytes: int) -> int:
        """Return one GPU's part of bytes that tensor parallelism divides."""
        return -(-nbytes // self.sharing.tensor)
