from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.field.commands import Field


@pytest.fixture
def field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Field]:
    """Make a scenario of a model, to run commands on."""

    def make(build: str, **given: Any) -> Field:
        return Field(tmp_path, capsys, build, **given)

    return make
