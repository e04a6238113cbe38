"""docs/models.md says what the catalogue has, and where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models_page import parts

PAGE = Path(__file__).parents[4] / "docs" / "models.md"


@pytest.mark.parametrize("part", parts(), ids=["sizes", "sources"])
def test_the_page_has_it(part: str) -> None:
    assert f"\n\n{part}\n" in PAGE.read_text("utf-8"), "python -m tests.support.models_page prints what belongs there"
