"""Makes docs/answers.csv and docs/answers.md anew: python -m tests.answers. It says how far it is."""

from __future__ import annotations

import itertools
import sys

import joblib

from loadahead.compiling import compile_first
from loadahead.scenarios.catalogue.machines import MACHINES
from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from tests.answers.answer import answer_of
from tests.answers.page import page_of
from tests.answers.table import PAGE, TABLE, Answers, written


def make() -> Answers:
    """Every pair's answer, in the catalogue's order, found by as many processes as there are cores."""
    pairs = list(itertools.product(TRANSFORMERS, MACHINES))
    compile_first()  # once, and not in every process
    found = joblib.Parallel(n_jobs=-1, return_as="generator")(joblib.delayed(answer_of)(*pair) for pair in pairs)
    answers = {}
    for number, (pair, answer) in enumerate(zip(pairs, found, strict=True), start=1):
        answers[pair] = answer
        model, machine = pair
        where = "does not fit" if answer is None else f"{answer.split.gpus} GPUs"
        print(f"{number}/{len(pairs)} {model} on {machine}: {where}", file=sys.stderr)
    return answers


if __name__ == "__main__":
    answers = make()
    TABLE.write_text(written(answers), encoding="utf-8")
    PAGE.write_text(page_of(answers), encoding="utf-8")
