"""GPUs share a model's work and state in several ways beside the pipeline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Says by how many GPUs what is shared.

    Attributes:
        tensor: GPUs that share a layer's work.
        sequence_parallel: whether what a layer does to each token alone is divided among them, too.
        expert: replicas among which a layer's experts are dealt out.
        data: replicas of the model.
        zero_stage: what is divided over replicas: 1 the optimizer's state, 2 gradients too, 3 weights too.
        shard: over how many replicas.
        overlap: whether replicas add up gradients while the last BACKWARD runs, and gather weights while a unit runs.
    """

    tensor: int = 1
    sequence_parallel: bool = False
    expert: int = 1
    data: int = 1
    zero_stage: int = 0
    shard: int = 1
    overlap: bool = True

    @property
    def expert_shard(self) -> int:
        """Return over how many replicas the state of a layer's experts is divided: those of a shard that hold the same.

        Consecutive replicas divide state, and consecutive ones deal out experts.
        """
        return self.shard // self.expert if self.shard % self.expert == 0 else 1
