"""Opens pages in headless Chromium, as a reader would: at a desk or on a phone, on a light or a dark ground.

Tests here are skipped, and say so, where no Chromium, no Playwright or no axe-core is; `make browser` installs what
they need. A page takes seconds to make: `made` keeps it for all tests of a process.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import PAGES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
WIDTHS = {"desk": (1400, 1000), "phone": (390, 844)}
GROUNDS = ("light", "dark")
# Of minor, moderate, serious and critical: https://github.com/dequelabs/axe-core/blob/develop/doc/API.md#results-object
GRAVE = ("serious", "critical")
# Without these Chromium looks for its maker's hosts.
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, started once for all tests of a process."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: `make browser` installs Debian's")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What pages said on their consoles; by the test's end that must be nothing, or have been taken away."""
    words: list[str] = []
    yield words
    assert words == [], f"the page's console: {words}"


@pytest.fixture
def opened(browser: Any, said: list[str]) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a file as a page."""
    contexts = []

    def open_file(path: Path, width: str = "desk", ground: str = "light", **settings: Any) -> Any:
        wide, high = WIDTHS[width]
        context = browser.new_context(
            viewport={"width": wide, "height": high}, color_scheme=ground, offline=True, **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes the page of that name in `PAGES`, once for all tests of a process."""
    return cache(lambda name: PAGES[name](tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which looks through a page for what keeps people from using it."""
    if not AXE.exists():
        pytest.skip("no axe-core here: `make browser` installs it from npm")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def audit(axe: str) -> Callable[[Any], None]:
    """Return a function that fails where axe finds something serious or critical on a page, as the page then is."""

    def look(page: Any) -> None:
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert found["passes"], "axe looked at nothing"
        grave = [violation for violation in found["violations"] if violation["impact"] in GRAVE]
        assert not grave, "\n".join(line for violation in grave for line in _told(violation))

    return look


def _told(violation: dict[str, Any]) -> Iterator[str]:
    yield f"{violation['impact']}: {violation['id']}: {violation['help']} ({violation['helpUrl']})"
    for node in violation["nodes"]:
        yield f"  at {' '.join(map(str, node['target']))}: {' '.join(str(node['failureSummary']).split())}"
