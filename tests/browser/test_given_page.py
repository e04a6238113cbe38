"""A page that is named by LOADAHEAD_PAGE, such as that of `make demo`, opens as those that tests make do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import GROUNDS, WIDTHS

GIVEN = os.environ.get("LOADAHEAD_PAGE")


@pytest.mark.skipif(GIVEN is None, reason="LOADAHEAD_PAGE names no page; .ci/run gives the demo's")
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_given_page(opened: Callable[..., Any], audit: Callable[[Any], None], width: str, ground: str) -> None:
    assert GIVEN is not None
    page = opened(Path(GIVEN), width, ground)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    audit(page)
