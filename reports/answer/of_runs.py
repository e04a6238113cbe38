"""Says the answer first, in words: what was run, which horizon to take, how well it held, and what to do next.

Every sentence is said of the numbers of one run or sweep. They name settings and no commands: whoever shows them does
that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.reports.answer.held import held
from loadahead.reports.answer.of_sweeps import sweep_answer
from loadahead.reports.answer.subject import subject
from loadahead.reports.findings import Found, Taken
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import KEEP_ALL, PREDICTED
from loadahead.reports.speed import Speed
from loadahead.reports.summary import headline
from loadahead.sim.advice.within import slower_text
from loadahead.sim.choice import ALWAYS_NAMED, axes_text, choices, varying_axes
from loadahead.sim.step_metrics import DECISIONS, HOST_CAPACITY, OF_HORIZONS, TUNED, bytes_missing
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_bytes, format_change, format_duration

_TRIFLE = 0.01
_OF_HORIZONS = (*OF_HORIZONS, "activation_loading_horizon")
_HORIZON, _OFFLOADS = "horizon", "offload.offload_activations"
# What is said of a plan that has what is advised.
_HAS_IT = " has it."


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """Says what to do next: settings to take, by a sweep's columns or a scenario's names, and whether to measure."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    measure: bool = False


# Says a next step in the words of whoever shows the answer.
Words = Callable[[NextStep], str]


def plain_words(step: NextStep) -> str:
    """Return a next step as settings, without a command."""
    taken = ", ".join(f"{name} = {value}" for name, value in step.settings.items())
    if step.measure:
        return f"Next: run it{f' with {taken}' if taken else ''}, to measure what was predicted."
    return f"Next: take {taken}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Holds an answer in sentences, each of which can stand in a line of its own.

    Attributes:
        subject: what was looked at: model, GPUs, link; empty where nothing is known.
        headline: the one sentence that decides; empty where there is none, as of several models.
        more: what stands behind it: how well it held, whether it fits without offloading, what is beside it.
        upcoming: what to do next; empty where there is nothing to say.
    """

    subject: str = ""
    headline: str = ""
    more: tuple[str, ...] = ()
    upcoming: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return all of it in its order."""
        return tuple(line for line in (self.subject, self.headline, *self.more, self.upcoming) if line)


def answer_of(data: RunData, words: Words = plain_words) -> Answer:
    """Return the answer of a run or a sweep; ``words`` says what to do next."""
    found, step = data.found, data.measured or data.predicted
    of_step = _of_step(data) if step is not None else []
    of_sweep = sweep_answer(data) if data.sweep else []
    if data.tuning is not None:
        # What tuning says stands in the place of what would be said of horizons.
        of_horizons = list(data.tuning.sentences)
    else:
        of_horizons = _of_horizons(found, _whose(data)) if found is not None else _without_findings(data)
    if step is None and of_sweep:
        decides, of_sweep, of_horizons = _deciding_of_sweep(data, of_sweep, of_horizons)
    else:
        decides, of_horizons = _deciding(found, of_horizons)
        if not decides and of_step:
            decides, of_step = of_step[0], of_step[1:]
    upcoming = next_step(data)
    lines = [*held(data), *of_horizons, *of_step]
    lines = [*of_sweep, *lines] if step is None else [*lines, *of_sweep]
    return Answer(
        subject=subject(data),
        headline=decides or (lines.pop(0) if lines and not of_sweep else ""),
        more=tuple(line for line in lines if line),
        upcoming="" if upcoming is None else words(upcoming),
    )


def answer(data: RunData, words: Words = plain_words) -> tuple[str, ...]:
    """Return the sentences of :func:`answer_of`."""
    return answer_of(data, words).sentences


def _deciding_of_sweep(data: RunData, of_sweep: list[str], of_horizons: list[str]) -> tuple[str, list[str], list[str]]:
    """Return the sentence that decides a sweep, and what else is said of its points and of the marked one's horizons.

    Where the horizons say what is better than the marked point, that comes first, as it is what is to be done next.
    """
    chosen = choices(data.sweep, model_axes=data.model_axes)
    where = _marked(data)
    if len(chosen) == 1 and chosen[0].fits and data.found is not None and _better(data.found):
        decides, others = _deciding(data.found, of_horizons)
        if _OFFLOADS not in _better(data.found):
            # The last sentence is on the marked point itself.
            *others, own = others
            decides = f"{decides} {own}"
        if others:
            others = [f"{where}{others[0]}", *others[1:]]
        best = of_sweep[0]
        return f"{where}{decides}", [f"Of what was swept, {best[:1].lower()}{best[1:]}", *of_sweep[1:]], others
    if of_horizons:
        of_horizons = [f"{where}{of_horizons[0]}", *of_horizons[1:]]
    # Of several models none decides.
    return ("", of_sweep, of_horizons) if len(chosen) > 1 else (of_sweep[0], of_sweep[1:], of_horizons)


