"""Looking finds faults: the audit what keeps people from using a page, the watch on the console a word there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = "<!doctype html><html lang='en'><title>A page</title><main><h1>A page</h1>{}</main></html>"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(body: str) -> Path:
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(body), encoding="utf-8")
        return path

    return write


def test_a_sound_page_passes(written: Callable[[str], Path], opened: Any, audit: Any) -> None:
    audit(opened(written("<p>Sound.</p>")))


def test_the_audit_tells_rule_and_target(written: Callable[[str], Path], opened: Any, audit: Any) -> None:
    page = opened(written("<p id='pale' style='color: #ccc'>Pale.</p><img id='dumb' src='data:,'>"))
    with pytest.raises(AssertionError, match=r"(?s)critical: image-alt: .* at #dumb: .*") as told:
        audit(page)
    assert "serious: color-contrast: " in str(told.value) and " at #pale: " in str(told.value)


def test_words_on_the_console_are_heard(written: Callable[[str], Path], opened: Any, said: list[str]) -> None:
    page = opened(written("<script>console.log('a word')</script><script>nobody.there</script>"))
    assert page.title() == "A page"
    assert said == ["a word", "nobody is not defined"]
    said.clear()
