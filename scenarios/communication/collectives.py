"""Collectives take a time that follows from their bytes, their group and what the GPUs are connected by."""

from __future__ import annotations

from dataclasses import dataclass, fields

from loadahead.scenarios.communication.groups import Group, Groups
from loadahead.scenarios.communication.links import Links
from loadahead.scenarios.communication.tuning import all_to_all_ns, collective_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives(Groups):
    """Says how long collectives take, each of ``nbytes``: the whole tensor, before a scatter or after a gather.

    Attributes:
        links: what the GPUs are connected by.
    """

    links: Links

    @classmethod
    def of(cls, groups: Groups, links: Links) -> Collectives:
        """Return those of groups that are connected so."""
        return cls(links=links, **{each.name: getattr(groups, each.name) for each in fields(Groups)})

    def all_reduce(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has the sum of a tensor of so many bytes, in ns."""
        return collective_ns(self.links, group, "all_reduce", nbytes)

    def reduce_scatter(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has its part of the sum of a tensor of so many bytes, in ns."""
        return collective_ns(self.links, group, "reduce_scatter", nbytes)

    def all_gather(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has a tensor of so many bytes, of which it had a part, in ns."""
        return collective_ns(self.links, group, "all_gather", nbytes)

    def all_to_all(self, group: Group, nbytes: int) -> int:
        """Return how long it takes until each GPU has sent each other its part of so many bytes, in ns."""
        return all_to_all_ns(self.links, group, nbytes)
