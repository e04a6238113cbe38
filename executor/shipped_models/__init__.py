"""Registers the models that come with Loadahead, by the word that a scenario's ``model.python`` has for each.

To add one: write its file with ``build(**options)`` and ``batch(step, microbatch, microbatches, **options)``, and add
its line here. The word does not say where Loadahead is installed, so plan files that hold it work everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadahead.executor.shipped_models import byte_gpt


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """Holds a model's builder and the data that it is trained on where the scenario names none.

    Attributes:
        drawn: for a model that is kept on a GPU (:mod:`loadahead.executor.shipped_models.kept`), the builder that draws
            the same one anew, without a copy on the host.
    """

    build: Callable[..., Any]
    batch: Callable[..., Any]
    drawn: Callable[..., Any] | None = None


SHIPPED_MODELS = {
    "byte-gpt": ShippedModel(byte_gpt.build, byte_gpt.batch),
    # This one is drawn once in a process and then copied, on a GPU there, for a large model that is loaded many times.
    "byte-gpt-cached": ShippedModel(byte_gpt.copied, byte_gpt.batch, drawn=byte_gpt.build),
}

__all__ = ["SHIPPED_MODELS", "ShippedModel"]
