"""``kind = "transformer"`` describes a GPT by its shape; FLOPs and bytes follow from published formulas.

FLOPs: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM" (2021),
section 3.4: a layer's forward takes 24bsh² + 4bs²h, its backward twice that, and the logits 6bshV both ways.
Activations: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022), equations 1
and 2: a layer keeps sbh(34 + 5as/h) bytes, with tensor parallelism t sbh(10 + 24/t + 5as/(ht)); its input is 2sbh.
State: Rajbhandari et al., "ZeRO" (2020), section 3.1: Adam in mixed precision holds 16 bytes per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS, allowed_models
from loadahead.scenarios.fields import Count, not_allowed
from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.layers import Layer, Units
from loadahead.scenarios.roofline import Compute
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT

# ZeRO, section 3.1: weights and gradients take 16 bits each; a copy of the weights and two moments take 32 bits each.
STATE_BYTES = 2 + 2 + 12
# An Adam step reads all of that and writes all but the gradients.
STEP_BYTES = STATE_BYTES + (2 + 12)
# Activations are bfloat16, token ids int64, and the loss is computed in float32.
ACTIVATION, ID, FLOAT = 2, 8, 4


def _preset(value: object) -> str:
    if not isinstance(value, str) or value not in TRANSFORMERS:
        raise not_allowed(allowed_models(value))
    return value


class Transformer(Model):
    """Describes a GPT's shape, from a preset or as written; ``microbatch_size`` sequences make a microbatch."""

    kind: Literal["transformer"]
    preset: Annotated[str, BeforeValidator(_preset)] | None = None
    layers: Count | None = None
    hidden: Count | None = None
    heads: Count | None = None
    sequence: Count | None = None
    vocabulary: Count | None = None
    microbatch_size: Count = 1

    def shape(self, name: str) -> int:
        """Return a dimension as written, or else the preset's; raise InputError where there is neither."""
        own: int | None = getattr(self, name)
        if own is None and self.preset is not None:
            own = getattr(TRANSFORMERS[self.preset], name)
        if own is None:
            raise InputError(f"model.{name} is missing; write it, or preset; {allowed_models()}")
        return own

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return every stage's units: embedding, blocks and head; raise InputError when sizes do not go together."""
        hidden, heads, t = self.shape("hidden"), self.shape("heads"), setting.tensor_parallel_degree
        if hidden % heads:
            raise InputError(f"model.hidden is {hidden}; it must be a multiple of heads, {heads}")
        if heads % t:
            raise InputError(f"parallel.tensor_parallel_degree is {t}; it must divide model.heads, {heads}")
        sequence = self.shape("sequence")
        tokens = sequence * self.microbatch_size
        size = _Size(hidden=hidden, heads=heads, sequence=sequence, tokens=tokens, t=t, compute=setting.compute)
        block = size.block()  # the first that is too large is told
        vocabulary, layers = self.shape("vocabulary"), self.shape("layers")
        return setting.cut([(size.embedding(vocabulary), 1), (block, layers), (size.head(vocabulary), 1)], cuts)

    def cautions(self, setting: Setting) -> list[str]:
        """Return a warning when tensor parallelism is asked for, whose all-reduces are not modelled."""
        if setting.tensor_parallel_degree == 1:
            return []
        return ["parallel.tensor_parallel_degree divides work and memory; the time of its all-reduces is not modelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Holds a block's dimensions, the tokens of a microbatch, and how many GPUs of which speed share a layer."""

    hidden: int
    heads: int
    sequence: int
    tokens: int
    t: int
    compute: Compute

    def block(self) -> Layer:
        s, h, a, sb, t = self.sequence, self.hidden, self.heads, self.tokens, self.t
        kept = sb * h * 10 + (24 * sb * h + 5 * a * s * sb) // t
        return self._layer(
            kind="block",
            flops=24 * sb * h * h + 4 * sb * s * h,
            saved=kept - self._boundary(),
            parameters=12 * h * h + 13 * h,
            boundary=self._boundary(),
            gradient=self._boundary(),
        )

    def embedding(self, vocabulary: int) -> Layer:
        """Return the embedding: its look-up takes no FLOPs, and it keeps its dropout's mask, a byte per element."""
        return self._layer(
            kind="embedding",
            flops=0,
            saved=self._boundary() // ACTIVATION,
            parameters=(vocabulary + self.sequence) * self.hidden,
            boundary=ID * self.tokens,
            gradient=0,
        )

    def head(self, vocabulary: int) -> Layer:
        """Return the layer of logits and loss.

        It keeps the norm's output and the logits in 32 bits (Korthikanti et al., section 4.3).
        """
        sb, h, v = self.tokens, self.hidden, vocabulary
        return self._layer(
            kind="head",
            flops=2 * sb * h * v,
            saved=self._boundary() + FLOAT * sb * v // self.t,
            parameters=h * v + 2 * h,
            boundary=self._boundary(),
            gradient=self._boundary(),
        )

    def _boundary(self) -> int:
        return ACTIVATION * self.tokens * self.hidden

    def _layer(self, *, kind: str, flops: int, saved: int, parameters: int, boundary: int, gradient: int) -> Layer:
        forward = self.compute.products_ns(-(-flops // self.t), flops // self.t)
        bandwidth, state = self.compute.memory_bandwidth, -(-parameters // self.t)
        amounts: dict[str, Any] = {
            "boundary_bytes": boundary,
            "gradient_bytes": gradient,
            "saved_bytes": saved,
            "static_bytes": state * STATE_BYTES,
            "optimizer_ns": _ns(state * STEP_BYTES, bandwidth) if bandwidth else 0,
        }
        largest = max(*amounts.values(), 2 * forward)
        if largest > LARGEST_AMOUNT:
            raise InputError(
                f"model: one layer needs {largest} bytes or ns; at most {LARGEST_AMOUNT} is possible, make it smaller"
            )
        cost = UnitCost(forward_ns=forward, recompute_ns=forward, backward_ns=2 * forward)
        # All FLOPs grow with the tokens: per token, models of all sizes of microbatch have the same weights.
        own = -(-flops // self.t)
        return Layer(**amounts, weight=flops // self.tokens, cost=cost, flops=own, kind=kind)


def _ns(amount: int, per_second: int) -> int:
    """Return how long so many FLOPs or bytes take, in ns, rounded up."""
    return -(-amount * 1_000_000_000 // max(per_second, 1))
