"""Reads a page: its text, headings, addresses and tables; fails on tags that do not close and on ids given twice."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = ("img", "meta", "input", "link", "br", "hr")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class PageText(HTMLParser):
    """What a page says.

    ``headings`` are pairs of tag and text; ``tables`` have rows of cells, each its text and its ``data-value``.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.feed(page)
        self.close()
        assert not self.open
        assert len(set(self.ids)) == len(self.ids), "an id is there twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag in _HEADINGS:
            self.headings.append((tag, ""))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append(("", given.get("data-value")))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self.open):
            return
        self.words.append(data)
        if set(self.open) & set(_HEADINGS):
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)
        if set(self.open) & {"th", "td"}:
            text, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (text + data, value)

    @property
    def text(self) -> str:
        """The page's text, spaces made one."""
        return " ".join(" ".join(self.words).split())