def _deciding(found: Found | None, lines: list[str]) -> tuple[str, list[str]]:
    """Return the sentence of a step's horizons that decides, and the others.

    That is the first one on a horizon. Where offloading is not needed and no horizon is advised, it is that, with what
    the plan's own costs where it is to be left.
    """
    if found is None or not lines:
        return (lines[0], lines[1:]) if lines else ("", lines)
    without = found.best is None and found.leading is None and found.fits(found.keep_all)
    decides = 1 if _room(found) and len(lines) > 1 and not without else 0
    first, others = lines[decides], [*lines[:decides], *lines[decides + 1 :]]
    if others and (others[-1].endswith(_HAS_IT) or _OFFLOADS in _better(found)):
        return f"{first} {others[-1]}", others[:-1]
    return first, others


def _marked(data: RunData) -> str:
    """Return at which of a sweep's points its horizons were looked at; empty where all are one point's."""
    (choice, *_) = choices(data.sweep, model_axes=data.model_axes)
    row = choice.row
    axes = [axis for axis in row.axes if axis != _HORIZON and len({str(other.axes[axis]) for other in data.sweep}) > 1]
    return f"For {axes_text(row, axes)}: " if axes else ""


def instead_of(now: int, before: int) -> str:
    """Return two sizes as ``16.3 instead of 25.1 GiB``, the unit once where both have the same."""
    small, large = format_bytes(now), format_bytes(before)
    if now == before:
        return f"{large} either way"
    number, _, unit = small.partition(" ")
    return f"{number if unit == large.partition(' ')[2] else small} instead of {large}"


def _of_step(data: RunData) -> list[str]:
    """Return the time of the step that was predicted, its speed, and whether it fits; nothing where none was."""
    step = data.predicted
    if step is None:
        return []
    short = headline(step, PREDICTED)
    said = "; ".join([step.source, *data.estimates])
    peak = short.largest_device_bytes
    needs = "" if peak is None else f", {format_bytes(peak)} of device memory"
    missing = 0 if peak is None else bytes_missing(peak, data.capacity_bytes)
    lacks = f", {format_bytes(missing)} more than there is" if missing else ""
    speed = Speed.of(data.about, short.step_time_ns).sentence
    lines = [f"Predicted ({said}): one step takes {format_duration(short.step_time_ns)}{needs}{lacks}."]
    return [*lines, speed[:1].upper() + speed[1:]] if speed else lines


def _whose(data: RunData) -> str:
    """Return whose horizon stands beside the others: the plan's, or that of the sweep's point that was looked at."""
    if data.predicted is not None or data.measured is not None:
        return "This plan"
    fits = data.sweep and choices(data.sweep, model_axes=data.model_axes)[0].fits
    return "The marked point" if fits else "The nearest point"


def _of_horizons(found: Found, who: str) -> list[str]:
    """Return which horizon to take, the answer first: whether offloading is needed at all, then what decides."""
    own = _own(found, who)
    lead = [_other(found)] if found.leading is not None else []
    other = [] if found.news is None or found.leading is not None else [_other(found)]
    return [line for line in (_room(found), *lead, *_best(found), *other, own) if line]


def _room(found: Found) -> str:
    """Return whether the step fits without offloading."""
    keep_all, capacity = found.keep_all, found.capacity_bytes
    if capacity is None:
        return ""
    needs, step = format_bytes(keep_all.peak_device_bytes), format_duration(keep_all.step_time_ns)
    if found.fits(keep_all):
        return f"It fits without offloading: {needs} of {format_bytes(capacity)}, a step of {step}."
    more = format_bytes(bytes_missing(keep_all.peak_device_bytes, capacity))
    return f"It does not fit without offloading: {needs}, {more} more than the GPU's {format_bytes(capacity)}."


