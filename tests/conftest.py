from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _compiled_before() -> None:
    """Compile all that is compiled before the first test: what commands print must not depend on whether they are the
    first to run since an edit, which say that they compile."""
    from loadahead.compiling import compile_first

    compile_first()
