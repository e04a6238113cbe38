from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _compiled_before(request: pytest.FixtureRequest) -> None:
    """What commands print must not depend on whether they are the first to run since an edit, which say that they
    compile."""
    if {"capsys", "capfd"} & set(request.fixturenames):
        from loadahead.compiling import compile_first

        compile_first()