def _best(found: Found) -> list[str]:
    """Return the horizon to take, and why no smaller one; where none is short enough, what is in the way."""
    best, fitting = found.best, found.fitting
    if best is None:
        lines = [found.why_none or found.sentence]
    else:
        lines = [f"Horizon {best.horizon} ({_setting(found)}): {_taken(found, best)}; {_why(found, best)}."]
    if found.fits(found.keep_all) or (best is not None and found.fits(best)):
        return [*lines, *_least(found)]
    if fitting is not None:
        return [f"Horizon {fitting.horizon}, the largest that fits: {_taken(found, fitting)}.", *lines]
    least = found.smallest or best or found.keep_all
    if found.fits_device(least):
        return ["No horizon fits both the GPU and the host.", *lines]
    more = format_bytes(bytes_missing(least.peak_device_bytes, found.capacity_bytes))
    needs = "keeping all" if least.horizon is None else f"horizon {least.horizon}, which needs least,"
    return [f"Nothing fits: {needs} needs {more} more than the GPU has.", *lines]


def _least(found: Found) -> list[str]:
    """Return what the horizon that needs least needs and costs, where none is advised and it saves anything."""
    least = found.smallest
    if found.best is not None or least is None or least.saved_bytes <= 0:
        return []
    if found.own is not None and found.own.horizon == least.horizon:
        return []
    return [f"Horizon {least.horizon}, which needs least: {_taken(found, least)}."]


def _setting(found: Found) -> str:
    least = f", min_bytes {format_bytes(found.min_bytes)}" if found.min_bytes else ""
    return f"{found.horizon_unit}, release window {found.release_window}{least}"


def _taken(found: Found, taken: Taken) -> str:
    """Return what a plan needs and costs against keeping all, and whether it fits where one of them does not."""
    needs = instead_of(taken.peak_device_bytes, found.keep_all.peak_device_bytes)
    if found.fits(taken):
        room = "" if found.fits(found.keep_all) else ", fits"
    else:
        room = ", does not fit the host" if found.fits_device(taken) else ", does not fit"
    return f"{needs}, step time {_slower(found, taken)}{room}"


def _why(found: Found, best: Taken) -> str:
    """Return why this horizon and no smaller one."""
    searched = found.searched
    of = "" if searched.complete else f" of the {searched.tried} of {searched.last} that were tried"
    smallest = f"the smallest{of} whose step is within {100 * found.within:g} % of keeping all"
    smaller = found.smaller
    if smaller is None:
        return "the smallest there is" if best.horizon == 1 else smallest
    if smaller.slower is not None and smaller.slower <= found.within:
        return f"{smallest} and whose slots fit the host"
    cost = f"step time {_slower(found, smaller)}"
    if smaller.waits_ns:
        return (
            f"{smallest}; horizon {smaller.horizon} would wait {format_duration(smaller.waits_ns)} for copies, {cost}"
        )
    return f"{smallest}; horizon {smaller.horizon}: {cost}"


def _slower(found: Found, taken: Taken) -> str:
    """Return how much longer a plan's step is than that of keeping all, in words."""
    return slower_text(taken.step_time_ns, found.keep_all.step_time_ns, found.within)


def _other(found: Found) -> str:
    """Return what another unit or release window changes."""
    other = found.news
    assert other is not None, "whoever asks has looked"
    parts = []
    if other.horizon_unit != found.horizon_unit:
        parts.append(f'horizon_unit = "{other.horizon_unit}"')
    if other.release_window != found.release_window:
        parts.append(f"release_window = {other.release_window}")
    return f"With {' and '.join(parts)} horizon {other.horizon}: {_taken(found, other)}."


def _own(found: Found, who: str) -> str:
    """Return what the plan's own horizon needs and costs."""
    own, decided = found.own, found.decided
    if own is None:
        return f"{who} does not offload."
    if decided is not None and own.horizon == decided.horizon:
        return f"{who}{_HAS_IT}"
    return f"{who} has horizon {own.horizon}: {_taken(found, own)}."


def _without_findings(data: RunData) -> list[str]:
    """Return what a plan saves for which no horizon decides, or nothing is known of other ones."""
    step, kept = data.predicted, data.keep_all
    if step is None:
        return []
    policy = {} if data.plan is None else data.plan.policy
    offloaded = policy.get("offloaded")
    if offloaded == 0:
        return ["This plan offloads nothing."]
    by_whom = "Tuning made its decisions. " if policy.get(DECISIONS) == TUNED else "Its decisions are given. "
    given = "" if data.plan is None or _HORIZON in policy else by_whom
    if kept is None:
        return [given.strip()] if given else []
    now, before = headline(step, PREDICTED), headline(kept, KEEP_ALL)
    if now.largest_device_bytes is None or before.largest_device_bytes is None or not before.step_time_ns:
        return []
    needs = instead_of(now.largest_device_bytes, before.largest_device_bytes)
    slower = format_change(now.step_time_ns / before.step_time_ns - 1)
    return [f"{given}Against keeping all: {needs}, step time {slower}."]


