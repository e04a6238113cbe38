"""docs/sagemaker.md has the tables of keys as the code has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadahead.scenarios.smp.documentation import key_tables
from loadahead.scenarios.smp.python_files import options_in
from tests.unit.scenarios.smp.examples import PYTHON

PAGE = Path(__file__).parents[4] / "docs" / "sagemaker.md"


@pytest.mark.parametrize("name", ["v1", "v2", "launch"])
def test_the_page_has_each_table(name: str) -> None:
    assert key_tables()[name] in PAGE.read_text(encoding="utf-8"), f"the table of {name} is another one in {PAGE.name}"


def test_the_page_has_the_documentation_s_example() -> None:
    block = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert options_in(block, "page") == options_in(PYTHON, "example")
