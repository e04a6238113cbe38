"""Every page opens without a word on its console, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadahead.cli.main import run
from tests.browser.conftest import GROUNDS, WIDTHS


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a prediction alone."""
    folder = tmp_path_factory.mktemp("prediction")
    assert run(["simulate", "two-rank", "-o", str(folder)]) == 0
    assert run(["report", str(folder)]) == 0
    return folder / "report.html"


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_prediction_alone(prediction: Path, opened: Callable[..., Any], width: str, ground: str) -> None:
    page = opened(prediction, width, ground)
    assert page.title().startswith("Loadahead")
    # Nothing lies beyond the right edge.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
