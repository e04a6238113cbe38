"""docs/answers.md: what the table of answers says, for people. Every sentence with a number is computed from it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.sim.advice.within import WITHIN
from loadahead.sim.units import counted, format_bytes, format_change, format_duration
from tests.answers.answer import HORIZON, Answer, Taken, tables
from tests.answers.splits import HOSTS, MICROBATCHES_A_STAGE
from tests.answers.table import Answers

GIB = 2**30
# The row that the page shows how to make: a model and a machine.
EXAMPLE = ("gpt3-13b", "p4d.24xlarge")
NOTHING = "–"
OVERVIEW_HEADS = ("model", *(f"[`{machine}`](#{machine.replace('.', '')})" for machine in MACHINES))
HEADS = (
    *("model", "GPUs", "tp x pp", "step", "peak"),
    *(f"h {HORIZON}: step", f"h {HORIZON}: peak", f"h {HORIZON}: saved", f"h {HORIZON}: host"),
    *("advised h", "advised: step", "advised: peak", "advised: saved", "advised: host"),
    "needs offloading",
)
# How much longer a step of an advised horizon may be.
LONGER = f"{100 * float(WITHIN):g} %"

_HOSTS = f"{', '.join(map(str, HOSTS[:-1]))} or {HOSTS[-1]}"
_INTRODUCTION = f"""\
<!-- Made by `make answers` from the catalogue; do not edit. -->

# Answers

What does offloading bring for this model on that machine? Here is every model of the
[catalogue](models.md) on every [machine](machines.md) of it.

**All figures are estimates, and none was measured.** Times follow by roofline from FLOPs and bytes and from what
GPUs of a kind reach ([transformers.md](transformers.md)), what GPUs tell each other from NCCL's own reckoning
([communication.md](communication.md)), copies from bandwidths and latencies; memory is what the plan holds, without
what an allocator wastes and without the CUDA context. The same numbers are in [answers.csv](answers.csv), in ns and
bytes.

How each row was chosen:

- **Settings**: activation checkpointing of each layer (full recomputation), one sequence of the catalogue's length in
  a microbatch, {MICROBATCHES_A_STAGE} microbatches a stage, 1F1B order, one replica, and otherwise
  the [defaults](scenarios.md).
- **GPUs**: the fewest that hold the model: 1, 2, 4 and so on of one host, then {_HOSTS} whole hosts. A plan
  fits where each GPU has room for its peak and each host for the slots of all its GPUs. Where a host's memory is not
  known, it limits nothing.
- **tp x pp**: tensor parallelism, inside a host and such that it divides attention's heads and key-value heads, times
  pipeline stages of a layer or more. Of the splits of so many GPUs with a plan that fits, it is the one whose quickest
  such plan takes the least time per microbatch; of equal ones, that with the smaller tp.
- **h {HORIZON}**: `activation_loading_horizon = {HORIZON}`. **Advised h**: the horizon with the least memory of those
  whose step is within {LONGER} of that without offloading and whose slots fit the host. Where neither that nor keeping
  all fits the GPU, it is the largest horizon that fits, marked `*`.

How to read a row: the first step and peak are those without offloading, and the other steps are relative to that one.
Peaks, in GiB, are of the GPU that needs most, and what is saved is saved of that. Host columns say what the slots of
all GPUs of the fullest host take together, in GiB. What is ~~struck out~~ does not fit. {NOTHING}: no horizon is
advised. **Needs offloading** says `yes` where no split of so many GPUs fits without, and `this split` where another
one does."""


def page_of(answers: Answers) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *_example(answers), "## In short", _in_short(answers), *_cautions(answers)]
    parts += ["## The fewest GPUs", _OVERVIEW, _overview(answers), *_held_by_none(answers)]
    for machine in dict.fromkeys(machine for _, machine in answers):
        parts += _of_machine(machine, answers)
    return "\n\n".join(parts) + "\n"


def _example(answers: Answers) -> list[str]:
    """How to make a row oneself, where the row is there."""
    answer = answers.get(EXAMPLE)
    if answer is None:
        return []
    model, machine = EXAMPLE
    of_table = {
        name: [f"{key} = {_toml(value)}" for key, value in table.items()]
        for name, table in tables(model, machine, answer.split).items()
    }
    text = "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in of_table.items())
    return [
        f"A row can be made, and looked at closely, as this one, `{model}` on `{machine}`:",
        f"<!-- file: row.toml -->\n```toml\n{text}\n```",
        "```console\n$ loadahead simulate row.toml\n"
        f"...\nPredicted (compiled): one step takes {format_duration(answer.four.step_time_ns)}, "
        f"{format_bytes(answer.four.peak_device_bytes)} of device memory.\n...\n```",
    ]


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _in_short(answers: Answers) -> str:
    """What the table says as a whole."""
    held = {pair: answer for pair, answer in answers.items() if answer is not None}
    needing = sum(not answer.another_keeps_all for answer in held.values())
    lines = [
        f"{len(held)} of {counted(len(answers), 'pair')} of a model and a machine fit on {HOSTS[-1]} hosts or fewer. "
        f"On so few GPUs, {needing} of them {'fits' if needing == 1 else 'fit'} only with offloading."
    ]
    quick = [(answer, answer.advised) for answer in held.values() if answer.advised is not None and answer.as_quick]
    if quick:
        saved = sorted(answer.saved_bytes(plan) for answer, plan in quick)
        lines.append(
            f"In {len(quick)} a horizon is advised whose step is longer by at most {LONGER}. It saves {_gib(saved[0])} "
            f"to {_gib(saved[-1])} GiB on the GPU that needs most, in the median {_gib(statistics.median(saved))} GiB."
        )
    four = {pair: answer.slower(answer.four) for pair, answer in held.items()}
    over = {pair: share for pair, share in four.items() if share > WITHIN}
    if over:
        model, machine = max(over, key=lambda pair: over[pair])
        lines.append(
            f"At horizon {HORIZON} the step is longer by more than {LONGER} in {len(over)}; the most is "
            f"{format_change(over[model, machine])}, `{model}` on `{machine}`."
        )
    return "\n".join(f"- {line}" for line in lines)


def _cautions(answers: Answers) -> list[str]:
    """What settings do not do, as the scenarios' warnings have it."""
    warnings = Counter(warning for answer in answers.values() if answer is not None for warning in answer.warnings)
    if not warnings:
        return []
    lines = [f"- {warning} ({counted(rows, 'row')})." for warning, rows in warnings.most_common()]
    return ["What the scenarios of the rows are warned of:", "\n".join(lines)]


