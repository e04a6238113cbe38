"""The plan that decides: which boundaries leave and when, for the shortest step in so much memory.

:func:`tune` looks for the plan, :func:`frontier` for what each budget costs.
"""

from loadahead.sim.tuning.answer import Candidate, Frontier, FrontierPoint, Tuning
from loadahead.sim.tuning.bound import Bound
from loadahead.sim.tuning.frontier import frontier
from loadahead.sim.tuning.limits import Limits, Missing
from loadahead.sim.tuning.plain import tuning_to_dict
from loadahead.sim.tuning.reasons import Reasons, reasons_of
from loadahead.sim.tuning.tune import tune
from loadahead.sim.tuning.words import budget_text, explanation, sentence, sentences, shortage

__all__ = [
    "Bound",
    "Candidate",
    "Frontier",
    "FrontierPoint",
    "Limits",
    "Missing",
    "Reasons",
    "Tuning",
    "budget_text",
    "explanation",
    "frontier",
    "reasons_of",
    "sentence",
    "sentences",
    "shortage",
    "tune",
    "tuning_to_dict",
]
