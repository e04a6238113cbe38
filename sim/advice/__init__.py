"""What to set: the least memory that costs no time, what stands in the way of less, and what other settings change.

:func:`advise` searches the horizons of one scenario; :func:`loadahead.sim.advice.swept.advice_on_rows` looks at the
rows of a sweep alone.
"""

from loadahead.sim.advice.advise import advise
from loadahead.sim.advice.answer import Advice
from loadahead.sim.advice.findings import Alternative, Figures
from loadahead.sim.advice.swept import SweptAdvice, advice_on_rows

__all__ = ["Advice", "Alternative", "Figures", "SweptAdvice", "advice_on_rows", "advise"]
