"""Makes the page's headline numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from loadahead.reports.answer.subject import measured_on
from loadahead.reports.compare import Comparison, compare
from loadahead.reports.page.markup import Html, element
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import KEEP_ALL, MEASURED, PREDICTED
from loadahead.reports.speed import Speed, format_percent
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import Headline, headline
from loadahead.reports.tables import NOT_COMPARABLE, format_error
from loadahead.reports.training_check import DIFFERENCES
from loadahead.reports.tuning_facts import TuningFacts
from loadahead.reports.views.timelines import percent
from loadahead.sim.choice import (
    ALWAYS_NAMED,
    SPEED,
    SPEED_HEADER,
    WITHIN,
    Choice,
    axes_text,
    choices,
    format_speed,
    varying_axes,
)
from loadahead.sim.units import (
    counted,
    format_beyond,
    format_bytes,
    format_change,
    format_duration,
    format_number,
)

# More models than this get no tile.
MOST_MODELS = 6
_MOST_COLUMNS = 4


def _tile(title: str, value: str, *notes: str, small: bool = False) -> Html:
    spans = [element("span", title), element("b", value), *(element("span", note) for note in notes)]
    return element("div", *spans, class_="tile small" if small else "tile")


def _against(
    predicted: int | None, measured: int | None, show: Callable[[int], str], *, comparable: bool = True
) -> tuple[str, ...]:
    """Return the notes below a measured number."""
    if predicted is None or measured is None:
        return ()
    error = f"error {format_error(relative_error(predicted, measured))}" if comparable else NOT_COMPARABLE
    return (f"predicted {show(predicted)}", error)


def tiles(data: RunData) -> Html:
    """Return the run's headline numbers; where nothing was run or simulated alone, those of the sweep's best row."""
    predicted = None if data.predicted is None else headline(data.predicted, PREDICTED)
    measured = None if data.measured is None else headline(data.measured, MEASURED)
    compared = None if data.predicted is None or data.measured is None else compare(data.predicted, data.measured)
    boxes = [*_saves(data), *tuned_tiles(data.tuning), *_holds(compared)]
    boxes += _step_tiles(data, predicted, measured, compared is None or compared.same_device)
    boxes += _speed_tiles(data, measured or predicted)
    boxes += _result_tiles(data)
    if predicted is None and measured is None and data.sweep:
        boxes = _sweep_tiles(data)
    boxes += [_tile("Times", "estimated", source) for source in data.estimates] if boxes else []
    return _rows(boxes) if boxes else Html()


def _rows(boxes: list[Html]) -> Html:
    """Return the tiles in rows of nearly the same number, so that none stands alone below four others."""
    columns = ceil(len(boxes) / ceil(len(boxes) / _MOST_COLUMNS))
    return element("div", *boxes, class_="tiles", style=f"--columns: {columns}")


def _saves(data: RunData) -> list[Html]:
    """Return what the plan, or a sweep's marked point, saves and costs against keeping all; nothing if it does so."""
    tuning = data.tuning
    if tuning is not None and tuning.of_boundaries and tuning.chosen.offloaded and tuning.keep_all.step_time_ns:
        # What the budget limits is what was to be saved.
        chosen, kept_all = tuning.chosen, tuning.keep_all
        slower = chosen.step_time_ns / kept_all.step_time_ns - 1
        return [_saved("Boundaries saved", chosen.peak_boundary_bytes, kept_all.peak_boundary_bytes, slower)]
    found, kept = data.found, data.keep_all
    own = None if found is None else found.own
    if data.predicted is not None and kept is not None:
        plan, without = headline(data.predicted, PREDICTED), headline(kept, KEEP_ALL)
        needs, all_of, times = plan.largest_device_bytes, without.largest_device_bytes, without.step_time_ns
        if needs is None or all_of is None or not times or (found is not None and own is None):
            return []
        return [_saved("Saved", needs, all_of, plan.step_time_ns / times - 1)]
    if found is None or own is None:
        return []
    title = "Saved" if data.predicted is not None or data.measured is not None else "Marked: saved"
    return [_saved(title, own.peak_device_bytes, found.keep_all.peak_device_bytes, own.slower)]


def _saved(title: str, needs: int, all_of: int, slower: float | None) -> Html:
    less = all_of - needs
    share = f"{format_percent(less / all_of)} of what keeping all needs" if less > 0 and all_of else ""
    amount = f"{_part(less, all_of)}" if less > 0 else "nothing" if less == 0 else f"{format_bytes(-less)} more"
    cost = "" if slower is None else f"step time {format_change(slower)}, predicted"
    notes = [note for note in (share, cost) if note]
    return _tile(f"{title} by offloading", amount, *notes)


