"""A validation as data: models, configurations of each, gradient checks, and where peers run beside us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadahead.sim.units import counted

# Drawn once and then copied, as a validation loads a model many times.
MODEL = "byte-gpt-cached"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A byte-level GPT of some size on some hardware.

    Attributes:
        options: of :func:`loadahead.executor.shipped_models.byte_gpt.build`.
        hardware: a scenario's ``[hardware]``.
        steps: of every run; the first is not timed.
        repeats: timed runs of each operation in its calibration.
    """

    name: str
    options: dict[str, Any]
    hardware: dict[str, Any]
    steps: int
    repeats: int = 12
    autocast: str = "none"
    learning_rate: float = 3e-4

    def scenario(self, configuration: Configuration) -> dict[str, Any]:
        """Return the configuration's scenario, as a file would hold it."""
        model = {
            "kind": "module",
            "python": MODEL,
            "options": self.options,
            "loss": "cross_entropy",
            "optimizer": "adamw",
            "learning_rate": self.learning_rate,
            "autocast": self.autocast,
            "steps": self.steps,
        }
        own = {"name": configuration.name, "model": model, "hardware": self.hardware}
        return own | configuration.tables()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One plan to predict and to run. ``copies``: how often each boundary is copied, which slows the links so much."""

    model: str
    microbatches: int = 8
    pipeline: str = "simple"
    horizon: int = 4
    horizon_unit: str = "tasks"
    release_window: int = 1
    copies: int = 1
    offload: bool = True

    @property
    def name(self) -> str:
        """The configuration in words; no two of a grid have the same."""
        own = f"{self.model}, {self.microbatches} microbatches, {self.pipeline}"
        if not self.offload:
            return f"{own}, without offload"
        window = f", window {self.release_window}" if self.release_window != 1 else ""
        copied = f", copied {self.copies} times" if self.copies != 1 else ""
        horizon = counted(self.horizon, self.horizon_unit.removesuffix("s"))
        return f"{own}, horizon {horizon}{window}{copied}"

    def tables(self) -> dict[str, Any]:
        """Return the scenario's tables that it decides."""
        return {
            "parallel": {"microbatches": self.microbatches, "pipeline": self.pipeline},
            "offload": {
                "offload_activations": self.offload,
                "activation_loading_horizon": self.horizon,
                "horizon_unit": self.horizon_unit,
                "release_window": self.release_window,
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what tells this one from others, as records hold it."""
        return {"name": self.name} | {key: getattr(self, key) for key in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCase:
    """A model, a number of microbatches and an order with which peers are run."""

    model: str
    microbatches: int = 8
    pipeline: str = "simple"

    def to_dict(self) -> dict[str, Any]:
        """Return what tells this one from others, as records hold it."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    @property
    def plain(self) -> Configuration:
        """The configuration whose order of passes they follow."""
        return Configuration(model=self.model, microbatches=self.microbatches, pipeline=self.pipeline, offload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A whole validation.

    Attributes:
        claims: what it is to show, by the names of :data:`loadahead.reports.verdicts.CLAIMS`, and within which limits.
        peer_steps: timed steps of each peer.
    """

    sizes: tuple[ModelSize, ...]
    configurations: tuple[Configuration, ...]
    gradients: tuple[Configuration, ...] = ()
    peers: tuple[PeerCase, ...] = ()
    claims: Mapping[str, float] = field(default_factory=dict)
    peer_steps: int = 3

    def of(self, size: ModelSize) -> tuple[Configuration, ...]:
        """Return the configurations of one model."""
        return tuple(configuration for configuration in self.configurations if configuration.model == size.name)


def without(model: str, microbatches: int = 8, pipeline: str = "simple") -> Configuration:
    """Return a configuration in which nothing is offloaded."""
    return PeerCase(model=model, microbatches=microbatches, pipeline=pipeline).plain


def horizons(model: str, values: Sequence[int], **more: Any) -> Iterator[Configuration]:
    """Return one configuration for each horizon."""
    return (Configuration(model=model, horizon=horizon, **more) for horizon in values)
