"""Every kind of page opens without a word on its console, fits the screen and passes axe's audit.

Each is looked at wide and narrow, light and dark.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import GROUNDS, WIDTHS
from tests.browser.pages import PAGES

Made = Callable[[str], Path]
Opened = Callable[..., Any]


@pytest.fixture(params=PAGES)
def path(request: pytest.FixtureRequest, browser: Any, made: Made) -> Path:
    """Each page; none is made where no browser would open it."""
    return made(request.param)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_the_screen(path: Path, opened: Opened, width: str, ground: str) -> None:
    page = opened(path, width, ground)
    assert page.title().startswith("Loadahead")
    # Nothing lies beyond the right edge.
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0]


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_passes_the_audit(
    path: Path, opened: Opened, audit: Callable[[Any], None], width: str, ground: str
) -> None:
    audit(opened(path, width, ground))
