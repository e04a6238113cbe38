"""Reads the page's template, styles and script, which lie beside the reports, and renders it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from loadahead.reports.page.markup import Html
from loadahead.reports.palette import GROUNDS, declarations

_PACKAGE, _FOLDER = "loadahead.reports", "web"
TEMPLATE = "page.html"


def asset(name: str) -> str:
    """Return the text of a file of ``reports/web``."""
    return files(_PACKAGE).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def palette_css() -> str:
    """Return the palette as style sheets have it: light, or dark as the reader's system or the page's switch says.

    Paper is light.
    """
    light, dark = (f"color-scheme: {ground}; {declarations(ground)}" for ground in GROUNDS)
    return "\n".join(
        [
            f":root {{ {light} }}",
            f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-ground="light"]) {{ {dark} }} }}',
            f'@media screen {{ :root[data-ground="dark"] {{ {dark} }} }}',
        ]
    )


def rendered(name: str = TEMPLATE, /, **content: Any) -> str:
    """Return a template with its content; text is escaped unless it is :class:`loadahead.reports.page.markup.Html`."""
    return _environment().get_template(name).render(**content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=lambda name: Html(asset(name)), palette_css=lambda: Html(palette_css()))
    return environment