def next_step(data: RunData) -> NextStep | None:
    """Return what to do next: take what is better, or else measure it; None where there is nothing to say."""
    found = data.found
    if data.measured is None and data.predicted is None:
        return _next_of_sweep(data)
    better = None if found is None else _better(found)
    if better:
        return NextStep(settings=better)
    fits = _fits(data.predicted, data.capacity_bytes) if data.predicted is not None else True
    fits &= data.tuning is None or data.tuning.fits
    return NextStep(measure=True) if data.measured is None and fits and can_be_run(data) else None


def _next_of_sweep(data: RunData) -> NextStep | None:
    if not data.sweep:
        return None
    chosen = choices(data.sweep, model_axes=data.model_axes)
    if len(chosen) != 1 or not chosen[0].fits:
        return None
    row, axes = chosen[0].row, data.facts.axes if data.facts is not None else {}
    point = {axis: row.axes[axis] for axis in varying_axes(data.sweep)}
    # Axes of one value are told by their keys, without those that are named whether they vary or not.
    point |= {key: values[0] for key, values in axes.items() if len(values) == 1 and not key.endswith(ALWAYS_NAMED)}
    # What all its horizons say stands before the best of those that were swept.
    better = {} if data.found is None else _better(data.found)
    point = {key: value for key, value in point.items() if "." not in key or key.rpartition(".")[2] not in better}
    if row.is_tuned:
        # A horizon is nothing to what was tuned.
        point = {key: value for key, value in point.items() if key.rpartition(".")[2] not in _OF_HORIZONS}
    if _OFFLOADS in better:
        # What does not offload has no horizon.
        point.pop(_HORIZON, None)
    return NextStep(settings=point | better, measure=can_be_run(data))


def can_be_run(data: RunData) -> bool:
    """Return whether what was predicted can be run on tensors: where its model is a module, as far as is known."""
    tables = data.facts.tables if data.facts is not None else {}
    scenario = tables if data.plan is None else data.plan.policy.get("scenario")
    model = scenario.get("model") if isinstance(scenario, Mapping) else None
    return isinstance(model, Mapping) and model.get("kind") == "module"


def _fits(step: Timeline, capacity: int | None) -> bool:
    """Return whether a step has room on the device and on the host, as far as these are known."""
    host = step.header.get(HOST_CAPACITY)
    slots = step.metrics.host_bytes if "summary" in step.header else 0
    peak = headline(step, PREDICTED).largest_device_bytes or 0
    return not bytes_missing(peak, capacity) and not (type(host) is int and bytes_missing(slots, host))


def _is_as_good(found: Found, own: Taken, best: Taken) -> bool:
    """Return whether a plan needs no more than a trifle of memory beyond the best one, in a step that is short enough.

    A trifle is a percent of what keeping all needs, and so is the time that a step may be longer.
    """
    more = own.peak_device_bytes - best.peak_device_bytes
    if own.slower is None or best.slower is None:
        as_short = own.step_time_ns <= best.step_time_ns
    else:
        as_short = own.slower <= max(found.within, best.slower)
    return more <= _TRIFLE * found.keep_all.peak_device_bytes and as_short


def _better(found: Found) -> dict[str, Any]:
    """Return the settings of what decides, where the plan has others; empty where it has them."""
    other = found.leading
    if other is not None:
        if not found.news_leads and found.own is not None and _is_as_good(found, found.own, other):
            return {}
        return {
            **({"horizon_unit": other.horizon_unit} if other.horizon_unit != found.horizon_unit else {}),
            **({"release_window": other.release_window} if other.release_window != found.release_window else {}),
            _HORIZON: other.horizon,
        }
    best, own = found.best, found.own
    longer = own is not None and own.step_time_ns > found.keep_all.step_time_ns * (1 + found.within)
    if best is None and longer and found.fits(found.keep_all):
        return {_OFFLOADS: False}
    best = found.decided
    if best is None or (own is not None and _is_as_good(found, own, best)):
        return {}
    return {_HORIZON: best.horizon}
