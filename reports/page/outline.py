"""Holds what a page shows, in order: parts, of which each is a run or a sweep, their sections, and blocks of these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadahead.reports.answer import Answer
from loadahead.reports.page.markup import Html


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Is markup, below a title of its own where it has one."""

    body: Html
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Is what stands below one heading; ``key`` is its address on the page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Is all that a page says of one run or of one sweep.

    Attributes:
        whose: what is before the address of each section, and begins the part's heading; empty on a page of one part.
        title: what it is of.
        facts: how it is split and on what, a line each.
        answer: what a reader came for, in words.
        plan: which boundaries leave, in a sentence; empty where that is not known.
        tiles: headline numbers.
        warnings: sentences.
        explorer: the section to explore it by.
    """

    whose: str
    title: str
    facts: tuple[str, ...]
    answer: Answer
    plan: str
    tiles: Html
    warnings: tuple[str, ...]
    explorer: Html
    sections: tuple[Section, ...]

    def has(self, key: str) -> bool:
        """Return whether there is a section of this address."""
        return any(one.key == key for one in self.sections)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Is a line of the table of contents: an address and its words; ``inner`` stands below a part's heading."""

    key: str
    title: str
    inner: bool = False


def section(key: str, title: str, *blocks: Block | Html) -> Section:
    """Return a section of the blocks that hold something."""
    made = (block if isinstance(block, Block) else Block(body=block) for block in blocks)
    return Section(key=key, title=title, blocks=tuple(block for block in made if block.body))


def there(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Return the sections that have a block."""
    return tuple(one for one in sections if one.blocks)
