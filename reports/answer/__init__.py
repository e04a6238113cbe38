"""Says the answer first: what a run or a sweep is of, which horizon to take, how well it held, and what to do next."""

from __future__ import annotations

from loadahead.reports.answer.of_runs import Answer, NextStep, Words, answer, answer_of, plain_words

__all__ = ["Answer", "NextStep", "Words", "answer", "answer_of", "plain_words"]
