"""``kind = "transformer"``: a GPT by its shape, with FLOPs and bytes from published formulas.

FLOPs: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM" (2021),
section 3.4: 24bsh² + 4bs²h for a layer's forward, twice that for its backward, 6bshV for the logits both ways.
Activations: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022), equations 1
and 2: a layer keeps sbh(34 + 5as/h) bytes, with tensor parallelism t sbh(10 + 24/t + 5as/(ht)); its input is 2sbh.
State: Rajbhandari et al., "ZeRO" (2020), section 3.1: 16 bytes per parameter with Adam and mixed precision.
"""

from __future__ import annotations

from typing import Any, Literal

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from loadahead.scenarios.fields import Count, one_of
from loadahead.scenarios.kinds.base import Model, Setting, Units
from loadahead.scenarios.layers import Layer
from loadahead.sim.costs import LIMIT, UnitCost
from loadahead.sim.errors import InputError

# ZeRO, section 3.1: weights and gradients in 16 bit, and a copy of the weights and two moments in 32 bit.
STATE_BYTES = 2 + 2 + 12
# An Adam step reads all of that and writes all but the gradients.
STEP_BYTES = STATE_BYTES + (2 + 12)
# bfloat16 activations; token ids are int64; the loss is computed in float32.
ACTIVATION, ID, FLOAT = 2, 8, 4


class Transformer(Model):
    """A GPT's shape, from a preset or written here; ``microbatch_size`` sequences make a microbatch."""

    kind: Literal["transformer"]
    preset: one_of(*TRANSFORMERS) | None = None  # type: ignore[valid-type]
    layers: Count | None = None
    hidden: Count | None = None
    heads: Count | None = None
    sequence: Count | None = None
    vocabulary: Count | None = None
    microbatch_size: Count = 1

    def shape(self, name: str) -> int:
        """A dimension as written, or else the preset's; InputError where there is neither."""
        own: int | None = getattr(self, name)
        if own is None and self.preset is not None:
            own = getattr(TRANSFORMERS[self.preset], name)
        if own is None:
            raise InputError(f"model.{name} is missing; write it, or preset = one of {', '.join(TRANSFORMERS)}")
        return own

    def units(self, setting: Setting) -> Units:
        hidden, heads, t = self.shape("hidden"), self.shape("heads"), setting.parallel.tensor_parallel_degree
        if hidden % heads:
            raise InputError(f"model.hidden is {hidden}; it must be a multiple of heads, {heads}")
        if heads % t:
            raise InputError(f"parallel.tensor_parallel_degree is {t}; it must divide model.heads, {heads}")
        block = self._block(setting)
        return setting.cut([self._embedding(setting), *[block] * self.shape("layers"), self._head(setting)])

    def advice(self, setting: Setting) -> list[str]:
        if setting.parallel.tensor_parallel_degree == 1:
            return []
        return ["parallel.tensor_parallel_degree divides work and memory; the time of its all-reduces is not modelled"]

    def _tokens(self) -> int:
        return self.shape("sequence") * self.microbatch_size

    def _boundary(self) -> int:
        return ACTIVATION * self._tokens() * self.shape("hidden")

    def _block(self, setting: Setting) -> Layer:
        s, h, a, sb = self.shape("sequence"), self.shape("hidden"), self.shape("heads"), self._tokens()
        t = setting.parallel.tensor_parallel_degree
        kept = sb * h * 10 + (24 * sb * h + 5 * a * s * sb) // t
        return self._layer(
            setting,
            flops=24 * sb * h * h + 4 * sb * s * h,
            saved=kept - self._boundary(),
            parameters=12 * h * h + 13 * h,
            boundary=self._boundary(),
            gradient=self._boundary(),
        )

    def _embedding(self, setting: Setting) -> Layer:
        """A look-up: no FLOPs to speak of. It keeps the mask of its dropout, a byte per element."""
        parameters = (self.shape("vocabulary") + self.shape("sequence")) * self.shape("hidden")
        return self._layer(
            setting,
            flops=0,
            saved=self._boundary() // ACTIVATION,
            parameters=parameters,
            boundary=ID * self._tokens(),
            gradient=0,
        )

    def _head(self, setting: Setting) -> Layer:
        """Logits and loss. Kept: the norm's output and the logits in 32 bit (Korthikanti et al., section 4.3)."""
        sb, h, v = self._tokens(), self.shape("hidden"), self.shape("vocabulary")
        t = setting.parallel.tensor_parallel_degree
        return self._layer(
            setting,
            flops=2 * sb * h * v,
            saved=self._boundary() + FLOAT * sb * v // t,
            parameters=h * v + 2 * h,
            boundary=self._boundary(),
            gradient=self._boundary(),
        )

    def _layer(
        self, setting: Setting, *, flops: int, saved: int, parameters: int, boundary: int, gradient: int
    ) -> Layer:
        t, hardware = setting.parallel.tensor_parallel_degree, setting.hardware
        speed = int(hardware.needed("flops", "989 TFLOP/s") * hardware.efficiency)
        forward = _ns(flops, speed * t)
        bandwidth, state = hardware.figure("memory_bandwidth"), -(-parameters // t)
        figures: dict[str, Any] = {
            "boundary_bytes": boundary,
            "gradient_bytes": gradient,
            "saved_bytes": saved,
            "static_bytes": state * STATE_BYTES,
            "optimizer_ns": _ns(state * STEP_BYTES, bandwidth) if bandwidth else 0,
        }
        most = max(*figures.values(), 2 * forward)
        if most > LIMIT:
            raise InputError(f"model: one layer needs {most} bytes or ns; at most {LIMIT} is possible, make it smaller")
        cost = UnitCost(forward_ns=forward, recompute_ns=forward, backward_ns=2 * forward)
        return Layer(**figures, weight=flops, cost=cost)


def _ns(amount: int, per_second: int) -> int:
    """Time of so many FLOPs or bytes, rounded up."""
    return -(-amount * 1_000_000_000 // max(per_second, 1))
