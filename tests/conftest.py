from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the garbage collector pass over what is there before the first test: torch's modules, and thousands of tests.

    They stay to the end, and looking through them would take longer than many a test. What tests make is collected.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        _pass_over_modules()
        gc.enable()


# So many modules at once are a library that a test was the first to need: torch's compiler has a thousand.
_MANY = 200
_passed_over = 0


def _pass_over_modules() -> None:
    global _passed_over
    gc.collect()
    gc.freeze()
    _passed_over = len(sys.modules)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Let the garbage collector pass over what has been imported since as well."""
    if len(sys.modules) - _passed_over > _MANY:
        _pass_over_modules()


@pytest.fixture(autouse=True, scope="session")
def _compiled_before() -> None:
    """Compile all that is compiled before the first test: what commands print must not depend on whether they are the
    first to run since an edit, which say that they compile."""
    from loadahead.compiling import compile_first

    compile_first()
