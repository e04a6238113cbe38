"""A sweep's points: every combination of its axes over one scenario."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from loadahead import jobs
from loadahead.about import about
from loadahead.arguments import Estimate
from loadahead.compiling import compile_first, compile_tuning_first
from loadahead.progress import ProgressCallback, silent
from loadahead.reports.sweep_facts import CostsFacts, SweepFacts
from loadahead.scenarios.cautions import cautions, cautions_beside_model, cautions_of_costs, cautions_of_decisions
from loadahead.scenarios.loader import (
    Overrides,
    ScenarioFile,
    ScenarioSource,
    scenario_file,
    scenario_to_dict,
    split_key,
)
from loadahead.scenarios.prepare import Preparation
from loadahead.scenarios.variants import Variants
from loadahead.sim.choice import axes_text, varying_axes
from loadahead.sim.costs import ESTIMATE, Costs, is_estimate
from loadahead.sim.errors import InputError
from loadahead.sim.planner import AUTO
from loadahead.sim.step_metrics import DECISIONS, SweepRow
from loadahead.sim.sweep import Point, grid
from loadahead.sim.tuning import Limits
from loadahead.sim.units import counted, format_bytes
from loadahead.sweeps.axes import Axis, canonical, plain
from loadahead.version import __version__

if TYPE_CHECKING:
    from loadahead.scenarios.prepare import Prepared
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.planner import Policy

# The one inner axis of whose values a scenario may warn.
CAP = "active_microbatches"
_DEGREE = "parallel.pipeline_parallel_degree"
# A row takes about a kilobyte while the sweep runs.
MOST_POINTS = 1_000_000


def digest(content: Any) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(slots=True)
class Sweep:
    """One scenario to sweep. Its files, costs included, are read once: what is changed meanwhile has no effect.

    Attributes:
        source: the scenario, by name, path, dictionary or as such.
        overrides: new values by key.
        costs: costs that stand for the scenario's own, or the word "estimate", which becomes the scenario's.
        given: those costs; None where there are none.
        known: calibrated costs by :func:`calibration_key`, so that a module is calibrated once for each size of
            microbatch.
        keep: a function that is told of each calibration.
        device: the device on which modules are traced and calibrated.
        progress: a function that is told what is being done.
        warnings: the scenario's warnings in the order met, each once.
        both_decide: whether a horizon decides some points and tuning others: then keys of either have an effect.
    """

    source: ScenarioSource
    overrides: Overrides = field(default_factory=dict)
    costs: InitVar[Costs | Estimate | None] = None
    given: Costs | None = field(init=False)
    known: dict[str, Costs] = field(default_factory=dict)
    keep: Callable[[str, Costs], None] | None = None
    warnings: dict[str, None] = field(default_factory=dict)
    both_decide: bool = False
    device: str = "cpu"
    progress: ProgressCallback = silent
    file: ScenarioFile = field(init=False)
    _preparation: Preparation = field(default_factory=Preparation)
    _named_costs: dict[str, Costs] = field(default_factory=dict)

    def __post_init__(self, costs: Costs | Estimate | None) -> None:
        self.file = scenario_file(self.source)
        if not isinstance(self.overrides, Mapping):
            raise InputError(f"the overrides are of type {type(self.overrides).__name__}; give a dictionary")
        self.given = None if isinstance(costs, str) else costs
        if isinstance(costs, str):
            self.overrides = {**self.overrides, "costs": ESTIMATE}

    def prepared(self, more: Overrides | None = None) -> Prepared:
        """Return the scenario with further overrides, ready to be planned."""
        return self.prepare(lambda: self.file.scenario({**self.overrides, **(more or {})}))

    def prepare(self, load: Callable[[], Scenario]) -> Prepared:
        """Return a scenario of this sweep's file, ready to be planned; ``load`` returns it."""
        with jobs.named(self.source):
            return self._prepare(load())

    def try_out(self, load: Callable[[], Scenario]) -> Prepared | None:
        """Prepare a scenario of this sweep's file, but for a module, which is not traced for it: None.

        Raise InputError where the scenario is not allowed.
        """
        with jobs.named(self.source):
            scenario, _ = jobs.with_choice(load(), self.given)
            if not scenario.model.needs_shapes:
                return self._prepare(scenario)
            self.warn(self.said_of(scenario, cautions(scenario)))
        costs = self.given or self.costs_named(scenario)
        if costs is not None:
            self.warn(self._preparation.stated_links(costs, scenario, jobs.has_own_links(self.device))[1])
        return None

    def _prepare(self, scenario: Scenario) -> Prepared:
        costs = self.given or self.costs_named(scenario)
        prepared = jobs.prepare_scenario(scenario, costs, self.device, preparation=self._preparation)
        self.warn(self.said_of(scenario, prepared.warnings))
        return prepared

    def said_of(self, scenario: Scenario, sentences: Sequence[str]) -> list[str]:
        """Return those of a scenario's warnings that hold for all points of the sweep."""
        left_out = cautions_of_decisions(scenario) if self.both_decide else []
        return [sentence for sentence in sentences if sentence not in left_out]

    def over(self, keys: Sequence[str]) -> None:
        """Take the keys whose values are swept over."""
        self._preparation.swept = frozenset(keys)

    def warn(self, sentences: Sequence[str]) -> None:
        """Take warnings over that are new."""
        if sentences:
            self.warnings |= dict.fromkeys(sentences)

    def costs_named(self, scenario: Scenario) -> Costs | None:
        """Return the costs of the file that the scenario names; None where it names none."""
        path = None if scenario.is_estimated else scenario.costs
        if path is not None and path not in self._named_costs:
            found = jobs.named_costs(scenario)
            assert found is not None, "a file is named"
            self._named_costs[path] = found
        return None if path is None else self._named_costs[path]

    def know(self, prepared: Prepared, costs: Costs) -> None:
        """Keep these as the prepared scenario's calibrated costs."""
        key = calibration_key(prepared)
        self.known[key] = costs
        if self.keep is not None:
            self.keep(key, costs)

    def costs_of(self, prepared: Prepared) -> Costs:
        """Return the prepared scenario's costs; calibrate where it has none, once for all that measure alike.

        Each has the links that its scenario states.
        """
        if prepared.costs is not None:
            return prepared.costs
        key = calibration_key(prepared)
        if key not in self.known:
            self.know(prepared, jobs.costs_of(prepared, self.device, self.progress))
        self.warn(cautions_of_costs(prepared.scenario, self.known[key]))
        physical = jobs.has_own_links(self.device)
        costs, said = self._preparation.stated_links(self.known[key], prepared.scenario, physical)
        # Costs measured for this sweep are nobody's choice, which a link might stand in place of.
        self.warn(said if physical else ())
        return costs


