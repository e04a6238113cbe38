"""Many scenarios that one file gives when a few of its keys change: a table is made once for all that agree on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from loadahead.scenarios.loader import Overrides, ScenarioFile, split_key
from loadahead.scenarios.schema import Scenario
from loadahead.sim.errors import InputError

# As many tables of one name are kept as an axis of a sweep may have values; each takes a kilobyte or two.
MOST_TABLES = 10_000


class Variants:
    """Gives the scenario for every combination of some keys' values; errors are those of loading it whole.

    Two scenarios that agree on the values of a table's keys share the table, which is one object in both.
    """

    def __init__(self, file: ScenarioFile, overrides: Overrides, axes: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Take the overrides that stay the same, and each changing key with its values."""
        self._file, self._overrides, self._axes = file, overrides, axes
        # The places of the axes that change each table.
        self._changed: dict[str, tuple[int, ...]] = {}
        for number, (key, _) in enumerate(axes):
            table = split_key(key)[0]
            self._changed[table] = (*self._changed.get(table, ()), number)
        # The first scenario that could be loaded, and its places: its tables stand in for those that do not matter.
        self._first: Scenario | None = None
        self._at: tuple[int, ...] = ()
        # Its other tables, by the name of one that is to be made.
        self._known: dict[str, Mapping[str, Any]] = {}
        self._changed_alone = lru_cache(maxsize=MOST_TABLES * max(len(self._changed), 1))(self._made)

    def scenario(self, places: Sequence[int]) -> Scenario:
        """Return the scenario with the value at this place of every key; raise InputError where it holds a mistake."""
        if self._first is None:
            self._first, self._at = self._file.scenario(self._all(places)), tuple(places)
        try:
            made = {
                name: self._changed_alone(name, tuple([places[number] for number in numbers]))
                for name, numbers in self._changed.items()
            }
        except InputError:
            self._file.scenario(self._all(places))  # loaded whole, it says which of several mistakes counts
            raise
        if len(made) == 1:
            return next(iter(made.values()))
        return self._first.model_copy(update={name: getattr(scenario, name) for name, scenario in made.items()})

    def _all(self, places: Sequence[int]) -> dict[str, Any]:
        """Return all overrides; an axis takes the place of an override of the same key."""
        chosen = {key: values[place] for (key, values), place in zip(self._axes, places, strict=True)}
        return {**self._overrides, **chosen}

    def _made(self, name: str, own: tuple[int, ...]) -> Scenario:
        """Return the scenario with another table of this name; the first scenario's others are known to be right."""
        assert self._first is not None
        places = list(self._at)
        for number, place in zip(self._changed[name], own, strict=True):
            places[number] = place
        if tuple(places) == self._at:
            return self._first
        if name not in self._known:
            others = self._first.model_fields_set - {name}
            self._known[name] = {other: getattr(self._first, other) for other in others}
        return self._file.scenario(self._all(places), self._known[name])
