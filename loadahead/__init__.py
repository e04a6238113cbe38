"""Plan, predict and run activation offloading for pipeline-parallel training.

``import loadahead as la`` gives the functions below; see docs/python.md for examples. Nothing heavy is imported before
it is needed: no torch, pandas, numpy, numba or matplotlib by the import alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.version import __version__

# Each public name and the module that it is imported from when it is first used.
_HOMES = {
    **dict.fromkeys(
        (
            "load",
            "plan",
            "verify",
            "simulate",
            "advise",
            "inspect",
            "sweep",
            "calibrate",
            "execute",
            "compare",
            "report",
            "export",
            "SweepTable",
        ),
        "loadahead.api",
    ),
    **dict.fromkeys(("LoadaheadError", "InputError", "CheckFailed", "Interrupted"), "loadahead.sim.errors"),
    "plot": "loadahead.notebook",
    "Progress": "loadahead.progress",
    "Scenario": "loadahead.scenarios.schema",
    "Plan": "loadahead.sim.ir.plan",
    "Order": "loadahead.sim.planner",
    "Decisions": "loadahead.sim.ir.decisions",
    "Costs": "loadahead.sim.costs",
    "Timeline": "loadahead.sim.timeline",
    "Run": "loadahead.runs",
    "Advice": "loadahead.sim.advice",
    "Inspection": "loadahead.inspection",
    "TrainingStep": "loadahead.training",
    "tune": "loadahead.tuning",
    "Tuned": "loadahead.tuning",
}

if TYPE_CHECKING:
    from loadahead.api import (
        SweepTable,
        advise,
        calibrate,
        compare,
        execute,
        export,
        inspect,
        load,
        plan,
        report,
        simulate,
        sweep,
        verify,
    )
    from loadahead.inspection import Inspection
    from loadahead.notebook import plot
    from loadahead.progress import Progress
    from loadahead.runs import Run
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs
    from loadahead.sim.errors import CheckFailed, InputError, Interrupted, LoadaheadError
    from loadahead.sim.ir.decisions import Decisions
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.planner import Order
    from loadahead.sim.timeline import Timeline
    from loadahead.training import TrainingStep
    from loadahead.tuning import Tuned, tune

__all__ = [
    "Advice",
    "CheckFailed",
    "Costs",
    "Decisions",
    "InputError",
    "Inspection",
    "Interrupted",
    "LoadaheadError",
    "Order",
    "Plan",
    "Progress",
    "Run",
    "Scenario",
    "SweepTable",
    "Timeline",
    "TrainingStep",
    "Tuned",
    "__version__",
    "advise",
    "calibrate",
    "compare",
    "execute",
    "export",
    "inspect",
    "load",
    "plan",
    "plot",
    "report",
    "simulate",
    "sweep",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loadahead' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
