from __future__ import annotations

import gc
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
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _compiled_before() -> None:
    """Compile all that is compiled before the first test: what commands print must not depend on whether they are the
    first to run since an edit, which say that they compile."""
    from loadahead.compiling import compile_first

    compile_first()