_OVERVIEW = (
    "How many GPUs, and of how many hosts where there are several. `*`: no split of so many GPUs fits without "
    f"offloading. {NOTHING}: {HOSTS[-1]} hosts do not hold the model."
)


def _overview(answers: Answers) -> str:
    rows = [
        [f"`{model}`", *(_fewest(answers[model, machine]) for machine in MACHINES)]
        for model in dict.fromkeys(model for model, _ in answers)
    ]
    return _table(OVERVIEW_HEADS, rows)


def _fewest(answer: Answer | None) -> str:
    if answer is None:
        return NOTHING
    hosts = f" ({answer.split.hosts} hosts)" if answer.split.hosts > 1 else ""
    return f"{answer.split.gpus}{'' if answer.another_keeps_all else '*'}{hosts}"


def _held_by_none(answers: Answers) -> list[str]:
    models = dict.fromkeys(model for model, _ in answers)
    none = [model for model in models if not any(answers[model, machine] for machine in MACHINES)]
    if not none:
        return []
    return [f"No machine holds these on {HOSTS[-1]} hosts, with one replica: {_listed(none)}."]


def _of_machine(machine: str, answers: Answers) -> list[str]:
    """One machine's section: what it is, its rows, and the models that it does not hold."""
    row = MACHINES[machine]
    has = "not known" if row.host_memory is None else f"{row.host_memory / GIB:.0f} GiB"
    held = {model: answer for (model, where), answer in answers.items() if where == machine and answer is not None}
    missing = [model for (model, where), answer in answers.items() if where == machine and answer is None]
    memory = ACCELERATORS[row.preset].memory
    parts = [f"## `{machine}`", f"{row.gpus_per_host} x `{row.preset}` of {_gib(memory)} GiB; host memory: {has}."]
    parts += [_table(HEADS, [_row(model, answer) for model, answer in held.items()])] if held else []
    parts += [f"{HOSTS[-1]} hosts do not hold {_listed(missing)}."] if missing else []
    return parts


def _row(model: str, answer: Answer) -> list[str]:
    split, keep_all, four, advised = answer.split, answer.keep_all, answer.four, answer.advised
    needs = "this split" if answer.another_keeps_all else "yes"
    mark = "" if answer.as_quick else "*"
    return [
        f"`{model}`",
        f"{split.gpus}",
        f"{split.tensor} x {split.pipeline}",
        format_duration(keep_all.step_time_ns),
        _peak(answer, keep_all),
        *_beside(answer, four),
        *([NOTHING] * 5 if advised is None else [f"{advised.horizon}{mark}", *_beside(answer, advised)]),
        "no" if answer.keeps_all else needs,
    ]


def _beside(answer: Answer, plan: Taken) -> list[str]:
    """A plan's step, peak and host memory beside those without offloading."""
    return [
        format_change(answer.slower(plan)),
        _peak(answer, plan),
        _gib(answer.saved_bytes(plan)),
        _gib(plan.host_bytes) if answer.fits_host(plan) else f"~~{_gib(plan.host_bytes)}~~",
    ]


def _peak(answer: Answer, plan: Taken) -> str:
    peak = _gib(plan.peak_device_bytes)
    return peak if answer.fits_device(plan) else f"~~{peak}~~"


def _gib(nbytes: float) -> str:
    """GiB with two digits behind the point."""
    return f"{nbytes / GIB:.2f}"


def _listed(models: Sequence[str]) -> str:
    return ", ".join(f"`{model}`" for model in models)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|---" * len(heads) + "|"
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])