def tuned_tiles(tuning: TuningFacts | None) -> list[Html]:
    """Return how far a tuned plan is from its bound, and how it stands beside the best horizon; nothing without one."""
    if tuning is None:
        return []
    bound, took = tuning.bound.step_time_ns, tuning.chosen.step_time_ns
    boxes = [] if tuning.fits else [_tile("Budget", "not met", "shown: the nearest plan")]
    # Under a budget that is not met the bound says nothing of the plan that is shown.
    if bound and tuning.fits:
        gap = "none" if took == bound else format_beyond(tuning.gap, 0.0)
        title = "Longer than the bound" if tuning.limit_ns is None else "Beside the bound on the step"
        boxes.append(_tile(title, gap, f"bound: {format_duration(bound)}", f"set by {tuning.bound.set_by}"))
    if tuning.horizon is not None:
        other = tuning.horizon
        longer = format_change(other.step_time_ns / took - 1) if took else format_duration(other.step_time_ns)
        boxes.append(
            _tile(
                f"Best of {counted(tuning.horizons, 'horizon')}",
                f"step {longer}",
                other.horizon_text,
                f"{format_duration(other.step_time_ns)}, {format_bytes(other.peak_device_bytes)}",
            )
        )
    elif tuning.horizons:
        limit_ns = tuning.limit_ns
        where = "under the same budget" if limit_ns is None else f"in a step of at most {format_duration(limit_ns)}"
        boxes.append(_tile(f"Best of {counted(tuning.horizons, 'horizon')}", "none fits", where))
    return boxes


def _part(less: int, whole: int) -> str:
    """Return a size out of another as ``3.78 of 20.04 MiB``, the unit once where both have the same."""
    part, of = format_bytes(less), format_bytes(whole)
    number, _, unit = part.partition(" ")
    return f"{number if unit == of.partition(' ')[2] else part} of {of}"


def _holds(compared: Comparison | None) -> list[Html]:
    """Return the errors of step time and peak; a time of another device has none."""
    if compared is None:
        return []
    step = format_error(compared.step_time_error) if compared.same_device else NOT_COMPARABLE
    peak = format_error(compared.peak_device_error)
    notes = [] if compared.peak_device_error is None else [f"peak {peak}"]
    if not compared.same_device:
        return [_tile("How the prediction held", f"peak {peak}", f"step: {step}, planned for another device")]
    return [_tile("How the prediction held", f"step {step}", *notes)]


def _step_tiles(data: RunData, predicted: Headline | None, measured: Headline | None, comparable: bool) -> list[Html]:
    """Return measured numbers with the prediction below; predicted ones where nothing was measured."""
    shown, on = measured or predicted, measured_on(data)
    if shown is None:
        return []
    word = "measured" if measured else "predicted"

    def below(
        value: Callable[[Headline], int | None], show: Callable[[int], str], comparable: bool = True
    ) -> tuple[str, ...]:
        if predicted is None or measured is None:
            return ()
        return _against(value(predicted), value(measured), show, comparable=comparable)

    notes = below(lambda side: side.step_time_ns, format_duration, comparable)
    where = "" if on is None else f" on {on.partition(' (')[0]}"
    boxes = [_tile(f"Step time, {word}{where}", format_duration(shown.step_time_ns), *notes)]
    if shown.largest_device_bytes is not None:
        notes = below(lambda side: side.largest_device_bytes, format_bytes)
        boxes.append(_tile(f"Peak device memory, {word}", format_bytes(shown.largest_device_bytes), *notes))
    if shown.stalls_ns is not None:
        # Waits for another rank and for what is sent there are the pipeline's own and no cost of offloading.
        waits = [
            f"waits for {look.cause}: {format_duration(shown.stalls_ns[stall])}"
            for stall, look in STALL_LOOKS.items()
            if look.of_copies
        ]
        hidden = "no copies" if shown.overlap is None else f"{percent(shown.overlap, 1)} hidden"
        boxes.append(_tile(f"Copies behind compute, {word}", hidden, *waits))
    return boxes


