"""A traced layer's times by roofline: its matrix products by their FLOPs, its other operators by the bytes they move.

FORWARD and RECOMPUTE do the same work. BACKWARD does about twice as much of both:

- A product Y = XW of FORWARD has two in BACKWARD, dX = dY Wᵀ and dW = Xᵀ dY, each of as many FLOPs.
- An operator that reads x and writes y has one that reads dy and x (or y, or a mask) and writes dx: three transfers
  instead of two. Norms and biases read dy and x once more for their parameters, gradients of branches that meet are
  added up, and those of weights are added to what microbatches before left.

Nothing is left out where an input needs no gradient or a weight is not trained: BACKWARD is rather too long there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadahead.scenarios.roofline import Compute
from loadahead.sim.costs import UnitCost
from loadahead.sim.workload import LayerShape

# How many times FORWARD's products, bytes and kernels BACKWARD has; see above.
BACKWARD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Estimates the times of layers on one GPU.

    Attributes:
        state_parts: how many parts of equal size weights, gradients and the optimizer's state are together: 4 with
            Adam's two moments, 2 with plain SGD. A step reads them all, and writes all but the gradients.
    """

    compute: Compute
    state_parts: int

    def cost(self, shape: LayerShape) -> UnitCost:
        """Return a layer's times, and the workspaces where a trace knows them; what its graph keeps is no part of them.

        The trace's are those of the executor's operations on the CPU.
        """
        forward = self._passes_ns(shape, 1)
        return UnitCost(
            forward_ns=forward,
            recompute_ns=forward,
            backward_ns=self._passes_ns(shape, BACKWARD),
            workspace_forward=shape.workspace_forward,
            workspace_recompute=max(0, shape.workspace_recompute - shape.saved_bytes),
            workspace_backward=max(0, shape.workspace_backward - shape.saved_bytes),
        )

    def optimizer_ns(self, static_bytes: int) -> int:
        """Return how long the optimizer's step takes over so many bytes of weights, gradients and state."""
        return self.compute.streamed_ns(static_bytes * (2 * self.state_parts - 1) // self.state_parts)

    def _passes_ns(self, shape: LayerShape, times: int) -> int:
        """Return how long so many times the work of a layer's FORWARD takes."""
        products = self.compute.products_ns(times * shape.flops, shape.flops // max(shape.products, 1))
        return products + self.compute.moved_ns(times * shape.moved_bytes, times * shape.kernels)


def with_moved_bytes(layers: Sequence[LayerShape]) -> list[LayerShape]:
    """Return the layers with the bytes that they move, which a trace need not have counted.

    Where it has counted nothing of any layer, a layer is one kernel that reads its input and writes what its graph
    keeps and its output, the next layer's input.
    """
    if any(layer.products or layer.moved_bytes or layer.kernels for layer in layers):
        return list(layers)
    outputs = [*(layer.input_bytes for layer in layers[1:]), 0]
    return [
        replace(layer, moved_bytes=layer.input_bytes + layer.saved_bytes + output, kernels=1)
        for layer, output in zip(layers, outputs, strict=True)
    ]
