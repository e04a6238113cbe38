"""Makes a page's last sections: traces to open elsewhere, and the commands that made its files or make them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from loadahead.reports.page.commands import PageCommands
from loadahead.reports.page.markup import Html, element, joined, links
from loadahead.reports.page.outline import Block, Section, section
from loadahead.reports.run_data import RunData

# Traces that a directory may hold, by their names' patterns, and what opens each.
TRACES = {
    "*.pftrace": "opens at ui.perfetto.dev",
    "trace.json": "opens at chrome://tracing and ui.perfetto.dev",
    "*.pickle": "opens at pytorch.org/memory_viz",
}


def traces_section(data: RunData, commands: PageCommands) -> Section:
    """Return links to the directory's traces, or where it holds none the commands that write them."""
    key, title = "traces", "Traces"
    found = [
        element("li", links([path.name]), f" {opens}")
        for pattern, opens in TRACES.items()
        if data.directory is not None
        for path in sorted(data.directory.glob(pattern))
    ]
    if found:
        return section(key, title, element("ul", *found))
    if not commands.traces or (data.predicted is None and data.measured is None):
        return section(key, title)
    words = element("p", "This folder holds none. Given in it, this writes one:")
    return section(key, title, joined(words, _shell(commands.traces)))


def reproduce_section(data: RunData, commands: PageCommands) -> Section:
    """Return the commands that made the directory's files, and those that make them again in it."""
    blocks = []
    made = data.made_by
    if made:
        words = element(
            "p", "As they were given; their paths begin in the folder that they were given in.", class_="note"
        )
        blocks.append(Block(title="What made these files", body=joined(words, _shell(map(shlex.join, made)))))
    if commands.again:
        blocks.append(Block(title="In this folder", body=_shell(commands.again)))
    return section("reproduce", "To reproduce", *blocks)


def _shell(lines: Iterable[str]) -> Html:
    return element("pre", element("code", "\n".join(lines)), tabindex="0")
