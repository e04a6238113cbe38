"""Weights need state: a gradient, a copy in full precision, and what the optimizer keeps. ZeRO divides it.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (2020): section 3.1 counts 16
bytes per parameter for Adam in mixed precision, section 5 divides optimizer state (1), gradients (2) and weights (3).
"""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.scenarios.sharing import Sharing

# Bytes of an element.
DTYPES = {"bfloat16": 2, "float16": 2, "float32": 4}
FLOAT = 4
# Bytes that an optimizer keeps per parameter. AdamW: two moments in float32 (Loshchilov and Hutter, 2019). adamw8bit:
# two in a byte each (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022). Lion (Chen et al.,
# "Symbolic Discovery of Optimization Algorithms", 2023) and SGD with momentum: one in float32.
OPTIMIZERS = {"adamw": 8, "adamw8bit": 2, "lion": 4, "momentum": 4, "sgd": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Says what one parameter needs, in bytes, and how replicas divide it.

    Attributes:
        weight, gradient: of the weight that layers compute with, and of its gradient.
        master: of the weight's copy in full precision; 0 where there is none.
        moments: what the optimizer keeps.
    """

    weight: int
    gradient: int
    master: int
    moments: int
    sharing: Sharing

    def resident(self, parameters: int, expert_parameters: int) -> int:
        """Return the bytes that one GPU holds between operations for its part of so many parameters."""
        return sum(
            _part((self.master + self.moments) * count, z >= 1, shard)
            + _part(self.gradient * count, z >= 2, shard)
            + _part(self.weight * count, z >= 3, shard)
            for count, z, shard in self._divided(parameters, expert_parameters)
        )

    def stepped(self, parameters: int, expert_parameters: int) -> int:
        """Return the bytes that one GPU's optimizer reads and writes in a step.

        All is read, and all but gradients written. Before that gradients are read for their norm, and read and written
        to be clipped by it (Pascanu et al., "On the difficulty of training recurrent neural networks", 2013), and after
        it they are set to zero.
        """
        own = self.weight + self.master + self.moments
        return sum(
            _part((5 * self.gradient + 2 * own) * count, z >= 1, shard)
            for count, z, shard in self._divided(parameters, expert_parameters)
        )

    def whole_weights(self, parameters: int, expert_parameters: int) -> int:
        """Return the bytes of a layer's weights that are whole only while it runs."""
        return sum(self.weight * count for count in self._sharded(3, parameters, expert_parameters))

    def whole_gradients(self, parameters: int, expert_parameters: int) -> int:
        """Return the bytes of a layer's gradients that are whole only until replicas have added them up."""
        return sum(self.gradient * count for count in self._sharded(2, parameters, expert_parameters))

    def _sharded(self, stage: int, parameters: int, expert_parameters: int) -> list[int]:
        """Return the numbers of weights that are divided over several GPUs, where ZeRO's stage divides them."""
        return [count for count, z, shard in self._divided(parameters, expert_parameters) if z >= stage and shard > 1]

    def _divided(self, parameters: int, expert_parameters: int) -> tuple[tuple[int, int, int], ...]:
        """Return of both sorts of weights how many there are, the stage of ZeRO, and over how many it divides them."""
        z = self.sharing.zero_stage
        return (parameters, z, self.sharing.shard), (expert_parameters, z, self.sharing.expert_shard)


def _part(nbytes: int, divided: bool, shard: int) -> int:
    return -(-nbytes // shard) if divided else nbytes
