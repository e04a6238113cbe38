"""Says in one line what the user's layers raise inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loadahead.executor.tensors.numbers import NEEDS_NUMBERS
from loadahead.sim.errors import InputError, InternalError, LoadaheadError, one_line

# These stay what they are; running out of device memory has its own answer.
PASSED_ON = (LoadaheadError, InternalError, torch.OutOfMemoryError)


class NeedsNumbers(InputError):
    """Raised for a model that has no numbers, where one that has some may be run."""


def model_error(error: BaseException, where: str) -> InputError:
    """Return the error that says what the user's layers raised, and ``where``."""
    text = one_line(error)
    kind, advice = InputError, ""
    if "does not have a deterministic implementation" in str(error):
        advice = "; run without the check of gradients"
    if isinstance(error, NEEDS_NUMBERS):
        kind = NeedsNumbers
        advice = "; it looks at numbers, and a model without weights has shapes alone: build it with its weights"
    return kind(f"the model fails {where}: {type(error).__name__}: {text}{advice}")


@contextmanager
def errors_without_numbers_in_one_line() -> Iterator[None]:
    """Raise what comes of a model that has no numbers as one line: torch has no rules for some operators."""
    try:
        yield
    except PASSED_ON:
        raise
    except Exception as error:
        if isinstance(error, NEEDS_NUMBERS):
            raise model_error(error, "without its weights") from error
        raise NeedsNumbers(
            f"the model cannot be traced without its weights: {type(error).__name__}: {one_line(error)}; build it with "
            "its weights"
        ) from error


@contextmanager
def model_errors_in_one_line(where: str) -> Iterator[None]:
    """Raise what the user's layers raise inside as an InputError in one line that says ``where``."""
    try:
        yield
    except PASSED_ON:
        raise
    except (Exception, SystemExit) as error:
        raise model_error(error, where) from error
