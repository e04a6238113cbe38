"""Says what a page's part is of: title, how the work is split and on what, and warnings."""

from __future__ import annotations

from loadahead.reports.about import About
from loadahead.reports.answer.subject import gpus_of, measured_on, names_a_model, short_model, title
from loadahead.reports.run_data import RunData
from loadahead.sim.units import counted

# Degrees of parallelism, as people shorten them.
_DEGREES = {
    "tensor_parallel": "tensor parallel",
    "pipeline_parallel": "pipeline parallel",
    "data_parallel": "data parallel",
    "expert_parallel": "expert parallel",
}


def run_name(data: RunData) -> str | None:
    """Return the name of the scenario that a plan, a result or a timeline is of; None without any."""
    timelines = [timeline for timeline in (data.predicted, data.measured) if timeline is not None]
    candidates = [
        *(timeline.header.get("scenario") for timeline in timelines),
        data.plan and data.plan.name,
        data.result.get("scenario"),
        *(timeline.plan_name for timeline in timelines),
    ]
    return next((name for name in candidates if isinstance(name, str) and name), None)


def name_of(data: RunData) -> str:
    """Return the scenario's name; that of a run before that of a sweep."""
    return run_name(data) or (data.facts.scenario if data.facts is not None and data.facts.scenario else "sweep")


def title_of(data: RunData) -> str:
    """Return the model and the machine where they are known, else the scenario's name."""
    return title(data, name_of(data))


def facts_of(data: RunData) -> tuple[str, ...]:
    """Return what was looked at, in a line, and on what, in another where that is known."""
    sides = [word for word, side in (("predicted", data.predicted), ("measured", data.measured)) if side is not None]
    what = " and ".join(sides or ["predicted"]).capitalize()
    found = _of_plan(data)
    first = f"{what}: {', '.join(found)}." if found else f"{what}."
    if not title_of(data).startswith(name_of(data)):
        first = f"Scenario {name_of(data)}. {first}"
    return (first, *_of_module(data.about), *_of_hardware(data))


def _of_plan(data: RunData) -> list[str]:
    if data.plan is None:
        return []
    policy = data.plan.policy
    facts = [counted(data.plan.ranks, "rank")]
    if len(data.plan.stage_rank) > data.plan.ranks:
        facts.append(f"{len(data.plan.stage_rank)} stages")
    facts.append(f"{data.plan.microbatches} microbatch{'es' * (data.plan.microbatches != 1)}")
    if isinstance(policy.get("pipeline"), str):
        facts.append(f"pipeline {policy['pipeline']}")
    if policy.get("offload") and type(policy.get("horizon")) is int:
        facts.append(f"horizon {policy['horizon']} {policy.get('horizon_unit', '')}".strip())
    return facts


def _of_module(about: About) -> tuple[str, ...]:
    """Return what a module is made of, which is too long for a title."""
    if about.model is None or short_model(about.model) == about.model:
        return ()
    return (f"{about.model[:1].upper() if not names_a_model(about.model) else about.model[:1]}{about.model[1:]}.",)


def _of_hardware(data: RunData) -> tuple[str, ...]:
    """Return what was measured on and planned for: GPUs, degrees above 1 and the link; nothing where none is known."""
    about, on = data.about, measured_on(data)
    facts = []
    if on is not None:
        facts += [where] if (where := gpus_of(about)) else []
    else:
        facts += [] if about.gpus is None else [counted(about.gpus, "GPU")]
        facts += [] if about.device is None or about.machine is None else [about.device]
    degrees = {words: getattr(about, name) for name, words in _DEGREES.items()}
    facts += [f"{words} {degree}" for words, degree in degrees.items() if degree is not None and degree > 1]
    if about.zero_stage:
        facts.append(f"ZeRO stage {about.zero_stage}")
    if about.link is not None:
        facts.append(f"link {about.link}")
    if on is None:
        return (f"{'; '.join(facts)}.",) if facts else ()
    planned = f", planned for {'; '.join(facts)}" if facts else ""
    return (f"Measured on {on}{planned}.",)


def warnings_of(data: RunData) -> tuple[str, ...]:
    """Return the warnings of files, timelines, result and sweep, each once, and how training differed."""
    texts: list[str] = list(data.unread.values())
    headers = [timeline.header for timeline in (data.predicted, data.measured) if timeline is not None]
    for source in (*headers, data.result):
        listed = source.get("warnings", [])
        texts += [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    if data.facts is not None:
        texts += data.facts.warnings
    if data.check.differences is not None:
        texts.append(data.check.sentence)
    return tuple(dict.fromkeys(texts))
