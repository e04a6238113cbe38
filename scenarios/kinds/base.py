"""A kind of model is a table of the scenario file that can turn itself into each stage's units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.fields import Table
from loadahead.scenarios.kept import Kept
from loadahead.scenarios.layers import Cut, Layer, Units, by_hand, deal_out, group, shown_list
from loadahead.scenarios.roofline import Compute
from loadahead.scenarios.sharing import Sharing
from loadahead.sim.errors import InputError
from loadahead.sim.units import counted
from loadahead.sim.work import NOT_COUNTED, Work
from loadahead.sim.workload import ModuleShapes

# Cuts that were made before; a key holds all that the cut follows from, and begins with how it was made.
Cuts = Kept[Cut]
# More layers than this are a slip of the pen, and their list would fill the memory.
MOST_LAYERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Holds all that a model's units depend on beside its own table; settings that are equal give equal units.

    Attributes:
        ranks: number of GPUs in the pipeline.
        stages: number of stages that the model is cut into; above ``ranks`` a rank holds several.
        placement: the rank of each stage, -1 where none has it; None: one stage on each rank.
        checkpoint: whether activation checkpointing is on.
        strategy: how checkpointing groups layers into units.
        partition: how many layers each stage has; None: they are dealt out by their work.
        compute: how fast a GPU computes; links are no part of it.
        sharing: how GPUs share the model's work and state beside the pipeline.
        collectives: how long what they tell each other takes; None: it takes no time.
        granularity: "full", or "selective", which recomputes attention's core alone.
        shapes: the traced module's layers, where the kind needs them.
        estimated: whether a traced module has times by roofline; else it has none before it is calibrated.
    """

    ranks: int
    stages: int
    checkpoint: bool
    strategy: str
    compute: Compute
    sharing: Sharing = field(default_factory=Sharing)
    collectives: Collectives | None = None
    granularity: str = "full"
    partition: tuple[int, ...] | None = None
    placement: tuple[int, ...] | None = None
    shapes: ModuleShapes | None = None
    estimated: bool = False

    @property
    def tensor_parallel_degree(self) -> int:
        """Return the number of GPUs that share a stage's work."""
        return self.sharing.tensor

    def cut(self, runs: Sequence[tuple[Layer, int]], cuts: Cuts) -> Units:
        """Return the layers dealt out over stages and grouped into units, one layer each without checkpointing.

        ``runs`` holds layers in the model's order, each with how many like it follow each other. Raise InputError for
        more than :data:`MOST_LAYERS`, and for a partition that does not go with the layers and the stages.
        """
        layers, counts = zip(*runs, strict=True)
        if sum(counts) > MOST_LAYERS:
            raise InputError(f"the model has {sum(counts)} layers; at most {MOST_LAYERS} are planned, use fewer")
        weights = tuple([layer.weight for layer in layers])
        strategy = self.strategy if self.checkpoint else "each"
        if self.partition is not None:
            partition = self.partition
            by_number = ("by hand", partition, counts, self.stages, strategy)
            return Units(layers, cuts.get(by_number, lambda: self._by_hand(partition, counts, strategy)))
        key = ("dealt out", weights, counts, self.stages, strategy)
        return Units(layers, cuts.get(key, lambda: self._dealt_out(weights, counts, strategy)))

    def _by_hand(self, partition: tuple[int, ...], counts: Sequence[int], strategy: str) -> Cut:
        if len(partition) != self.stages:
            said = "parallel.pipeline_parallel_degree is" if self.stages == self.ranks else "the number of stages is"
            raise InputError(
                f"checkpoint.partition = {shown_list(partition)} is of {counted(len(partition), 'stage')} and {said} "
                f"{self.stages}; give the number of layers of each stage"
            )
        numbers = [number for number, count in enumerate(counts) for _ in range(count)]
        stages = by_hand(partition, len(numbers))
        return Cut.of(group(numbers[stage.start : stage.stop], strategy) for stage in stages)

    def _dealt_out(self, weights: Sequence[int], counts: Sequence[int], strategy: str) -> Cut:
        numbers = [number for number, count in enumerate(counts) for _ in range(count)]
        if len(numbers) < self.stages != self.ranks:
            raise InputError(
                f"the model is cut into {self.stages} stages and has {len(numbers)} layers; each stage needs at least "
                "one: use fewer stages"
            )
        dealt_out = deal_out([weights[number] for number in numbers], self.stages)
        return Cut.of(group(numbers[stage.start : stage.stop], strategy) for stage in dealt_out)


class Model(Table):
    """Is the base of the scenario's ``[model]``.

    A kind adds its keys, :meth:`units`, :meth:`described` and :meth:`cautions`.
    """

    # True for a kind that has to be built and traced before it can be planned.
    needs_shapes: ClassVar[bool] = False
    # True for a kind whose table describes one stage, so that more stages are a larger model.
    grows_with_stages: ClassVar[bool] = False
    # True for a kind that knows what inside a unit is recomputed selectively.
    recomputes_selectively: ClassVar[bool] = False
    # Where its times come from, as a sentence says it; None for a kind that counts FLOPs.
    times: ClassVar[str | None] = None

    # True for a kind that says what of its times is communication.
    counts_communication: ClassVar[bool] = False

    # Whose figures it has, where GPUs that share a model divide none of them, as a sentence says it.
    undivided: ClassVar[str | None] = None

    kind: str

    def units_known(self, stages: int) -> int:
        """Return how many units so many stages have, where the table says it; 0 where it follows from the layers."""
        return 0

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return every stage's units; raise InputError where the tables do not go together."""
        raise NotImplementedError

    def work(self, setting: Setting) -> Work:
        """Return what a microbatch is, as far as the kind knows."""
        return NOT_COUNTED

    def described(self, layers: Sequence[Layer]) -> str:
        """Return what the model is, in words, e.g. ``llama3-8b (8.03 billion parameters)``; ``layers`` are its own."""
        raise NotImplementedError

    def cautions(self, setting: Setting) -> list[str]:
        """Return warnings about settings that are without effect for this kind."""
        raise NotImplementedError
