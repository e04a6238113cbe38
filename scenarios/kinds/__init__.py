"""The kinds of ``[model]`` are known by name. To add one, write its file and add its line here."""

from __future__ import annotations

from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.kinds.module import Module
from loadahead.scenarios.kinds.transformer import Transformer
from loadahead.scenarios.kinds.uniform import Uniform

KINDS: dict[str, type[Model]] = {"uniform": Uniform, "transformer": Transformer, "module": Module}

__all__ = ["KINDS", "Cuts", "Model", "Setting"]