def calibration_key(prepared: Prepared) -> str:
    """Return a key that is the same for scenarios whose calibration measures the same, over whichever links."""
    scenario = prepared.scenario
    tables = [scenario.model.model_dump(mode="json"), scenario.checkpoint.enabled]
    return digest([*tables, repr(prepared.workload), _fingerprint(scenario)])


@dataclass(slots=True)
class Grid:
    """The points of a sweep over its axes, numbered from 0, the first axis changing slowest.

    Axes that only the planner has to know about, but microbatches, which may change a module's shapes, are *inner*.
    The scenario is loaded once for each combination of the others, the *outer* ones.

    Attributes:
        inner: the values of the inner axes, by column.
        outer: the axes for whose values the scenario is loaded anew.
    """

    sweep: Sweep
    axes: tuple[Axis, ...]
    inner: dict[str, Sequence[Any]] = field(init=False)
    outer: list[Axis] = field(init=False)
    _variants: Variants = field(init=False)
    # What was prepared to try the axes' values out, by the places of these.
    _tried: dict[tuple[int, ...], Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self) > MOST_POINTS:
            raise InputError(f"the sweep has {len(self)} points; at most {MOST_POINTS} can be, give coarser axes")
        inner = [axis for axis in self.axes if axis.is_policy and axis.column != "microbatches"]
        self.inner = {axis.column: axis.values for axis in inner}
        self.outer = [axis for axis in self.axes if axis.column not in self.inner]
        self.sweep.over([axis.key for axis in self.axes])
        changing = [(axis.key, axis.settings) for axis in self.outer]
        # The file's own cap is none of those swept over, and what it warns of is not about this sweep.
        first_cap = {axis.key: axis.settings[0] for axis in inner if axis.column in (CAP, DECISIONS)}
        self.sweep.both_decide = any(axis.column == DECISIONS and len(axis.values) > 1 for axis in inner)
        self._variants = Variants(self.sweep.file, {**self.sweep.overrides, **first_cap}, changing)

    def __len__(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)

    def compile_first(self) -> None:
        """Compile what the points need, where it was not compiled before; see :mod:`loadahead.compiling`."""
        values = self.inner.get(DECISIONS)
        if values is None:
            with suppress(InputError):  # an axis may be what makes the scenario one that is allowed
                values = [self.sweep.file.scenario(self.sweep.overrides).offload.decisions]
        if AUTO in (values or ()):
            compile_tuning_first()
        else:
            compile_first()

    @property
    def _width(self) -> int:
        return math.prod(map(len, self.inner.values()))

    def points(self, finished: Container[int] = ()) -> Iterator[tuple[int, Point]]:
        """Yield number and point of all that are not finished; they are made as they are asked for."""
        width = self._width
        for group, places in enumerate(self._places()):
            numbers = range(group * width, (group + 1) * width)
            if all(number in finished for number in numbers):
                continue
            self._warn_of_caps(places)
            for number, point in zip(numbers, self._made(places, self.inner), strict=True):
                if number not in finished:
                    yield number, point

    def point(self, number: int) -> Point:
        """Return the point of that number."""
        group, place = divmod(number, self._width)
        return next(itertools.islice(self._made(self._places_of(group), self.inner), place, None))

    def beyond_budgets(self, rows: Sequence[SweepRow]) -> list[str]:
        """Return a warning where no plan of a tuned point kept its budget: its row is that of the nearest plan."""
        if not any(row.is_tuned for row in rows):
            return []
        tuned, beyond = 0, []
        for number, point in self.points():
            if point.policy.is_tuned:
                tuned += 1
                missing = Limits.of(point.policy.goal, point.costs).missing(rows[number]).total
                beyond += [(missing, rows[number])] if missing else []
        if not beyond:
            return []
        missing, row = min(beyond, key=lambda one: one[0])
        return [
            f"no plan that was found keeps the budget of {len(beyond)} of {counted(tuned, 'tuned point')}, and the row "
            f"of the nearest plan stands there; the least that is missing is {format_bytes(missing)} "
            f"({axes_text(row, varying_axes(rows))})"
        ]

    def without_offloading(self, wanted: Callable[[Mapping[str, Any]], bool]) -> Iterator[list[Point]]:
        """Yield the points that keep all on the device, one for each combination of the axes but the horizon.

        Only those whose axes are wanted, and that may offload: with activation checkpointing, and switched on.
        Those of one combination of the outer axes come together.
        """
        others = {column: values for column, values in self.inner.items() if column != "horizon"}
        for places in self._places():
            made = self._made(places, others)
            chosen = [point for point in made if _may_offload(point.policy) and wanted(point.axes)]
            yield [replace(point, policy=replace(point.policy, offload=False)) for point in chosen]

    def _made(self, places: Sequence[int], inner: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
        """Return the points of one combination of the outer axes, over these inner ones."""
        prepared = self._prepared(places)
        own, degree = self._own(places), prepared.scenario.parallel.tensor_parallel_degree
        costs = self.sweep.costs_of(prepared)
        return grid(prepared.workload, costs, prepared.policy, inner, own, degree, prepared.work)

    def _places_of(self, group: int) -> list[int]:
        """Return the places of the outer axes' values in a combination of that number."""
        places: list[int] = []
        for axis in reversed(self.outer):
            group, place = divmod(group, len(axis.values))
            places.insert(0, place)
        return places

    @property
    def model_axes(self) -> tuple[str, ...]:
        """Return the columns of axes beside those under ``model.`` that make the model another one."""
        grows = self._first().scenario.model.grows_with_stages
        return tuple(axis.column for axis in self.axes if grows and canonical(axis.key) == _DEGREE)

    def _own(self, places: Sequence[int]) -> dict[str, Any]:
        """Return the columns that the outer axes have of their own; the number of microbatches is the policy's."""
        at = zip(self.outer, places, strict=True)
        return {axis.column: axis.values[place] for axis, place in at if axis.column != "microbatches"}

    def with_own_columns(self, number: int, row: SweepRow) -> SweepRow:
        """Return the row of an equal point of another sweep as this sweep's table has it."""
        own = self._own(self._places_of(number // self._width))
        return replace(row, axes={column: value for column, value in row.axes.items() if column not in own} | own)

    def _warn_of_caps(self, places: Sequence[int]) -> None:
        """Take over what is warned of at each cap: it is an inner axis, for which no scenario is loaded."""
        for cap in self.inner.get(CAP, ()):
            scenario = self._variants.scenario(places)
            parallel = scenario.parallel.model_copy(update={CAP: cap})
            capped = scenario.model_copy(update={"parallel": parallel})
            self.sweep.warn(self.sweep.said_of(capped, cautions_beside_model(capped)))

    def calibrate(self, finished: Container[int] = ()) -> None:
        """Trace and calibrate modules now, while nothing else runs."""
        width = self._width
        for group, places in enumerate(self._places()):
            if group == 0 and not self._prepared(places).scenario.model.needs_shapes:
                return
            if not all(number in finished for number in range(group * width, (group + 1) * width)):
                self.sweep.costs_of(self._prepared(places))

    def before_calibration(self) -> list[str]:
        """Return what is to be warned of before a module is calibrated, which may take long because of it."""
        with jobs.named(self.sweep.source):
            first = self._variants.scenario([0] * len(self.outer))
        known = self.sweep.given is not None or first.costs is not None
        return [] if known or not first.model.needs_shapes else self.sweep.said_of(first, cautions(first))

    def warn_of_known_costs(self) -> None:
        """Take over what is warned of costs that are known already: a sweep that is finished asks for none again."""
        first = self._prepared([0] * len(self.outer)) if self.sweep.known else None
        if first is not None and calibration_key(first) in self.sweep.known:
            self.sweep.costs_of(first)

    def try_out(self) -> None:
        """Raise InputError where a value is not allowed: each is tried before the first point is simulated."""
        for number, axis in enumerate(self.outer):
            for place in range(len(axis.values)):
                places = [place if other == number else 0 for other in range(len(self.outer))]
                prepared = self.sweep.try_out(partial(self._variants.scenario, places))
                if prepared is not None:
                    self._tried[tuple(places)] = prepared
                self._warn_of_caps(places)
        self._warn_of_caps([0] * len(self.outer))

    def specification(self, engine: str) -> dict[str, Any]:
        """Return everything that the rows follow from, as plain data.

        What the axes set is there alone, so that sweeps that differ in the values of their axes differ in nothing else.
        """
        first = self._first()
        return {
            "loadahead": __version__,
            "scenario": self._tables(first.scenario),
            "axes": [[axis.key, plain(axis.settings)] for axis in self.axes],
            "engine": engine,
            "costs": self._costs_digests(),
            "model's shapes": self._shapes(),
            "model in memory": _fingerprint(first.scenario),
        }

    def facts(self, engine: str, advice: Sequence[str] = (), findings: Mapping[str, Any] | None = None) -> SweepFacts:
        """Return what the table of this sweep says of itself, once its rows are there.

        ``advice`` is in words, ``findings`` its numbers on the marked row.
        """
        first = self._first()
        return SweepFacts(
            loadahead=__version__,
            scenario=first.scenario.name,
            tables=self._tables(first.scenario),
            axes={axis.key: axis.values for axis in self.axes},
            engine=engine,
            costs=self._costs_facts(first),
            warnings=tuple(self.sweep.warnings),
            points=len(self),
            model_axes=self.model_axes,
            advice=tuple(advice),
            findings=None if findings is None else dict(findings),
            about=about(first, self.sweep.costs_of(first), swept=frozenset(canonical(axis.key) for axis in self.axes)),
        )

    def _costs_facts(self, first: Prepared) -> tuple[CostsFacts, ...]:
        known = [self.sweep.given] if self.sweep.given is not None else self._named_costs()
        if any(known):
            return tuple(facts_of(costs) for costs in known if costs is not None)
        if first.costs is not None:
            own = [first, *(self._over_axes() if is_estimate(first.costs.source) else ())]
            sources = dict.fromkeys(one.costs.source for one in own if one.costs is not None)
            return tuple(CostsFacts(microbatches=None, source=source, digest=None) for source in sources)
        return tuple(facts_of(costs, costs.evidence.get("microbatches")) for costs in self.sweep.known.values())

    def _first(self) -> Prepared:
        return self._prepared([0] * len(self.outer))

    def _tables(self, scenario: Scenario) -> dict[str, Any]:
        """Return the scenario as plain data, without the keys that are axes."""
        tables = scenario_to_dict(scenario)
        for axis in self.axes:
            *parents, last = split_key(canonical(axis.key))
            table: Any = tables
            for parent in parents:
                table = table.get(parent) if isinstance(table, dict) else None
            if isinstance(table, dict):
                table.pop(last, None)
        # A table that held nothing else says no more than one that is not there.
        return {name: table for name, table in tables.items() if table != {}}

    def _costs_digests(self) -> list[str | None]:
        """Return the digest of the costs given, or of those that the scenario names at each value of such an axis."""
        known = [self.sweep.given] if self.sweep.given is not None else self._named_costs()
        return [None if costs is None else facts_of(costs).digest for costs in known]

    def _named_costs(self) -> list[Costs | None]:
        return [self.sweep.costs_named(prepared.scenario) for prepared in self._along("costs")]

    def _shapes(self) -> dict[str, str] | None:
        """Return a digest of a module's shapes for each number of microbatches, from which they may follow.

        The shapes of other models follow from their tables.
        """
        prepared = self._along("parallel.microbatches")
        if not prepared[0].scenario.model.needs_shapes:
            return None
        return {str(one.policy.microbatches): digest(repr(one.workload)) for one in prepared}

    def _over_axes(self) -> Iterator[Prepared]:
        """Yield the scenarios at every value of each outer axis, the others at their first."""
        for axis in self.outer:
            yield from self._along(axis.key)

    def _along(self, key: str) -> list[Prepared]:
        """Return the scenarios at every value of an axis, or the first where it is none; others have their first."""
        at = next((number for number, axis in enumerate(self.outer) if axis.key == key), None)
        places = range(1 if at is None else len(self.outer[at].values))
        return [self._prepared([place if at == other else 0 for other in range(len(self.outer))]) for place in places]

    def _places(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*(range(len(axis.values)) for axis in self.outer))

    def _prepared(self, places: Sequence[int]) -> Prepared:
        return self._tried.get(tuple(places)) or self.sweep.prepare(lambda: self._variants.scenario(places))


def facts_of(costs: Costs, microbatches: int | None = None) -> CostsFacts:
    """Return what a sweep says of costs; ``microbatches`` are those that they were calibrated with."""
    return CostsFacts(microbatches=microbatches, source=costs.source, digest=digest(costs.model_dump(mode="json")))


def _may_offload(policy: Policy) -> bool:
    return policy.checkpoint and policy.offload


def _fingerprint(scenario: Scenario) -> str | None:
    """Return what tells models given in memory apart; None where none is."""
    objects = getattr(scenario.model, "objects", None)
    return None if objects is None else str(objects.fingerprint())


def point_name(axes: Mapping[str, Any]) -> str:
    """Return a point in words, for errors about it."""
    return ", ".join(f"{column} {value}" for column, value in axes.items())