def _speed_tiles(data: RunData, shown: Headline | None) -> list[Html]:
    """Return how fast the step is in tokens and as MFU, as far as that is known."""
    step = data.measured or data.predicted
    if shown is None or step is None:
        return []
    speed = Speed.of_step(data.about, step, shown.step_time_ns)
    word = "measured" if step.is_measured else "predicted"
    boxes = []
    if speed.tokens_per_s is not None:
        each = speed.tokens_per_s_and_gpu
        notes = [] if each is None else [f"{format_number(each)} per GPU"]
        boxes.append(_tile(f"Tokens per second, {word}", format_number(speed.tokens_per_s), *notes))
    if speed.mfu is not None:
        told = speed.communication_share
        notes = [] if told is None else [f"collectives: {format_percent(told)} of the ranks' time"]
        boxes.append(_tile(f"Model FLOPs utilization, {word}", format_percent(speed.mfu), *notes))
    return boxes


def _result_tiles(data: RunData) -> list[Html]:
    """Return how training compares with plain training and what it did to the loss, in one small tile."""
    check, losses = data.check, data.losses
    loss = ""
    if losses:
        value = f"{losses[0]:.4g} → {losses[-1]:.4g}" if len(losses) > 1 else f"{losses[0]:.4g}"
        loss = f"loss {value} over {counted(len(losses), 'step')}"
    if check.max_grad_error is not None:
        value = "bit-identical" if check.max_grad_error == 0 else f"off by {check.max_grad_error:.2g}"
        notes = [*_against_plain_training(data), *([loss] if loss else [])]
        return [_tile("Gradients", value, *notes, small=True)]
    return [_tile("Training", loss, small=True)] if loss else []


def _against_plain_training(data: RunData) -> list[str]:
    """Return the notes below the gradients' number; earlier results tell nothing of losses and buffers."""
    check, notes = data.check, ["against the same model run without plan or offload"]
    if check.equal and DIFFERENCES in data.result:
        notes.append("losses and buffers too")
    elif not check.equal:
        within = f"within the {check.grad_error_allowed:.2g} of sums in another order"
        notes.append(within if check.holds else "more than it may be")
    return notes


def _sweep_tiles(data: RunData) -> list[Html]:
    """Return what the marked row saves and needs, and the shortest step.

    Of several models, which are not compared, each one's mark is shown.
    """
    chosen = choices(data.sweep, model_axes=data.model_axes)
    if len(chosen) > 1:
        return [_model_tile(choice) for choice in chosen[:MOST_MODELS]]
    (choice,) = chosen
    axes = varying_axes(data.sweep)
    if not choice.fits:
        return [_tile("Best of the sweep", "nothing fits", *_nearest(choice, axes))]
    quickest = min((row for row in data.sweep if row.fits), key=lambda row: (row.step_time_ns, row is not choice.row))
    of_all = "of what fits" if not all(row.fits for row in data.sweep) else "of all"
    row = choice.row
    host = "all GPUs of a host together" if row.host_bytes != row.peak_host_bytes else "in slots"
    return [
        *_saves(data),
        _tile(f"Marked: most per GPU, within {WITHIN}", format_speed(row), SPEED, axes_text(row, axes)),
        _tile("Shortest step, predicted", format_duration(quickest.step_time_ns), of_all, axes_text(quickest, axes)),
        _tile("Marked: peak device memory", format_bytes(row.peak_device_bytes), *_of(row.capacity_bytes)),
        _tile("Marked: host memory", format_bytes(row.host_bytes), host, *_of(row.host_capacity_bytes)),
    ]


def _nearest(choice: Choice, axes: Sequence[str]) -> list[str]:
    """Return which point lacks least, and how much."""
    lacks = {"device": choice.missing_device_bytes, "host": choice.missing_host_bytes}
    told = [f"{format_bytes(nbytes)} of {where} memory" for where, nbytes in lacks.items() if nbytes]
    return [f"nearest: {axes_text(choice.row, axes)}", f"it lacks {' and '.join(told)}"]


def _model_tile(choice: Choice) -> Html:
    row, name = choice.row, axes_text(choice.row, choice.model)
    if not choice.fits:
        return _tile(f"{name}: marked", "nothing fits", choice.sentence)
    needs = f"{format_bytes(row.peak_device_bytes)} of device memory"
    return _tile(f"{name}: marked", f"{format_speed(row)} {SPEED_HEADER}", axes_text(row, ALWAYS_NAMED), needs)


def _of(capacity: int | None) -> tuple[str, ...]:
    return () if capacity is None else (f"of {format_bytes(capacity)}",)
